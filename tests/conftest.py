"""Fixtures that many tests share, and how many cases hypothesis tries."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from robustbench_sde.cli.app import main
from robustbench_sde.data import ImageDataset, load_dataset

# workers of xdist set it; tables are to be as wide as in a shell that does not
os.environ.pop("COLUMNS", None)
# the same cases in every build; HYPOTHESIS_PROFILE=thorough looks for new ones (`make fuzz`)
settings.register_profile("default", derandomize=True, deadline=None, database=None)
settings.register_profile("thorough", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

#: files with the longest tests: they begin first, or one worker of xdist ends minutes after the others
LONGEST = (
    "gpu/test_rehearsal.py",
    "runs/test_ray.py",
    "runs/test_nodes.py",
    "sde/test_interpreted.py",
    "test_packaging.py",
    "test_pytest_plugin.py",
    "test_examples.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first; all others stay in their order."""
    rank = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def digits() -> ImageDataset:
    """The test split of the embedded digits."""
    return load_dataset("digits", split="test")


@pytest.fixture
def heard() -> Iterator[None]:
    """SIGINT has Python's handler, here and in what is started, although a background shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[object, str, str]]]:
    """Call the program in this process, in the current folder; returns exit code, stdout and stderr."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["sde-bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    yield run
    signal.signal(signal.SIGTERM, handler)
