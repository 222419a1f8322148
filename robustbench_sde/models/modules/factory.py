"""Networks made by a user's own Python code. Runs that code: only ever because somebody has named it."""

import ast
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.models.modules.forked import forked
from robustbench_sde.models.weights import load_weights
from robustbench_sde.plugins import Plugins

#: Seeds of the generators while a module is made, so that one without weights is the same every time.
_SEEDS = (0, 0)
_OURS = __name__.partition(".")[0]


@dataclass(frozen=True)
class Factory:
    """``pkg.module:function`` or ``FILE.py:function``: what it returns, a module, is evaluated."""

    #: as `of` has made it: paths are absolute
    text: str
    #: a file of weights for the module
    weights: Path | None = None

    @classmethod
    def of(cls, text: str, weights: Path | None = None) -> "Factory":
        """From the words of a command line, where a plug-in's name stands for its function.

        Raises:
            BenchError: there is no such plug-in or file.
        """
        text = MODEL_PLUGINS.target(text) or text
        place, colon, function = text.rpartition(":")
        if not (colon and place and function.isidentifier()):
            names = "".join(f", {name}" for name in MODEL_PLUGINS.names())
            raise BenchError(
                f"`module` is {text!r}; write pkg.module:function, FILE.py:function or a plug-in{names}"
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
        """What tables call the module."""
        return self.path.stem

    def make(self) -> tuple[nn.Module, str]:
        """The module with its weights, and a digest of all that is known to decide what it computes.

        That is: every tensor of its state dict; the text of the file and of all files that it imports,
        however indirectly, outside of installed packages; the versions of these. What code reads at run time,
        files or variables of the environment, is not seen.

        Raises:
            BenchError: the code fails or returns no module, or the weights do not fit.
        """
        source, made = self._call()
        if self.weights is not None:
            load_weights(made, self.weights)
        digest = hashlib.sha256()
        for part in (self.text.rpartition(":")[2], *_code(source), *_tensors(made)):
            digest.update(f"{len(part)}:".encode())
            digest.update(part if isinstance(part, bytes) else part.encode())
        return made, f"sha256:{digest.hexdigest()}"

    def _call(self) -> tuple[ModuleType, nn.Module]:
        place, _, function = self.text.rpartition(":")
        try:
            with forked(_SEEDS):
                source = _from_file(Path(place)) if place.endswith(".py") else _imported(place)
            if function not in vars(source):
                known = [name for name, value in vars(source).items() if callable(value)]
                raise unknown_name(f"function in {Path(place).name}", function, known)
            made = getattr(source, function)
            with forked(_SEEDS):
                made = made if isinstance(made, nn.Module) else made()
        except BenchError:
            raise
        except (Exception, SystemExit) as error:  # somebody else's code may raise anything
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise BenchError(
                f"`module` {self.text} fails: {type(error).__name__}: {' '.join(str(error).split())[:300]} "
                f"({Path(at.filename).name}, line {at.lineno})"
            ) from error
        if not isinstance(made, nn.Module):
            raise BenchError(
                f"`module` {self.text} returns a {type(made).__name__}; it must return an nn.Module"
            )
        return source, made


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)


def _from_file(path: Path) -> ModuleType:
    """The file as a module; modules beside it can be imported from it, then and later."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = f"_{_OURS}_model_{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise BenchError(f"`module`: {path} is no Python file")
        sys.modules[name] = importlib.util.module_from_spec(spec)  # as an import does: before it runs
        try:
            spec.loader.exec_module(sys.modules[name])
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _tensors(module: nn.Module) -> Iterator[str | bytes]:
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            plain = tensor.detach().cpu().contiguous()
            yield f"{name} {plain.dtype} {tuple(plain.shape)}"
            yield plain.flatten().view(torch.uint8).numpy().tobytes()


def _code(source: ModuleType) -> list[str | bytes]:
    """Texts of the user's files behind a module, and the installed packages they name, in fixed order."""
    files: dict[str, bytes] = {}
    packages: set[str] = set()
    waiting = [source.__name__]
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if name in files or module is None:
            continue
        if not _is_users(module):
            packages.add(name.partition(".")[0])
            continue
        files[name] = Path(str(module.__file__)).read_bytes()
        waiting += _imports(module, files[name])
    own = {name if not name.startswith(f"_{_OURS}_model_") else "": text for name, text in files.items()}
    versions = [f"{package} {_version(package)}" for package in sorted(packages)]
    return [*(part for name in sorted(own) for part in (name, own[name])), *versions]


def _is_users(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or not str(file).endswith(".py") or module.__name__.partition(".")[0] == _OURS:
        return False
    installed = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return not any(Path(str(file)).is_relative_to(place) for place in installed)


def _imports(module: ModuleType, text: bytes) -> Iterator[str]:
    """Names of the modules that a file imports anywhere, and of their parents."""
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(relative, module.__package__) if node.level else relative
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: count + 1]) for count in range(len(parts)))


def _version(package: str) -> str:
    """Of an installed top-level package; empty for the standard library."""
    if package in sys.stdlib_module_names:
        return ""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # the distribution has another name, which takes longer to find
        names: Any = _distributions().get(package, ())
        return ", ".join(f"{name} {metadata.version(name)}" for name in sorted(set(names)))


@cache
def _distributions() -> Any:
    return metadata.packages_distributions()


def _from_plugin(name: str, factory: object) -> Callable[[], nn.Module]:
    if not callable(factory):
        raise BenchError(f"it is a {type(factory).__name__}; it must be a function that returns an nn.Module")
    return factory


MODEL_PLUGINS = Plugins("models", _from_plugin)
