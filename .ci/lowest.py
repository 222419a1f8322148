"""Prints the lowest version that pyproject.toml allows of every dependency, as constraints for pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
requirements = [*project["dependencies"], *project["optional-dependencies"]["test"]]
for requirement in requirements:
    found = re.match(r"([A-Za-z0-9._-]+)(?:\[.*?\])?\s*[>=]=\s*([0-9.]+)", requirement)
    if found:
        print("==".join(found.groups()))
