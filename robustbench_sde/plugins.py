"""Find plug-ins: entries that other installed packages add to our registries (docs/your-data.md).

A package declares entry points in the groups ``robustbench_sde.datasets``, ``robustbench_sde.models``,
``robustbench_sde.attacks``, ``robustbench_sde.corruptions`` and ``robustbench_sde.loggers``. Its code is
imported only when somebody asks for a name that is not built in, or for a listing.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from robustbench_sde.errors import BenchError

_T = TypeVar("_T")


@dataclass(frozen=True)
class Plugins(Generic[_T]):
    """Plug-ins of one registry."""

    #: ``datasets``, ``models``, ``attacks``, ``corruptions`` or ``loggers``
    kind: str
    #: function from a name and the object of the entry point to an entry; raises BenchError if it is none
    accept: Callable[[str, object], _T]

    def names(self) -> list[str]:
        """Return all names, whether or not they can be loaded."""
        return sorted({point.name for point in _installed(self.kind)})

    def target(self, name: str) -> str | None:
        """Return ``module:attribute`` of the entry called `name`, without importing it, or None."""
        point = self._point(name)
        return None if point is None else point.value

    def find(self, name: str) -> _T | None:
        """Import and return the entry called `name`; None if no package offers it.

        Raises:
            BenchError: the package cannot be imported, offers something else, or two packages offer the name.
        """
        point = self._point(name)
        if point is None:
            return None
        try:
            return self.accept(name, point.load())
        except BenchError as error:
            reason = str(error)
        except (Exception, SystemExit) as error:  # whatever its import may raise
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
        raise BenchError(f"plug-in {name!r} ({self.kind}) of {_package(point)} cannot be used: {reason}")

    def all(self, built_in: Collection[str] = ()) -> tuple[dict[str, _T], list[str]]:
        """Return every usable entry by name, and a sentence about each of the others.

        Args:
            built_in: names that no plug-in can take.
        """
        entries: dict[str, _T] = {}
        problems: list[str] = []
        for name in self.names():
            if name in built_in:
                package = provider(self.kind, name)
                problems.append(
                    f"plug-in {name!r} ({self.kind}) of {package} is ignored: the name is built in"
                )
                continue
            try:
                found = self.find(name)
            except BenchError as error:
                problems.append(str(error))
            else:
                entries |= {} if found is None else {name: found}
        return entries, problems

    def _point(self, name: str) -> EntryPoint | None:
        points = [point for point in _installed(self.kind) if point.name == name]
        if len(points) > 1:
            packages = " and ".join(sorted(map(_package, points)))
            raise BenchError(f"plug-in {name!r} ({self.kind}) is offered by {packages}; keep one")
        return points[0] if points else None


def provider(kind: str, name: str) -> str:
    """Return package and version that offer `name`; empty if none does."""
    return next((_package(point) for point in _installed(kind) if point.name == name), "")


@cache
def _installed(kind: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"robustbench_sde.{kind}"))


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
