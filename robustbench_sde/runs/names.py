"""Names of classifiers in tables: one rule for all commands, so that no two have the same name."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from robustbench_sde.runs.sources import Source


def distinct_paths(paths: Iterable[Path]) -> list[Path]:
    """Return each file once, in order, however its path is written."""
    return list({os.path.abspath(path): path for path in reversed(list(paths))}.values())[::-1]  # noqa: PTH100 (links stay)


def names_of_files(paths: Sequence[Path]) -> dict[Path, str]:
    """Name checkpoint files by their file names without the ending: ``m``.

    Files of one name get as many folders in front as tell them apart: ``a/m`` and ``b/m``.
    """
    parts = {path: Path(os.path.abspath(path)).with_suffix("").parts for path in paths}  # noqa: PTH100
    names = {}
    for path in paths:
        rivals = {other for other in parts.values() if other[-1] == parts[path][-1]} - {parts[path]}
        count = 1
        while any(rival[-count:] == parts[path][-count:] for rival in rivals):
            count += 1
        names[path] = "/".join(parts[path][-count:])
    return names


def with_distinct_names(sources: Iterable[Source]) -> list[Source]:
    """Return the sources, equal ones once, with names that tell their classifiers apart.

    Checkpoint files are told apart by their folders (`names_of_files`), everything else by a number: ``net``,
    ``net 2``.
    """
    distinct = list(dict.fromkeys(sources))
    files = names_of_files([source.path for source in distinct if source.path is not None])
    taken = Counter(files.values())
    named = []
    for source in distinct:
        if source.path is not None:
            named.append(replace(source, name=files[source.path]))
            continue
        name, number = source.name, 1
        while taken[name]:
            number += 1
            name = f"{source.name} {number}"
        taken[name] += 1
        named.append(replace(source, name=name))
    return named
