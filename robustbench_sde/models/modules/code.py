"""Find the user's files and the installed packages behind a module of code, without importing anything.

A file is the user's if it lies in the folder of the model file (or of its top-level package), belongs to an
editable install, or can be imported and belongs to no installed distribution. Names are resolved as an import
would, loaded or not, so that an import inside a function that has not run yet counts as well.
"""

import ast
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlparse

_OURS = __name__.partition(".")[0]
#: Folders that hold installed packages, wherever they lie: venvs, user sites, Debian's, those of a .pth file.
_SITES = {"site-packages", "dist-packages"}


def code_behind(source: ModuleType, *, name: str = "") -> list[str | bytes]:
    """Return the texts of the user's files behind a module and the versions of packages, in fixed order.

    Args:
        source: a loaded module.
        name: stands for the name of `source`; an empty one for files, whose module name is a hash.
    """
    start = Path(str(source.__file__))
    root = _root(source)
    files: dict[str, bytes] = {}
    packages: set[str] = set()
    waiting = [(source.__name__, start, hasattr(source, "__path__"))]
    seen = {source.__name__}
    while waiting:
        module, path, is_package = waiting.pop()
        files[module] = path.read_bytes()
        for imported in _imports(module, is_package, files[module]):
            if imported in seen:
                continue
            seen.add(imported)
            top = imported.partition(".")[0]
            if top in sys.stdlib_module_names or top == _OURS:
                continue
            spec = _find(imported)
            file = _file_of(spec)
            if spec is not None and file is not None and is_users(file, top, root):
                waiting.append((imported, file, spec.submodule_search_locations is not None))
            elif spec is not None or imported == top:  # otherwise a name in a module, which is seen itself
                packages.add(top)
    own = {name if module == source.__name__ else module: text for module, text in files.items()}
    versions = [f"{package} {_version(package)}" for package in sorted(packages)]
    return [*(part for module in sorted(own) for part in (module, own[module])), *versions]


def is_users(file: Path, top: str, root: Path) -> bool:
    """Whether a file is the user's own code.

    Args:
        file: of a module.
        top: name of its top-level package.
        root: folder of the model file, or of its top-level package.
    """
    if _is_installed(file, top):
        return False
    places = (root, *_editable_places())
    return any(file.is_relative_to(place) for place in places) or top not in _distributions()


def _root(source: ModuleType) -> Path:
    """Return the folder whose files are the user's: that of the file, or above its top-level package."""
    file = Path(str(source.__file__))
    depth = source.__name__.count(".") + hasattr(source, "__path__")
    return file.parents[min(depth, len(file.parents) - 1)]


@cache
def _standard() -> tuple[Path, ...]:
    return tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))


def _is_installed(file: Path, top: str) -> bool:
    if _SITES.intersection(file.parts) or any(file.is_relative_to(place) for place in _standard()):
        return True
    above = [parent.parent for parent in file.parents if parent.name == top]
    return _holds_distributions(above[-1] if above else file.parent)


@cache
def _holds_distributions(folder: Path) -> bool:
    """Whether pip has installed into a folder, with ``--target`` say."""
    return next(folder.glob("*.dist-info"), None) is not None


@cache
def _editable_places() -> tuple[Path, ...]:
    """Return the folders of packages installed with ``pip install -e``."""
    places = []
    for distribution in metadata.distributions():
        text = distribution.read_text("direct_url.json")
        if text is None:
            continue
        url = json.loads(text)
        if url.get("dir_info", {}).get("editable") and str(url.get("url", "")).startswith("file:"):
            places.append(Path(unquote(urlparse(url["url"]).path)))
    return tuple(places)


def _find(name: str) -> ModuleSpec | None:
    """Return where an import would find a module, parents not imported; None if it is no module."""
    path = None
    parts = name.split(".")
    spec: ModuleSpec | None = None
    for count in range(1, len(parts) + 1):
        full = ".".join(parts[:count])
        spec = _loaded_spec(full) or _first_spec(full, path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
        if path is None and count < len(parts):
            return None
    return spec


def _loaded_spec(name: str) -> ModuleSpec | None:
    found = getattr(sys.modules.get(name), "__spec__", None)
    return found if isinstance(found, ModuleSpec) else None


def _first_spec(name: str, path: object) -> ModuleSpec | None:
    for finder in sys.meta_path:
        try:
            found = finder.find_spec(name, path, None)  # type: ignore[arg-type]
        except Exception:  # finders of other people's packages may raise anything
            continue
        if found is not None:
            return found
    return None


def _file_of(spec: ModuleSpec | None) -> Path | None:
    """Return the Python file of a module; None for binaries, namespaces and what is no module."""
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _imports(module: str, is_package: bool, text: bytes) -> Iterator[str]:
    """Yield the names of all modules that a file imports anywhere, and of their parents."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # a file for another version of Python
        return
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            if base is not None:
                names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: count + 1]) for count in range(len(parts)))


def _absolute(node: ast.ImportFrom, package: str) -> str | None:
    """Return the module that ``from ... import`` names; None if it points above the top-level package."""
    if not node.level:
        return node.module
    if not package:
        return None
    try:
        return importlib.util.resolve_name("." * node.level + (node.module or ""), package)
    except ImportError:
        return None


def _version(package: str) -> str:
    """Return the version of an installed top-level package; empty if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # the distribution has another name, which takes longer to find
        names = _distributions().get(package, ())
        return ", ".join(f"{name} {metadata.version(name)}" for name in sorted(set(names)))


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()
