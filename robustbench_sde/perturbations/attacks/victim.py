"""The model as an attacker sees it: keyed `attack` draws, every pass counted."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.models.base import innermost
from robustbench_sde.models.probabilities import log_mean
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.health import SATURATED, GradientHealth
from robustbench_sde.perturbations.attacks.looks import Aim, Look, rounding
from robustbench_sde.perturbations.attacks.losses import (
    Objective,
    cross_entropy,
    log_odds_against,
    part_of,
    weights_of_draws,
)
from robustbench_sde.perturbations.base import Batch
from robustbench_sde.sde.draws import Draws, Stream

#: Draw indices of one restart; restarts never share a draw.
_DRAWS_PER_RESTART = 2**32
#: Fresh draws that have to confirm what a look at fewer draws seemed to show.
CONFIRM_DRAWS = 32
#: Distance by which a point is moved, entry by entry, to find a gradient beside one that is not finite, and
#: to see whether the loss grows along a gradient.
_ASIDE = 1e-3
#: Margin to which the log-probabilities of a saturated image are scaled for other libraries.
_SCALED = 10.0


@dataclass
class _Asked:
    """What another library evaluated, and asks a gradient of."""

    #: (B, C, H, W)
    images: Tensor
    #: log of the mean probability (B, classes)
    log_probs: Tensor
    draws: Draws
    #: derivative of the library's loss with respect to `log_probs`, once it has arrived
    wanted: Tensor = field(init=False)


class Victim:
    """The model as an attack may use it: gradients and margins over draws of the `attack` stream only.

    Draws belong to a step: step `i` of a restart uses indices i * n onwards, whatever the batch, where n is
    `eot_draws` rounded up to an even number, so that no step has the mirror image of another's draw. At most
    `rows` images x draws are in one pass; more draws are computed in parts, with the same result.
    """

    def __init__(
        self,
        model: RandomClassifier,
        batch: Batch,
        *,
        seed: int,
        eot_draws: int,
        restart: int,
        rows: int = 256,
        aim: Aim | None = None,
    ) -> None:
        self._model, self._batch, self._most = model, batch, rows
        self._is_ours = innermost(model).built_in is not None
        self._seed, self._first = seed, restart * _DRAWS_PER_RESTART
        self.eot_draws = eot_draws if model.stochastic else 1
        self.forward_passes = torch.zeros(len(batch), dtype=torch.int64)
        self.backward_passes = torch.zeros(len(batch), dtype=torch.int64)
        #: counts of bad gradients, shared with all victims that `only` makes
        self.health = GradientHealth(len(batch), batch.images.device)
        self._rows = torch.arange(len(batch))
        self._places = self._rows.to(batch.images.device)
        self._aim = Aim.untargeted(batch.labels) if aim is None else aim
        self._standing = torch.zeros(len(batch), dtype=torch.bool, device=batch.images.device)

    def only(self, rows: Tensor) -> "Victim":
        """Make a victim of some of the images, the others having left the batch; it counts into this one.

        Args:
            rows: (n,) int64 positions in this victim's batch, without repeats. No draw depends on them.
        """
        rows = rows.cpu()
        part = copy.copy(self)
        part._batch, part._rows = self._batch.only(rows), self._rows[rows]
        here = rows.to(self.labels.device)
        part._aim, part._places = self._aim.only(here), self._places[here]
        return part

    def without_noise(self) -> "Victim | None":
        """Make a victim of the same images whose model has no noise; None if that cannot be switched off.

        Its passes count like any others. The health of its gradients does not: they are of another network.
        """
        silent = self._model.without_noise() if self._model.stochastic else None
        if silent is None or silent.stochastic:
            return None
        part = copy.copy(self)
        part._model, part._is_ours, part.eot_draws = silent, innermost(silent).built_in is not None, 1
        part.health = GradientHealth(len(self.forward_passes), self.labels.device)
        return part

    @property
    def stochastic(self) -> bool:
        """Whether draws differ."""
        return self._model.stochastic

    @property
    def can_stand(self) -> bool:
        """Whether slopes may say that an image will stand: only those of our networks, which are smooth."""
        return self._is_ours

    def leave_standing(self, standing: Tensor) -> None:
        """Note which images of this batch, (B,) bool, will stand whatever else is tried."""
        self._standing[self._places] |= standing

    @property
    def standing(self) -> Tensor:
        """Whether the images of this batch were left standing, by it or a part of it: (B,) bool."""
        return self._standing[self._places]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self._model.classes

    @property
    def labels(self) -> Tensor:
        """(B,) true classes."""
        return self._batch.labels

    @property
    def ids(self) -> Tensor:
        """(B,) image ids on the CPU."""
        return self._batch.ids

    def look(self, images: Tensor, step: int, *, draws: int | None = None) -> Look:
        """Return the margins of all images over the draws of `step`, without a gradient.

        Args:
            images: (B, C, H, W) in [0, 1].
            step: decides the draws.
            draws: number of draws, counted from the first draw of the step; None is `eot_draws`.
        """
        return self._look(self._without_graph(images, self._draws(step, draws or self.eot_draws)))

    def confirmed(
        self, images: Tensor, look: Look, step: int, judge: Callable[[Look], Tensor], draws: int
    ) -> Tensor:
        """Apply `judge` to `look` and, where it is true, again to fresh draws: (B,) bool.

        Args:
            images: (B, C, H, W) that were looked at.
            look: what was seen.
            step: decides the fresh draws; they take the steps up to `step + self.steps_of(draws)`.
            judge: a look to (B,) bool.
            draws: how many, for the images that `look` speaks for; none where all draws are the same. A
                quarter of them comes first, and only who passes there is looked at with all of them.
        """
        yes = judge(look)
        if not self.stochastic:
            return yes
        whole = self._draws(step, draws)
        first, *others = whole.chunks(-(-draws // 4))
        rest = replace(whole, indices=whole.indices[len(first) :])
        rows = yes.nonzero()[:, 0]
        if not len(rows):
            return yes
        yes, part = yes.clone(), self.only(rows)
        seen = part._without_graph(images[rows], first)
        still = judge(part._look(seen))
        yes[rows] = still
        if others and len(left := still.nonzero()[:, 0]):
            more = part.only(left)._without_graph(images[rows[left]], rest)
            yes[rows[left]] = judge(part.only(left)._look(torch.cat((seen[:, left], more))))
        return yes

    def steps_of(self, draws: int) -> int:
        """Count the steps that would use `draws` draws in their gradients."""
        return -(-draws // self._stride)

    def log_probs(self, images: Tensor, step: int, *, draws: int | None = None) -> Tensor:
        """Return the log of the mean probability over the draws of `step`, (B, classes), for other libraries.

        The result is differentiable if `images` require a gradient; backward passes are counted when a
        gradient arrives. If the cross-entropy of an image has saturated (`SATURATED`), its values are
        scaled down: its decision stays the same, and softmax has a gradient. The first gradient of each image
        of somebody else's module is compared with the module itself, as in `gradient`.

        Raises:
            BenchError: `images` require a gradient, and the graph of the result does not begin at them.
        """
        draws = draws or self.eot_draws
        if not images.requires_grad:  # the weights of a module may
            return log_mean(self._without_graph(images, self._draws(step, draws)))
        images = images.view_as(images)  # a tensor of our own, whose gradient can be looked at
        keyed = self._draws(step, draws)
        log_probs = log_mean(self._log_probs(images, keyed))
        if not self._is_ours and not _begins_at(log_probs, images):
            raise self._no_gradient()
        asked = _Asked(images.detach(), log_probs.detach(), keyed)
        margin = self._aim.margin_and_error(asked.log_probs[None])[0]
        log_probs.register_hook(partial(self._count_backward, asked))
        images.register_hook(partial(self._healthy, asked, margin))
        scale = torch.where(margin > SATURATED, _SCALED / margin, 1.0)
        return log_probs * scale[:, None]

    def _count_backward(self, asked: "_Asked", gradient: Tensor) -> None:
        """Count a backward pass when a gradient arrives at the log-probabilities, and keep that gradient."""
        self.backward_passes[self._rows] += len(asked.draws)
        asked.wanted = gradient

    def gradient(
        self, images: Tensor, step: int, objective: Objective = cross_entropy, *, draws: int | None = None
    ) -> tuple[Look, Tensor]:
        """Return the margins and the gradient (B, C, H, W) over the draws of `step`; `draws` as in `look`.

        The gradient is finite: what is not is 0. A module of somebody else has it taken again a little aside
        (`_ASIDE`) on the same draws first; finding out where makes the host wait for the device, which our
        own networks, whose operations have finite derivatives, do without. The first gradient of each of
        its images is compared with the module itself (`_compare`). `health` counts what was found.
        """
        draws = draws or self.eot_draws
        look, gradient = self._gradient(images, step, objective, draws)
        saturates = objective is cross_entropy
        peak = self.health.count(self._places, gradient, look.margin, can_saturate=saturates)

        def again(broken: Tensor, x: Tensor) -> Tensor:
            part = part_of(objective, look.log_probs, self._aim.classes, broken)
            return self.only(broken)._gradient(x, step, part, draws)[1]

        gradient = self._mended(images, gradient, peak, again)
        if not self._is_ours and bool(self.health.unchecked(self._places).any()):
            self.health.check(
                self._places, self._compare(images, self._draws(step, draws), objective, look, gradient)
            )
        return look, gradient

    def _mended(
        self, images: Tensor, gradient: Tensor, peak: Tensor, again: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Replace what is not finite in a gradient, as `gradient` says.

        Args:
            images: (B, C, H, W) at which it was taken.
            gradient: (B, C, H, W).
            peak: (B,) largest absolute entry of each.
            again: function of positions (n,) and points (n, C, H, W) that takes the gradient of some images
                at other points.
        """
        if self._is_ours:
            return gradient.nan_to_num(0.0, 0.0, 0.0)
        broken = (~peak.isfinite()).nonzero()[:, 0]
        if len(broken):
            aside = images[broken] + _ASIDE * torch.where(images[broken] < 0.5, 1.0, -1.0)
            x = torch.where(gradient[broken].isfinite(), images[broken], aside)
            gradient = gradient.clone()
            gradient[broken] = again(broken, x).nan_to_num(0.0, 0.0, 0.0)
        return gradient

    def _compare(
        self, images: Tensor, draws: Draws, objective: Objective, look: Look, gradient: Tensor
    ) -> Tensor:
        """Whether a short step (`_ASIDE`) along the gradient lowers the loss on the same draws: (B,) bool.

        If the backward pass does not belong to the forward pass, the loss falls for many images; otherwise
        it falls for none. The passes of the comparison are not counted as the attack's.
        """
        log_probs = self._moved(images, gradient, draws)
        loss = log_odds_against if objective is cross_entropy else objective
        before, after = (loss(each, self._aim.classes) for each in (look.log_probs, log_probs))
        return self._aim.sign * (after - before) < -rounding(look.log_probs)

    def _compare_asked(self, asked: "_Asked", gradient: Tensor) -> Tensor:
        """Whether a short step along the gradient of another library lowers its loss: (B,) bool.

        The loss is unknown, but not its derivative with respect to the log-probabilities, and what those
        change by, weighted with it, is the change of the loss to first order.
        """
        log_probs = self._moved(asked.images, gradient, asked.draws)
        largest = asked.wanted.abs().amax(1, keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        change = ((log_probs - asked.log_probs) * (asked.wanted / largest)).sum(1)
        return change < -rounding(asked.log_probs)

    def _moved(self, images: Tensor, gradient: Tensor, draws: Draws) -> Tensor:
        """Log of the mean probability (B, classes) a step (`_ASIDE`) along the gradient; counts no pass."""
        moved = (images.detach() + _ASIDE * gradient.sign()).clamp(0, 1)
        with torch.no_grad():
            return log_mean(torch.cat([self._passed(moved, piece) for piece in self._pieces(draws)]))

    def _gradient(self, images: Tensor, step: int, objective: Objective, count: int) -> tuple[Look, Tensor]:
        """Return the margins and the gradient, which may have entries that are not finite.

        Draws that are computed in parts are passed twice: first without a graph, for the derivative of the
        loss of the mean with respect to the log-probabilities of each draw, and then part by part with a
        graph. Only the first pass is counted, because the number of parts depends on the memory and not on
        the attack.
        """
        together = max(1, self._most // count)
        if len(images) > together:
            return self._gradient_in_parts(images, step, objective, count, -(-len(images) // together))
        images = images.detach().requires_grad_()
        draws = self._draws(step, count)
        pieces = list(self._pieces(draws))
        whole = len(pieces) == 1
        log_probs = self._log_probs(images, draws) if whole else self._without_graph(images, draws)
        at_draws = log_probs.detach().requires_grad_()
        loss = (self._aim.sign * objective(log_mean(at_draws), self._aim.classes)).sum()
        (wanted,) = torch.autograd.grad(loss, at_draws)
        if whole:
            gradient = self._at_images(log_probs, images, wanted)
        else:
            parts = wanted.split([len(piece) for piece in pieces])
            gradient = torch.zeros_like(images)
            for piece, part in zip(pieces, parts, strict=True):
                gradient += self._at_images(self._passed(images, piece), images, part)
        self.backward_passes[self._rows] += len(draws)
        return self._look(log_probs.detach()), gradient

    def _gradient_in_parts(
        self, images: Tensor, step: int, objective: Objective, count: int, parts: int
    ) -> tuple[Look, Tensor]:
        """Compute `_gradient` for parts of the batch, of nearly equal size, one after the other."""
        unknown = torch.zeros(len(images), self.classes, device=images.device)
        found = []
        for rows in torch.arange(len(images), device=images.device).tensor_split(parts):
            part = part_of(objective, unknown, self._aim.classes, rows)
            found.append(self.only(rows)._gradient(images[rows], step, part, count))
        looks, gradients = zip(*found, strict=True)
        return Look.joined(looks), torch.cat(gradients)

    def gradients_of_draws(self, images: Tensor, step: int, draws: int) -> Tensor:
        """Compute the part of every draw of a step in the gradient of the cross-entropy: (draws, B, C, H, W).

        Their mean is parallel to the gradient of the log of the mean probability: a draw in which the class
        is improbable has little part in it. They are finite, and do not vanish where the losses of draws have
        saturated.
        """
        parts, seen = [], []
        for draw in self._draws(step, draws).chunks(1):
            log_probs, gradient = self._gradient_of_draw(images, draw)

            def again(broken: Tensor, x: Tensor, at: Draws = draw) -> Tensor:
                return self.only(broken)._gradient_of_draw(x, at)[1]

            parts.append(self._mended(images, gradient, gradient.flatten(1).abs().amax(1), again))
            seen.append(log_probs)
        return (
            torch.stack(parts) * weights_of_draws(torch.stack(seen), self._aim.classes)[..., None, None, None]
        )

    def _gradient_of_draw(self, images: Tensor, draw: Draws) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, classes) of one draw, and the gradient as it comes."""
        images = images.detach().requires_grad_()
        log_probs = self._log_probs(images, draw)[0]
        loss = self._aim.sign * cross_entropy(log_probs, self._aim.classes)
        gradient = self._at_images(loss, images, torch.ones_like(loss))
        self.backward_passes[self._rows] += 1
        return log_probs.detach(), gradient

    def _healthy(self, asked: "_Asked", margin: Tensor, gradient: Tensor) -> Tensor:
        """Count a gradient that another library has asked for, and make its entries finite."""
        self.health.count(self._places, gradient, margin, can_saturate=True)
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
        if not self._is_ours and bool(self.health.unchecked(self._places).any()):
            self.health.check(self._places, self._compare_asked(asked, gradient))
        return gradient

    def _at_images(self, output: Tensor, images: Tensor, wanted: Tensor) -> Tensor:
        """The gradient of (output * wanted).sum()."""
        gradient = None
        if output.requires_grad:
            (gradient,) = torch.autograd.grad(output, images, wanted, allow_unused=True)
        if gradient is None:
            raise self._no_gradient()
        return gradient

    def _no_gradient(self) -> BenchError:
        return BenchError(
            f"no gradient of {self._model.name} reaches the images (detach, no_grad, rounding): use "
            "attacks without gradients, for example square or noise"
        )

    def _look(self, log_probs: Tensor) -> Look:
        margin, error = self._aim.margin_and_error(log_probs)
        return Look(margin, error, log_mean(log_probs), self._aim.share_fooled(log_probs))

    @property
    def _stride(self) -> int:
        """Number of draws from the first of a step to the first of the next."""
        return self.eot_draws + self.eot_draws % 2

    def _draws(self, step: int, draws: int) -> Draws:
        first = self._first + step * self._stride
        return Draws(self._seed, Stream.ATTACK, range(first, first + (draws if self.stochastic else 1)))

    def _pieces(self, draws: Draws) -> Iterator[Draws]:
        return draws.chunks(max(1, self._most // max(1, len(self._batch))))

    def _without_graph(self, images: Tensor, draws: Draws) -> Tensor:
        with torch.no_grad():
            log_probs = torch.cat([self._log_probs(images, piece) for piece in self._pieces(draws)])
        self.health.see(self._places, log_probs.isfinite().all(2).all(0))
        return log_probs

    def _log_probs(self, images: Tensor, draws: Draws) -> Tensor:
        """Return log-probabilities (draws, B, classes) and count the passes."""
        self.forward_passes[self._rows] += len(draws)
        return self._passed(images, draws)

    def _passed(self, images: Tensor, draws: Draws) -> Tensor:
        return self._model.logits(images, self.ids, draws).log_softmax(-1)


def _begins_at(output: Tensor, images: Tensor) -> bool:
    """Whether the graph of `output` leads back to `images`, which have a node of their own in it."""
    waiting, seen = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            if node is images.grad_fn:
                return True
            seen.add(node)
            waiting += [found for found, _ in node.next_functions]
    return False
