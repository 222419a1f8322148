"""Files deleted, the clock set, a second process started while a command works."""

import functools
import shutil

import pytest
from forked import finished, sde_bench
from hostile.jobs import JOBS, contents, hidden, make_place
from hostile.saboteurs import delete_after, delete_after_epoch, jumping_clock, output_to

TRAIN, RUN = JOBS[0], next(job for job in JOBS if str(job) == "run")


@pytest.fixture(scope="module")
def made(tmp_path_factory, digits):
    """A place where every job can run; only to be copied."""
    return make_place(tmp_path_factory.mktemp("made"), digits)


@pytest.fixture(scope="module")
def undisturbed(made, tmp_path_factory):
    """Return what each job leaves; made once, on the first call."""

    @functools.cache
    def left_by(job):
        place = shutil.copytree(made, tmp_path_factory.mktemp("undisturbed") / "place")
        ended = finished(*job.command, cwd=place)
        assert ended.code == job.ends, ended.stderr
        return contents(place)

    return left_by


GONE = "has no records of cell"
#: what is deleted after the second cell, the exit code, a part of the line on stderr, or of the table
DELETED = [
    ("reports/tiny/records/*.parquet", 2, GONE),
    ("reports/tiny/.lock", 0, ""),
    ("reports/tiny", 2, GONE),
    ("reports", 2, GONE),
    ("digits.npz", 0, ""),
    ("a.safetensors", 0, ""),  # is in memory
    ("b.safetensors", 4, "b.safetensors has disappeared since the run began; put it back and run it again"),
    ("tiny.yaml", 0, ""),
]


@pytest.mark.parametrize(("pattern", "code", "message"), DELETED, ids=[row[0] for row in DELETED])
def test_what_is_deleted_under_a_run_is_made_again(made, undisturbed, tmp_path, pattern, code, message):
    """One line says what is missing; the files put back, the same command ends as if nothing had happened."""
    place = shutil.copytree(made, tmp_path / "place")
    ended = finished(*RUN.command, cwd=place, before=functools.partial(delete_after, 2, pattern))
    assert ended.code == code, (ended.stdout, ended.stderr)
    assert ended.stderr.count("\n") == (code == 2)
    assert message in " ".join((ended.stdout + ended.stderr).split())
    for path in made.iterdir():
        if path.is_file() and not (place / path.name).exists():
            shutil.copy(path, place)
    again = finished(*RUN.command, cwd=place)
    assert again.code == 0, again.stderr
    assert contents(place) == undisturbed(RUN)


@pytest.mark.parametrize("pattern", ["new/*.state.safetensors", "new", "digits.npz"])
def test_what_is_deleted_under_a_training_is_written_again(made, undisturbed, tmp_path, pattern):
    """Weights, state and momenta are in memory: the checkpoint is that of an undisturbed training."""
    place = shutil.copytree(made, tmp_path / "place")
    once = functools.partial(delete_after_epoch, pattern)
    ended = finished(*TRAIN.command, cwd=place, before=once)
    assert ended.code == 0, ended.stderr
    shutil.copy(made / "digits.npz", place)
    assert contents(place) == undisturbed(TRAIN)


@pytest.mark.parametrize("job", [job for job in JOBS if str(job) not in ("corrupt", "audit")], ids=str)
def test_two_at_once_leave_what_one_leaves(made, undisturbed, tmp_path, job):
    """The second is refused in one line, or does the same work beside the first; no file is mixed."""
    place = shutil.copytree(made, tmp_path / "place")
    processes = [
        sde_bench(*job.command, cwd=place, before=functools.partial(output_to, name)) for name in "ab"
    ]
    codes = set()
    for name, process in zip("ab", processes, strict=True):
        process.join()
        stderr = (place / f"stderr-{name}.txt").read_text()
        codes.add(process.exitcode)
        assert process.exitcode in (job.ends, 2), stderr
        if process.exitcode == 2:
            assert stderr.startswith("sde-bench: another process is ") or "give --force" in stderr
            assert stderr.count("\n") == 1
    assert job.ends in codes
    left = {name: content for name, content in contents(place).items() if not name.endswith(".txt")}
    assert left == {name: content for name, content in undisturbed(job).items() if not name.endswith(".txt")}
    assert not hidden(place)


@pytest.mark.parametrize("job", [TRAIN, RUN], ids=str)
def test_a_clock_that_jumps_changes_nothing(made, undisturbed, tmp_path, job):
    """A clock that jumps by years changes nothing: no cell is taken for another, no lock for an old one."""
    place = shutil.copytree(made, tmp_path / "place")
    for _ in range(1 + (job is RUN)):  # the second time all cells are stored
        ended = finished(*job.command, cwd=place, before=jumping_clock)
        assert ended.code == 0, ended.stderr
    assert contents(place) == undisturbed(job)
