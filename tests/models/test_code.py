"""The user's own files behind a module, wherever torch and other packages are installed."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from builders import make_data

from robustbench_sde.models.compute import Compute
from robustbench_sde.models.modules.factory import Factory
from robustbench_sde.runs.sources import ModuleSource

NET = """
import torch.backends.cudnn
import torchvision
from torch import nn
from beside import width

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 10)).eval()
"""
#: Prints the user's files that the digest covers, and the CPU time of making the module.
SCRIPT = """
import sys, time
from pathlib import Path
from robustbench_sde.models.modules import factory
started = time.process_time()
source, made = factory.Factory.of("net.py:make")._call()
parts = factory.code_behind(source)
assert factory.Factory.of("net.py:make").make()[1] == factory.Factory.of("net.py:make").make()[1]
seconds = time.process_time() - started
files = [part for part in parts if isinstance(part, bytes)]
print(len(files), sum("torch " in part for part in parts if isinstance(part, str)), seconds < 5)
"""
ROOT = Path(__file__).parents[2]
SITE = sysconfig.get_path("purelib")


def environment(kind, folder):
    """Return the interpreter and the variables with which torch is reached in one of the usual ways."""
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    paths = [str(ROOT)]
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    if kind == ".pth file":
        (Path(own) / "base.pth").write_text(SITE + "\n")
    elif kind == "PYTHONPATH":
        paths.append(SITE)
    elif kind == "folder of pip --target beside the model":
        (folder / "libs").symlink_to(SITE)
        paths.append(str(folder / "libs"))
    else:
        python = Path(sys.base_prefix) / "bin" / "python3"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        place = folder / "base" / "lib" / version
        place.mkdir(parents=True)
        (place / "site-packages").symlink_to(SITE)
        variables["PYTHONUSERBASE"] = str(folder / "base")
    return python, variables | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.parametrize(
    "kind", [".pth file", "PYTHONPATH", "folder of pip --target beside the model", "user site"]
)
def test_torch_is_no_code_of_the_user(kind, tmp_path):
    """Two files are the user's, torch counts by its version, and it takes less than 5 s of CPU time."""
    python, variables = environment(kind, tmp_path)
    if not python.exists():
        pytest.skip("no base interpreter")
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "beside.py").write_text("width = 1024\n")
    finished = subprocess.run(
        [python, "-c", SCRIPT], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == ["2", "1", "True"]


LAZY = """
from torch import nn

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(144, 4)

    def forward(self, x):
        import wave
        import beside_late
        import xml.dom.minidom
        return self.linear(x.flatten(1)) * beside_late.scale

def make():
    return Lazy().eval()
"""


@pytest.fixture
def lazy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "lazy.py").write_text(LAZY)
    (tmp_path / "beside_late.py").write_text("scale = 1\n")
    yield tmp_path
    sys.modules.pop("beside_late", None)


def test_an_import_inside_forward_is_no_change(lazy):
    """The digest before the first pass is the digest after it, and the file imported there is part of it."""
    source = ModuleSource.made_by(Factory.of("lazy.py:make"), make_data(8))
    source.load(Compute())
    assert "beside_late" in sys.modules
    before = Factory.of("lazy.py:make").make()[1]
    (lazy / "beside_late.py").write_text("scale = 2\n")
    assert Factory.of("lazy.py:make").make()[1] != before


def test_code_that_cannot_be_followed_stops_nothing(lazy):
    """Relative imports without a package, another Python's syntax and absent packages are passed over."""
    (lazy / "beside_late.py").write_text("print 'Python 2'\n")
    (lazy / "net.py").write_text(
        "from torch import nn\n"
        "def late():\n    from . import nothing\n    import beside_late, absent.part\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(144, 4))\n"
    )
    assert Factory.of("net.py:make").make()[1] == Factory.of("net.py:make").make()[1]
