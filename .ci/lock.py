"""Prints requirements with hashes, for `pip install --require-hashes`, from reports of pip.

    python .ci/lock.py REPORT...

A report is what `pip install --dry-run --report` writes under one Python. A package whose version differs
between Pythons has a line for each, with a marker. Addresses of package indexes are left out.
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path


def lines(reports: list[dict]) -> list[str]:
    """Return the lines of the file, sorted by name."""
    pythons: dict[tuple[str, str], set[str]] = defaultdict(set)
    hashes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for report in reports:
        for item in report["install"]:
            if "dir_info" in item["download_info"]:  # the project itself
                continue
            name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
            pinned = name, item["metadata"]["version"].partition("+")[0]
            pythons[pinned].add(report["environment"]["python_version"])
            hashes[pinned].add(item["download_info"]["archive_info"]["hashes"]["sha256"])
    every = {report["environment"]["python_version"] for report in reports}
    found = []
    for (name, version), where in sorted(pythons.items()):
        only = " or ".join(f'python_version == "{each}"' for each in sorted(where))
        marker = "" if where == every else f" ; {only}"
        parts = [f"{name}=={version}{marker}"]
        parts += [f"    --hash=sha256:{each}" for each in sorted(hashes[name, version])]
        found.append(" \\\n".join(parts))
    return found


def main() -> None:
    """Read the reports and print the file."""
    reports = [json.loads(Path(path).read_text()) for path in sys.argv[1:]]
    pythons = ", ".join(sorted({report["environment"]["python_version"] for report in reports}))
    print(f"# made by `make lock`: every dependency of sde-bench for Python {pythons} on Linux x86_64")
    print("\n".join(lines(reports)))


if __name__ == "__main__":
    main()
