"""SIGKILL, SIGTERM and SIGINT at random moments: nothing is lost, nothing half written has a final name.

`make kills` tries many more moments (SDE_BENCH_KILLS), half of them in processes that import torch first.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from forked import once_begun, sde_bench
from hostile.jobs import JOBS, OVER, contents, hidden, make_place

from robustbench_sde import __main__
from robustbench_sde.cli import app

KILLS = int(os.environ.get("SDE_BENCH_KILLS", "3"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MANY = KILLS > 3
NOT_BEGUN = "sde-bench: interrupted before it had begun; give the command again\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory, digits):
    """A place where every job can run; only to be copied."""
    return make_place(tmp_path_factory.mktemp("made"), digits)


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_killed_at_random_moments_it_ends_as_if_undisturbed(made, tmp_path, job, capsys):
    """A command killed by any signal ends as if undisturbed when it is gone on with as its last line says."""
    seconds = {}
    for fresh in (True, False) if MANY else (False,):
        whole = shutil.copytree(made, tmp_path / f"whole-{fresh}")
        started = time.monotonic()
        assert ended(start(job, whole, fresh=fresh)) == job.ends, (whole / "stderr.txt").read_text()
        seconds[fresh] = time.monotonic() - started
    undisturbed = contents(whole)
    moments = random.Random(str(job))
    place, codes = shutil.copytree(made, tmp_path / "0"), Counter()
    for number in range(KILLS):
        sent, fresh = SIGNALS[number % len(SIGNALS)], MANY and number % 2 == 1
        process = start(job, place, fresh=fresh)
        time.sleep(moments.uniform(0, seconds[fresh]))
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, sent)
        code = ended(process)
        codes["a new Python" if fresh else "forked", sent.name, code] += 1
        check_end(job, sent, code, (place / "stderr.txt").read_text())
        if code == job.ends:
            assert contents(place) == undisturbed
            place = shutil.copytree(made, tmp_path / str(number + 1))
        else:
            contents(place)  # whatever has a final name is whole
    assert ended(start(job, place, fresh=False)) == job.ends, (place / "stderr.txt").read_text()
    assert contents(place) == undisturbed
    assert not hidden(place), "nothing is left lying about"
    with capsys.disabled():
        if MANY:
            print(f"\n{job}: {dict(codes)}")


def swallowed():
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    raise RuntimeError("what a library has made of it")


def lost():
    class Lost:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    Lost()  # Python prints and forgets what is raised in __del__
    time.sleep(10)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("program", [swallowed, lost])
def test_an_interruption_is_one_whatever_becomes_of_it(monkeypatch, capsys, program):
    """130 and the line, where a library or Python itself has swallowed the exception."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
    monkeypatch.setattr(app, "program", lambda: lambda **_: program())
    monkeypatch.setattr(sys, "argv", ["sde-bench", "audit"])
    with pytest.raises(SystemExit) as end:
        app.main()
    assert end.value.code == 130
    assert capsys.readouterr().err == f"sde-bench: interrupted; {OVER}\n"
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook)


def test_an_interruption_while_the_program_is_imported_is_no_traceback(monkeypatch, capsys):
    """Nothing has been done, and that is said."""

    class Interrupted:
        def find_spec(self, name, *_):
            if name == "robustbench_sde.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "robustbench_sde.cli.app")
    monkeypatch.setattr(sys, "meta_path", [Interrupted()])
    with pytest.raises(SystemExit) as end:
        __main__.main()
    assert (end.value.code, capsys.readouterr().err) == (130, NOT_BEGUN)


def start(job, place, *, fresh):
    """The job, or what goes on with it, with its handlers in place; `fresh` from the first byte of Python."""
    resume = job.resume if job.begun and (place / job.begun).exists() else ()
    if job.resume and not resume:
        shutil.rmtree(place / "new", ignore_errors=True)
    arguments = [*map(str, job.command), *resume]
    if not fresh:
        (place / "begun").unlink(missing_ok=True)
        process = sde_bench(*arguments, cwd=place, before=once_begun)
        while not (place / "begun").exists():
            assert process.is_alive(), (place / "stderr.txt").read_text()
            time.sleep(0.001)
        return process
    with (place / "stderr.txt").open("w") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "robustbench_sde", *arguments],
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as `forked` does
        )


def ended(process):
    """The exit code, negative for a signal."""
    if isinstance(process, subprocess.Popen):
        return process.wait()
    process.join()
    return process.exitcode


def check_end(job, sent, code, stderr):
    if code == job.ends:
        assert not stderr
    elif sent == signal.SIGKILL:
        assert (code, stderr) == (-sent, "")
    elif sent == signal.SIGINT and stderr.startswith("Fatal Python error: init_import_site"):
        assert (
            "robustbench_sde/" not in stderr
        )  # Python itself was not yet there, and no file of ours was read
    elif code == -sent:  # before the program had begun, or when it had ended
        assert not stderr
    else:
        assert code == 130, stderr
        sentences = [f"sde-bench: interrupted; {text}\n" for text in job.goes_on.split("|")]
        assert stderr in [*sentences, NOT_BEGUN], stderr
