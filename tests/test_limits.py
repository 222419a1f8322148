"""What is left to a process in a container or a job, as Linux shows it."""

import os

import pytest

from robustbench_sde import limits
from robustbench_sde.limits import keep_to_quota, memory_left, processor_quota, usable_processors

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


def write_groups(folder, own, files):
    """The file of a process's own groups, and the mounted folder of all groups."""
    (folder / "own").write_text(own)
    for path, text in files.items():
        (folder / "groups" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "groups" / path).write_text(text)
    return folder / "own", folder / "groups"


@pytest.mark.parametrize("name", GROUPS)
def test_the_quota_is_the_smallest_of_all_groups_above(tmp_path, name):
    """Both versions of control groups, inside and outside of containers."""
    own, files, quota = GROUPS[name]
    assert processor_quota(*write_groups(tmp_path, own, files)) == quota


#: name: lines of the own groups, files below the mount, bytes that are left
MEMORY = {
    "no control groups": ("", {}, None),
    "version 2, no limit": ("0::/\n", {"memory.max": "max\n", "memory.current": "5\n"}, None),
    "version 2, a container": ("0::/\n", {"memory.max": "1000\n", "memory.current": "300\n"}, 700),
    "version 2, with files in memory": (
        "0::/\n",
        {"memory.max": "1000\n", "memory.current": "950\n", "memory.stat": "anon 50\ninactive_file 900\n"},
        950,
    ),
    "version 2, a job below a machine without limit": (
        "0::/slurm/job_7/step_0\n",
        {
            "slurm/job_7/memory.max": "1000\n",
            "slurm/job_7/memory.current": "400\n",
            "slurm/job_7/step_0/memory.max": "max\n",
            "slurm/job_7/step_0/memory.current": "400\n",
        },
        600,
    ),
    "version 1": (
        "3:memory:/job\n0::/\n",
        {
            "memory/job/memory.limit_in_bytes": "1000\n",
            "memory/job/memory.usage_in_bytes": "900\n",
            "memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 300\n",
        },
        400,
    ),
    "more than the limit": ("0::/\n", {"memory.max": "10\n", "memory.current": "12\n"}, 0),
}


@pytest.mark.parametrize("name", MEMORY)
def test_the_memory_left_is_that_of_the_narrowest_group(tmp_path, name):
    """Files that the kernel keeps in memory are no reason for small batches."""
    own, files, left = MEMORY[name]
    assert memory_left(*write_groups(tmp_path, own, files)) == left


@pytest.mark.parametrize(
    ("quota", "pinned", "usable"), [(None, 8, 8), (2.5, 8, 2), (0.5, 8, 1), (16.0, 4, 4)]
)
def test_a_quota_is_rounded_down_and_no_more_than_the_pinning(monkeypatch, quota, pinned, usable):
    """One thread more than a quota runs stops all of them until the next period."""
    monkeypatch.setattr(limits, "processor_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(pinned)), raising=False)
    assert usable_processors() == usable


@pytest.mark.parametrize(
    ("quota", "set_by_user", "found"),
    [(2.0, None, "2"), (2.0, "5", "5"), (None, None, None), (16.0, None, None)],
)
def test_libraries_start_as_many_threads_as_the_quota_has_processors(monkeypatch, quota, set_by_user, found):
    """A number that the user has set stays; without a quota that is felt nothing is set."""
    monkeypatch.setattr(limits, "processor_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_user)
    keep_to_quota()
    assert os.environ.get("OMP_NUM_THREADS") == found
