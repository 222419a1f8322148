"""Networks made by a user's own Python code. Runs that code: only ever because somebody has named it."""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from robustbench_sde.errors import BenchError, a_or_an, one_line, unknown_name
from robustbench_sde.models.modules.code import code_behind
from robustbench_sde.models.modules.contained import contained
from robustbench_sde.models.modules.forked import forked
from robustbench_sde.models.modules.hub import hub_of, hub_version, make_hub
from robustbench_sde.models.weights import load_weights
from robustbench_sde.plugins import Plugins

#: Seeds of the generators while a module is made, so that one without weights is the same every time.
_SEEDS = (0, 0)
_OURS = __name__.partition(".")[0]


@dataclass(frozen=True)
class Factory:
    """``pkg.module:function`` or ``FILE.py:function``: what it returns, a module, is evaluated."""

    #: text of the factory as `of` has made it, with absolute paths
    text: str
    #: a file of weights for the module
    weights: Path | None = None

    @classmethod
    def of(cls, text: str, weights: Path | None = None) -> "Factory":
        """Read the words of a command line; the name of a plug-in stands for its function.

        Raises:
            BenchError: there is no such plug-in or file.
        """
        text = MODEL_PLUGINS.target(text) or text
        if hub_of(text):
            folder = text.removeprefix("hf:")
            text = text if folder == text else f"hf:{Path(folder).expanduser().resolve()}"
            return cls(text, None if weights is None else weights.resolve())
        place, colon, function = text.rpartition(":")
        if not (colon and place and function.isidentifier()):
            names = "".join(f", {name}" for name in MODEL_PLUGINS.names())
            raise BenchError(
                f"`module` is {text!r}; write pkg.module:function, FILE.py:function, timm:NAME, "
                f"torchvision:NAME, hf:FOLDER or a plug-in{names}"
            )
        if place.endswith(".py"):
            file = Path(place).expanduser().resolve()
            if not file.is_file():
                raise BenchError(f"`module`: {place} does not exist")
            text = f"{file}:{function}"
        return cls(text, None if weights is None else weights.resolve())

    @property
    def path(self) -> Path:
        """The weights, or else the name of the function: its stem is what tables call the module."""
        return self.weights or Path(self.text.rpartition(":")[2])

    @property
    def name(self) -> str:
        """Name of the module in tables."""
        return self.path.stem

    def make(self) -> tuple[nn.Module, str]:
        """Make the module with its weights, and a digest of all that is known to decide what it computes.

        It covers every tensor of the state dict; the text of the file and of all files of the user that it
        imports, however indirectly (`code_behind`); the versions of installed packages that these name. Files
        and variables of the environment that the code reads are not seen.

        Raises:
            BenchError: the code fails or returns no module, or the weights do not fit.
        """
        if hub_of(self.text):
            with contained(self.text), forked(_SEEDS):
                made: nn.Module = make_hub(self.text, self.weights)
            return made, _digest([Path(self.text).name, hub_version(self.text), *_tensors(made)])
        source, made = self._call()
        if self.weights is not None:
            load_weights(made, self.weights)
        name = "" if self.text.rpartition(":")[0].endswith(".py") else source.__name__
        parts = [self.text.rpartition(":")[2], *code_behind(source, name=name), *_tensors(made)]
        return made, _digest(parts)

    def _call(self) -> tuple[ModuleType, nn.Module]:
        place, _, function = self.text.rpartition(":")
        try:
            with contained(f"`module` {self.text}"), forked(_SEEDS):
                source = _from_file(Path(place)) if place.endswith(".py") else _imported(place)
            if function not in vars(source):
                known = [name for name, value in vars(source).items() if callable(value)]
                raise unknown_name(f"function in {Path(place).name}", function, known)
            made = getattr(source, function)
            with contained(f"`module` {self.text}"), forked(_SEEDS):
                made = made if isinstance(made, nn.Module) else made()
        except BenchError:
            raise
        except Exception as error:  # somebody else's code may raise anything
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise BenchError(
                f"`module` {self.text} fails: {one_line(error)} ({Path(at.filename).name}, line {at.lineno})"
            ) from error
        if not isinstance(made, nn.Module):
            raise BenchError(
                f"`module` {self.text} returns {a_or_an(type(made).__name__)}; it must return an nn.Module"
            )
        return source, made


@dataclass(frozen=True)
class Origin:
    """Facts from which a classifier around the module of a factory can be made again."""

    factory: Factory
    #: hash of the code and the weights (`Factory.make`)
    digest: str
    #: remarks for the user whose module it is
    notes: tuple[str, ...]
    #: False if the noise of the module was switched off
    noise: bool


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)


def _from_file(path: Path) -> ModuleType:
    """Import the file as a module; it can import modules beside it, now and later."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = f"_{_OURS}_model_{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise BenchError(f"`module`: {path} is not a Python file")
        sys.modules[name] = importlib.util.module_from_spec(spec)  # as an import does: before it runs
        try:
            spec.loader.exec_module(sys.modules[name])
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _digest(parts: Iterable[str | bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:".encode())
        digest.update(part if isinstance(part, bytes) else part.encode())
    return f"sha256:{digest.hexdigest()}"


def _tensors(module: nn.Module) -> Iterator[str | bytes]:
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            plain = tensor.detach().cpu().contiguous()
            yield f"{name} {plain.dtype} {tuple(plain.shape)}"
            yield plain.flatten().view(torch.uint8).numpy().tobytes()


def _from_plugin(name: str, factory: object) -> Callable[[], nn.Module]:
    if not callable(factory):
        raise BenchError(f"it is a {type(factory).__name__}; it must be a function that returns an nn.Module")
    return factory


MODEL_PLUGINS = Plugins("models", _from_plugin)
