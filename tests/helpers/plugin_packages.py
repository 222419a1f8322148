"""Plug-in packages for tests: the example, installed by pip, and broken ones made by hand."""

import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"


def install_example(folder: Path) -> Path:
    """Install examples/plugin as pip does, without network, into `folder`/site."""
    source = shutil.copytree(EXAMPLE, folder / "source")  # setuptools builds beside the source
    site = folder / "site"
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", site, source], check=True, timeout=120
    )
    return site


def make_package(site: Path, name: str, group: str, entry: str, code: str) -> None:
    """Package `name` 2.0 whose module has `code` and whose one entry point is `entry`."""
    module = name.replace("-", "_")
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{module}.py").write_text(code)
    info = site / f"{module}-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(f"[robustbench_sde.{group}]\n{entry}\n")
