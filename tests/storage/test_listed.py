"""YAML files whose longest list has one line for each entry."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from robustbench_sde.errors import BenchError
from robustbench_sde.storage import listed
from robustbench_sde.storage.listed import read_listed_yaml, to_listed_yaml

letters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | letters
entries = st.dictionaries(
    letters, scalars | st.lists(scalars, max_size=2) | st.dictionaries(letters, scalars)
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("listed") / "file.yaml"


@given(cells=st.lists(entries, min_size=1, max_size=3), after=st.booleans())
@example(cells=[{"step": 1e-05, "far": 1e30, "name": "\x85\u2028\ufeff😀\x1b: #", "yes": "yes"}], after=True)
@example(cells=[{}, {"cell": math.inf}], after=False)
@example(cells=[{"cell": "0b01", "eps": math.inf}], after=False)
def test_any_yaml_reader_reads_what_was_written(place, cells, after):
    """Whatever the texts and numbers, both readers return the values that were written."""
    content = {"format": 1, "cells": cells} | ({"suite": {"cells": []}} if after else {})
    place.write_text(to_listed_yaml(content, "cells"), encoding="utf-8", newline="")
    assert read_listed_yaml(place, "cells", megabytes=1) == content
    assert yaml.safe_load(place.read_text(encoding="utf-8")) == content


def test_entries_take_one_line_and_no_yaml_reader(place, monkeypatch):
    """A list of thousands is not given to the YAML reader, which would take a second for it."""
    content = {"format": 1, "cells": [{"cell": f"{index:x}"} for index in range(3000)], "last": [2]}
    place.write_text(to_listed_yaml(content, "cells"))
    assert len(place.read_text().splitlines()) == 3004
    seen, parse = [], listed.parse_yaml
    monkeypatch.setattr(listed, "parse_yaml", lambda path, text: seen.append(text) or parse(path, text))
    assert read_listed_yaml(place, "cells", megabytes=1) == content
    assert seen == ["format: 1\ncells: []\nlast:\n- 2\n"]


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\ncells:\n- cell: x\n  b: 2\n",
        "a: 1\ncells:\n- {cell: x, b: 2}\n",
        'a: 1\ncells:\n- {"cell": "x",\n  "b": 2}\n',
        'a: 1\ncells:\n- {"cell": "x",  "b": 2}\n# end\n',
        'a: 1\ncells:\n- {"cell": "y"}\ncells:\n- {"cell": "x", "b": 2}\n',
    ],
)
def test_other_styles_are_read_as_yaml(place, text):
    """A manifest of an earlier version, or one that somebody has edited, holds what YAML says."""
    place.write_text(text)
    assert read_listed_yaml(place, "cells", megabytes=1) == {"a": 1, "cells": [{"cell": "x", "b": 2}]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('a: &x 1\ncells:\n- {"cell": "x"}\n', "anchors"),
        ('a: 1\ncells:\n- {"cell": "x"}\n  b: 2\n', "not YAML"),
        ('a: 1\ncells:\n- {"cell": "x"}\nb: [\n', "not YAML"),
    ],
)
def test_damage_is_told(place, text, reason):
    """The text around the lines is checked as in any YAML file."""
    place.write_text(text)
    with pytest.raises(BenchError, match=reason):
        read_listed_yaml(place, "cells", megabytes=1)
