"""The program, called in this process: as a user runs it, without the seconds that a start takes."""

import signal

import pytest

from robustbench_sde.cli.app import main


@pytest.fixture
def program(monkeypatch, capsys):
    """Run the program in the current folder; returns exit code, stdout and stderr."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["sde-bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    yield run
    signal.signal(signal.SIGTERM, handler)
