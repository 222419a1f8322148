"""Cells that an earlier version has solved in batches under an adaptive solver are computed again."""

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest
from builders import make_data, make_model, save_digits_model

import robustbench_sde as rb
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.runs import cells
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.sources import LiveSource, Source


@pytest.fixture(scope="module")
def digits():
    """Six digits."""
    return rb.load_dataset("digits", images=6)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint whose header says dopri5, and one whose header says euler."""
    folder = tmp_path_factory.mktemp("adaptive")
    trained = save_digits_model(folder / "trained.safetensors", "none", solver="dopri5")
    return trained, save_digits_model(folder / "euler.safetensors", "none")


WAYS = {
    "the header": lambda data, trained, euler: (Source.of(trained, data), Clean()),
    "the header, other steps": lambda data, trained, euler: (
        Source.of(trained, data, solver_steps=2),
        Clean(),
    ),
    "the header, and asked for": lambda data, trained, euler: (
        Source.of(trained, data, solver="dopri5"),
        Clean(),
    ),
    "asked for": lambda data, trained, euler: (Source.of(euler, data, solver="dopri5"), Clean()),
    "a classifier in memory": lambda data, trained, euler: (
        LiveSource.around(rb.load_checkpoint(trained)),
        Clean(),
    ),
    "behind noise on the image": lambda data, trained, euler: (
        Source.of(trained, data).smoothed(0.25),
        Clean(),
    ),
    "the attack": lambda data, trained, euler: (
        Source.of(euler, data),
        make_attack("other-solver", eps=0.1, on_solver="dopri5"),
    ),
    "the source of a transfer": lambda data, trained, euler: (
        Source.of(euler, data),
        make_attack("transfer", eps=0.1, source=str(trained)),
    ),
}


def old_key(cell, data):
    """Return the key that the cell had before."""
    parts = cell._parts(data)
    return cells._hash({name: value for name, value in parts.items() if name != "adaptive"})


@pytest.mark.parametrize("way", WAYS)
def test_the_key_is_another_one_however_it_is_said(digits, files, way):
    """The key of an adaptive cell is not the one that earlier versions gave, and that one is known as old."""
    source, perturbation = WAYS[way](digits, *files)
    cell = Cell(source, perturbation, ScoreSettings(2))
    assert cell.key(digits) != old_key(cell, digits)
    assert "whole batches" in cell.earlier_keys(digits)[old_key(cell, digits)]


def test_keys_of_fixed_steps_stay(digits, files):
    """Solvers with fixed steps have the keys that they had, asked for or trained."""
    for settings in ({}, {"solver": "rk4"}, {"solver_steps": 7}):
        cell = Cell(Source.of(files[1], digits, **settings), Clean(), ScoreSettings(2))
        assert cell.key(digits) == old_key(cell, digits)
    cell = Cell(Source.of(files[0], digits, solver="rk4"), Clean(), ScoreSettings(2))
    assert cell.key(digits) == old_key(cell, digits)


def test_a_cell_of_an_earlier_version_is_not_served(tmp_path, monkeypatch):
    """A run stored under the old keys is computed again; under today's it is found."""
    data, model = make_data(), make_model("none", solver="dopri5")
    asked = {"eps": 0.1, "steps": 1, "eot_draws": 1, "score_draws": 2, "out": tmp_path / "run"}
    first = rb.attack(model, data, **asked)
    assert rb.attack(model, data, **asked).reused == 3
    work = {cell: old_key(cell, data) for cell in _cells_of(model, data)}
    for cell, old in work.items():
        (path,) = (tmp_path / "run" / "records").glob(f"*-{cell.key(data)}.parquet")
        table = pq.read_table(path)
        metadata = dict(table.schema.metadata)
        metadata[b"sde-bench"] = json.dumps(json.loads(metadata[b"sde-bench"]) | {"cell": old}).encode()
        pq.write_table(
            table.replace_schema_metadata(metadata), path.with_name(path.name.replace(cell.key(data), old))
        )
        path.unlink()
    again = rb.attack(model, data, **asked)
    assert again.reused == 0
    columns = ["perturbation", "accuracy", "cell"]
    pd.testing.assert_frame_equal(first.summary[columns], again.summary[columns])


def _cells_of(model, data):
    source = LiveSource.around(model)
    attack = make_attack("pgd", eps=0.1, steps=1, eot_draws=1)
    return cells.attack_cells(source, [attack], ScoreSettings(2))
