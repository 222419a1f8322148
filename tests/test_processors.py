"""The number of processors: pinning, and the quota of a container as Linux shows it."""

import os

import pytest

from robustbench_sde import processors
from robustbench_sde.processors import keep_to_quota, processor_quota, usable_processors

#: name: lines of the own groups, files below the mount, quota in processors
GROUPS = {
    "no control groups": ("", {}, None),
    "version 2, no limit": ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    "version 2, a container": ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
    "version 2, a path of the machine outside": ("0::/docker/ab\n", {"cpu.max": "50000 100000\n"}, 0.5),
    "version 2, the smallest of the groups above": (
        "0::/jobs/one\n",
        {"jobs/cpu.max": "300000 100000\n", "jobs/one/cpu.max": "800000 100000\n"},
        3.0,
    ),
    "version 1": (
        "9:memory:/x\n4:cpu,cpuacct:/x\n",
        {"cpu,cpuacct/x/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"},
        4.0,
    ),
    "version 1, no limit": (
        "4:cpu:/\n",
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "both, and only cpusets have the word": ("7:cpuset:/\n0::/\n", {"cpuset/cpu.cfs_quota_us": "1\n"}, None),
    "what nobody expects": ("0::/\n", {"cpu.max": "many\n"}, None),
    "nothing of nothing": ("0::/\n", {"cpu.max": "100000 0\n"}, None),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_quota_is_the_smallest_of_all_groups_above(tmp_path, name):
    """Both versions of control groups, inside and outside of containers."""
    own, files, quota = GROUPS[name]
    (tmp_path / "own").write_text(own)
    for path, text in files.items():
        (tmp_path / "groups" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / path).write_text(text)
    assert processor_quota(tmp_path / "own", tmp_path / "groups") == quota


@pytest.mark.parametrize(
    ("quota", "pinned", "usable"), [(None, 8, 8), (2.5, 8, 2), (0.5, 8, 1), (16.0, 4, 4)]
)
def test_a_quota_is_rounded_down_and_no_more_than_the_pinning(monkeypatch, quota, pinned, usable):
    """One thread more than a quota runs stops all of them until the next period."""
    monkeypatch.setattr(processors, "processor_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(pinned)), raising=False)
    assert usable_processors() == usable


@pytest.mark.parametrize(
    ("quota", "set_by_user", "found"),
    [(2.0, None, "2"), (2.0, "5", "5"), (None, None, None), (16.0, None, None)],
)
def test_libraries_start_as_many_threads_as_the_quota_has_processors(monkeypatch, quota, set_by_user, found):
    """A number that the user has set stays; without a quota that is felt nothing is set."""
    monkeypatch.setattr(processors, "processor_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_user)
    keep_to_quota()
    assert os.environ.get("OMP_NUM_THREADS") == found
