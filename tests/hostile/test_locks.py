"""Disks whose locks fail, as on NFS without its lock service: one line, and nothing is lost."""

import errno
import fcntl
import os

import pytest
from builders import save_digits_model

import robustbench_sde as rb
from robustbench_sde.errors import BenchError
from robustbench_sde.storage.lock import locked
from robustbench_sde.storage.run_state import is_running

#: what `flock` says, and what is made of it
SAYINGS = [
    (errno.ENOLCK, "cannot lock files (No locks available)"),
    (errno.ENOSYS, "cannot lock files (Function not implemented)"),
    (errno.EOPNOTSUPP, "cannot lock files (Operation not supported)"),
    (errno.EACCES, "another process is "),
    (errno.EAGAIN, "another process is "),
    (errno.EIO, "cannot write "),
    (errno.ESTALE, "cannot write "),
]


def broken(code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    return flock


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory, digits):
    """A folder with a small checkpoint, a finished run, and a finished training."""
    folder = tmp_path_factory.mktemp("place")
    save_digits_model(folder / "a.safetensors", "none")
    attack(folder, digits)
    train(folder, digits)
    return folder


def attack(folder, digits, **more):
    few = digits.subset(2)
    return rb.attack(
        folder / "a.safetensors", few, eps=0.1, steps=1, score_draws=1, out=folder / "run", **more
    )


def train(folder, digits):
    few = digits.subset(4)
    return rb.train(few, folder / "m.safetensors", test=few, epochs=1, steps=1, batch_size=4, force=True)


@pytest.mark.parametrize("work", [attack, train])
@pytest.mark.parametrize(("code", "says"), SAYINGS, ids=[errno.errorcode[code] for code, _ in SAYINGS])
def test_a_lock_that_fails_is_one_line_and_changes_nothing(place, digits, monkeypatch, work, code, says):
    """Stored files keep their bytes; when locks work again, the same command works."""
    before = contents(place)
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", broken(code))
        with pytest.raises(BenchError) as error:
            work(place, digits)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    after = contents(place)
    assert {path: after[path] for path in before} == before
    work(place, digits)
    assert not list(place.rglob(".*"))


@pytest.mark.parametrize(("code", "says"), SAYINGS, ids=[errno.errorcode[code] for code, _ in SAYINGS])
def test_a_run_on_a_disk_without_locks_is_not_called_running(place, monkeypatch, code, says):
    """`show` must not wait for a process that cannot be there; in doubt it says that one is."""
    with locked(place / "run"):
        monkeypatch.setattr(fcntl, "flock", broken(code))
        assert is_running(place / "run") == ("cannot lock" not in says)
    assert not is_running(place / "run")
