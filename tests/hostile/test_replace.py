"""A disk that fills, or fails, in the middle of `rename`: one line, nothing lost, the same command goes on.

Two renamings of each command, and with SDE_BENCH_KILLS above 3 (`make kills`) every one, in both ways.
"""

import errno
import os
import shutil
from pathlib import Path

import pytest
from hostile.jobs import JOBS, contents, hidden, make_place

EVERY = int(os.environ.get("SDE_BENCH_KILLS", "3")) > 3
#: jobs that write
WRITERS = [job for job in JOBS if str(job) not in ("show", "list")]


@pytest.fixture(scope="module")
def made(tmp_path_factory, digits):
    """A place where every job can run; only to be copied."""
    return make_place(tmp_path_factory.mktemp("made"), digits)


class FailingDisk:
    """A disk on which the renaming of that number, and all later ones if it is full, fail."""

    def __init__(self, monkeypatch, place: Path) -> None:
        self.number, self.fails_at, self.code, self.stays = 0, -1, 0, False
        self._replace, self._place = os.replace, place
        monkeypatch.setattr(os, "replace", self._try)

    def set(self, fails_at: int, code: int, *, stays: bool) -> None:
        """Fail at the renaming of this number from now on; -1: never."""
        self.number, self.fails_at, self.code, self.stays = 0, fails_at, code, stays

    def _try(self, source: str, target: str) -> None:
        if not Path(target).absolute().is_relative_to(self._place):  # a cache of matplotlib, say
            return self._replace(source, target)
        number, self.number = self.number, self.number + 1
        if self.fails_at != -1 and (number == self.fails_at or (self.stays and number > self.fails_at)):
            raise OSError(self.code, os.strerror(self.code), str(source), None, str(target))
        return self._replace(source, target)


@pytest.mark.parametrize("job", WRITERS, ids=str)
def test_each_renaming_may_fail(made, tmp_path, monkeypatch, program, job):
    """Whichever fails, the line names the file; then the same command ends as if nothing had happened."""
    whole = shutil.copytree(made, tmp_path / "whole")
    monkeypatch.chdir(whole)
    disk = FailingDisk(monkeypatch, tmp_path)
    exit_code, _, error = program(*job.command)
    assert (exit_code, error) == (job.ends, "")
    count, undisturbed = disk.number, contents(whole)
    assert count > 0
    ways = ((errno.ENOSPC, True), (errno.EIO, False))
    cases = [(fails_at, *way) for fails_at in range(count) for way in ways]
    for fails_at, code, stays in cases if EVERY else (cases[len(cases) // 4 * 2], cases[-1]):
        place = shutil.copytree(made, tmp_path / str(fails_at))
        monkeypatch.chdir(place)
        disk.set(fails_at, code, stays=stays)
        exit_code, _, error = program(*job.command)
        assert (exit_code, error.count("\n")) == (2, 1), (fails_at, error)
        assert error.startswith("sde-bench: cannot write ")
        assert os.strerror(code) in error
        contents(place)  # whatever has a final name is whole
        disk.set(-1, 0, stays=False)
        resume = job.resume if job.begun and (place / job.begun).exists() else ()
        exit_code, _, error = program(*job.command, *resume)
        assert (exit_code, error) == (job.ends, ""), (fails_at, error)
        assert contents(place) == undisturbed, fails_at
        assert not hidden(place)
        shutil.rmtree(place)
