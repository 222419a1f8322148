"""Write YAML files whose longest list has one line for each entry, and read them without a slow YAML reader.

An entry is written as JSON, which is YAML too: a list of thousands is read 20 times as fast. What was edited,
or written differently, is read as YAML.
"""

import json
import math
import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from robustbench_sde.storage.files import parse_yaml, read_limited, to_yaml

_BEGIN = "- {"
#: letters that YAML 1.1 allows in a text only as an escape, or that end a line there
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def to_listed_yaml(content: Mapping[str, object], name: str) -> str:
    """Return YAML of plain values, keys in their order; entries of the list `name` have one line each.

    A list with a value that JSON and YAML do not write alike, like infinity, is left to YAML.
    """
    entries = content[name]
    try:
        lines = [f"- {_json(entry)}\n" for entry in entries] if isinstance(entries, list) else []
    except ValueError:
        lines = []
    if not lines:
        return to_yaml(content)
    names = list(content)
    place = names.index(name)
    before, after = ({key: content[key] for key in part} for part in (names[:place], names[place + 1 :]))
    return "".join([to_yaml(before) if before else "", f"{name}:\n", *lines, to_yaml(after) if after else ""])


def read_listed_yaml(path: Path, name: str, megabytes: int) -> dict[str, Any]:
    """Read what `to_listed_yaml` has written, or any other YAML file that holds a mapping.

    Args:
        path: the file.
        name: name of the list whose entries may have one line each.
        megabytes: size above which the file is refused.

    Raises:
        BenchError: as in `files.read_yaml`.
    """
    text = read_limited(path, megabytes)
    before, found, after = text.partition(f"\n{name}:\n{_BEGIN}")
    lines = list(takewhile(lambda line: line.startswith(_BEGIN), f"{_BEGIN}{after}".split("\n")))
    try:
        entries = [json.loads(line.removeprefix("- ")) for line in lines] if found else []
    except (ValueError, RecursionError):
        entries = []
    rest = f"{_BEGIN}{after}"[sum(len(line) + 1 for line in lines) :]
    if not entries or rest.startswith(("-", " ")):  # the list goes on in another style
        return parse_yaml(path, text)
    others = parse_yaml(path, f"{before}\n{name}: []\n{rest}")
    return others | ({name: entries} if others.get(name) == [] else {})


def _json(value: object) -> str:
    """Return a plain value as JSON that YAML reads alike.

    Raises:
        ValueError: there is no such text.
    """
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return f"{{{', '.join(f'{_json(key)}: {_json(own)}' for key, own in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_json, value))}]"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return _ESCAPED.sub(lambda letter: f"\\u{ord(letter[0]):04x}", text)
    if isinstance(value, float) and math.isfinite(value):
        text = repr(float(value))
        return text if "." in text else text.replace("e", ".0e")  # 1e-05 is a text in YAML 1.1
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    raise ValueError(f"{value!r} is not plain")
