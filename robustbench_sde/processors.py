"""How many processors this process may use, also in a container that has a share of a large machine."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

#: where Linux shows control groups
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def usable_processors() -> int:
    """Return the number of processors that this process may use now: its pinning, and its container's quota.

    A quota (`docker --cpus`, a CPU limit of Kubernetes) is a share of time: the container still sees every
    processor of the machine, and with more threads than the quota has processors, all of them are stopped
    until the next period.
    """
    pinned, quota = _pinned(), processor_quota()
    return pinned if quota is None else max(1, min(pinned, int(quota)))


def keep_to_quota() -> None:
    """Let libraries that are imported later start as many threads as the quota has processors.

    A number of threads that the user has set (``OMP_NUM_THREADS``) stays, and nothing is set where no quota
    binds: what libraries choose by themselves is right there.
    """
    if usable_processors() < _pinned():
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_processors()))


@functools.cache
def processor_quota(own: Path = _OWN_GROUPS, groups: Path = _GROUPS) -> float | None:
    """Return the quota of the control group of this process, in processors; None if there is none.

    Source: the kernel's documents on control groups: `cpu.max` (version 2), `cpu.cfs_quota_us` (version 1).

    Args:
        own: file that lists the groups of this process.
        groups: folder where control groups are mounted.
    """
    return min(_quotas(own, groups), default=None)


def _pinned() -> int:
    """Return the number of processors that this process is pinned to; some systems cannot pin processes."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(own: Path, groups: Path) -> Iterator[float]:
    """Find the quotas of all groups above this process; each of them holds."""
    for line in _read(own).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        path = PurePosixPath(group.lstrip("/"))
        # a container may see its own group as the root, under a path of the machine outside
        for above in (path, *path.parents):
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            words = " ".join(_read(groups / controllers / above / name) for name in names).split()
            # "max" and -1 mean no limit
            if len(words) == 2 and all(word.isdigit() and int(word) for word in words):
                yield int(words[0]) / int(words[1])


def _read(path: Path) -> str:
    """Return the text of a file, of one that cannot be read the empty text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
