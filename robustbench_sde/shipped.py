"""List the files that are installed with the package; nothing heavy is imported."""

from importlib import resources
from pathlib import Path

#: folder of the installed package
PACKAGE = Path(str(resources.files("robustbench_sde")))
#: folder of the suites, like ``smoke.yaml``
SUITES = PACKAGE / "runs" / "suite" / "shipped"
#: folder of the suites that are studies of the paper; part of `SUITES`
STUDIES = SUITES / "study"
#: folder of the configurations of trainings, like ``paper/ode.yaml``
CONFIGS = PACKAGE / "training" / "configs"
#: folder of the checkpoints
CHECKPOINTS = PACKAGE / "models" / "shipped"


def shipped_files(folder: Path) -> dict[str, Path]:
    """Return the YAML files below `SUITES`, `STUDIES` or `CONFIGS`, by name, like ``study/clean``."""
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
    return dict(sorted(found.items()))
