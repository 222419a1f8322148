"""Run passes of somebody's module, and check of each what its examination cannot have seen beforehand."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError, InvalidEvaluationError, counted
from robustbench_sde.models.modules.contained import contained
from robustbench_sde.models.modules.forked import draws_numbers, torch_states
from robustbench_sde.models.modules.outputs import no_tensor

#: Difference of a logit alone and in a batch, relative to the largest, above which a pass is invalid: in
#: single precision, and where products have eight bits.
_EXACT, _COARSE = 1e-3, 5e-2
#: First words of what is said of a module that remembers.
REMEMBERS = "the model remembers earlier calls"


class Passes:
    """Passes of a module that is deterministic, or is handed its noise.

    In the first pass of every size, with and without a gradient, two rows are run alone as well, so that no
    size of a batch is used that nobody has looked at.
    """

    def __init__(self, name: str, *, alone: bool, exact: bool) -> None:
        """Make the passes of one module.

        Args:
            name: name of the module, in messages.
            alone: whether every row gets a pass of its own.
            exact: whether its arithmetic is single precision.
        """
        self._name, self._alone = name, alone
        self._largest = _EXACT if exact else _COARSE
        self._seen: set[tuple[bool, int]] = set()
        #: whether it draws numbers after seeding generators itself; None: it has not drawn any
        self._seeds_itself: bool | None = None

    def __call__(self, function: Callable[..., object], *inputs: Tensor) -> Tensor:
        """Return logits (rows, classes) of inputs (rows, ...).

        Raises:
            BenchError: the module returns something else.
            InvalidEvaluationError: a row has other logits alone, or the module draws random numbers.
        """
        rows = len(inputs[0])
        if self._alone and rows > 1:
            parts = [[part[row : row + 1].clone() for part in inputs] for row in range(rows)]
            return torch.cat([self._pass(function, *part) for part in parts])
        size = torch.is_grad_enabled(), rows
        checked = _checked(rows) if rows > 1 and size not in self._seen else ()
        with torch.no_grad():  # before the pass: a module may write into its input
            alone = {
                row: self._pass(function, *(part[row : row + 1].clone() for part in inputs))[0]
                for row in checked
            }
        logits = self._pass(function, *inputs)
        for row, own in alone.items():
            by = _difference(own, logits.detach(), row)
            if by > self._largest:
                with torch.no_grad():
                    again = self._pass(function, *(part[row : row + 1].detach().clone() for part in inputs))
                raise self._error(rows, row, by, remembers=_difference(own, again, 0) > self._largest)
        self._seen.add(size)  # a size that fails is looked at again, by every cell
        return logits

    def _error(self, rows: int, row: int, by: float, *, remembers: bool) -> InvalidEvaluationError:
        if remembers:
            return InvalidEvaluationError(
                f"{REMEMBERS}: {self._name} gives an image other logits than just before (by {by:.0%}); a "
                "module must not change what its next call computes"
            )
        return InvalidEvaluationError(
            f"{self._name}: in a batch of {rows} the logits of image {row + 1} are not those that it has "
            f"alone (by {by:.0%}), which the batches of its examination did not show; every image must be "
            "classified by itself"
        )

    def _pass(self, function: Callable[..., object], *inputs: Tensor) -> Tensor:
        device, rows = inputs[0].device, len(inputs[0])
        before = torch_states(device)
        logits = logits_of(self._call(function, *inputs))
        check_rows(self._name, logits, rows)
        if not self._seeds_itself and torch_states(device) != before:
            copies = [part.detach().clone() for part in inputs]
            self._seeds_itself = not draws_numbers(lambda: self._call(function, *copies), device)
            if not self._seeds_itself:
                raise InvalidEvaluationError(
                    f"{self._name} draws random numbers, which it did not do on the images that it was "
                    "examined on; none of its numbers can be made again"
                )
        return logits

    def _call(self, function: Callable[..., object], *inputs: Tensor) -> object:
        with contained(self._name):
            return function(*inputs)


def _checked(rows: int) -> set[int]:
    """Return the rows of a batch that are run alone: the last one, and one in between."""
    return {rows - 1, 2654435761 * rows // 2**8 % rows}


def _difference(alone: Tensor, logits: Tensor, row: int) -> float:
    """Return by how much a row (classes,) differs from its place in (rows, classes), relative to the largest.

    Classes in which either is not finite are left out: that is somebody else's to say.
    """
    finite = alone.isfinite() & logits[row].isfinite()
    if not finite.any():
        return 0.0
    largest = logits[:, finite].nan_to_num(0, 0, 0).abs().max().clamp_min(1e-12)
    return float((alone - logits[row])[finite].abs().max() / largest)


def logits_of(output: object) -> Tensor:
    """Return a module's output as float32 logits; an output of Hugging Face has the field `logits`."""
    found = getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        raise BenchError(no_tensor(found))
    return found.float()


def check_rows(name: str, logits: Tensor, rows: int) -> None:
    """Raise BenchError unless the logits of a module called `name` are (rows, any number of classes)."""
    if logits.ndim != 2 or len(logits) != rows:
        raise BenchError(
            f"{name} returns {tuple(logits.shape)} for {counted(rows, 'image')}; it must return one row of "
            "logits for each"
        )
