"""What a container or a batch system (Docker, Kubernetes, Slurm) leaves to this process, as Linux shows it.

Source: the kernel's documents on control groups, versions 1 and 2.
"""

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
    usable = usable_processors()
    if usable < _pinned():
        os.environ.setdefault("OMP_NUM_THREADS", str(usable))


@functools.cache
def processor_quota(own: Path = _OWN_GROUPS, groups: Path = _GROUPS) -> float | None:
    """Return the smallest quota of the control groups of this process, in processors; None without any.

    Args:
        own: file that lists the groups of this process.
        groups: folder where control groups are mounted.
    """
    quotas = []
    for folder, version in _folders("cpu", own, groups):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = " ".join(_read(folder / name) for name in names).split()
        # "max" and -1 mean no limit
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def memory_left(own: Path = _OWN_GROUPS, groups: Path = _GROUPS) -> int | None:
    """Return the bytes that the control groups of this process leave to it; None if they set no limit.

    Files that the kernel keeps in memory count as used there, but make room where it is wanted.

    Args:
        own: file that lists the groups of this process.
        groups: folder where control groups are mounted.
    """
    left = []
    for folder, version in _folders("memory", own, groups):
        names = ("memory.max", "memory.current", "inactive_file")
        if version == 1:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        limit, used = (_read(folder / name).strip() for name in names[:2])
        if limit.isdigit() and used.isdigit():
            kept = dict(
                line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines() if " " in line
            )
            left.append(max(0, int(limit) - int(used) + int(kept.get(names[2], 0))))
    return min(left, default=None)


def _pinned() -> int:
    """Return the number of processors that this process is pinned to; some systems cannot pin processes."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _folders(controller: str, own: Path, groups: Path) -> Iterator[tuple[Path, int]]:
    """Find the folders of all groups above this process, whose limits all hold, and the version of each."""
    for line in _read(own).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        path = PurePosixPath(group.lstrip("/"))
        # a container may see its own group as the root, under a path of the machine outside
        for above in (path, *path.parents):
            yield groups / controllers / above, 1 if controllers else 2


def _read(path: Path) -> str:
    """Return the text of a file, of one that cannot be read the empty text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
