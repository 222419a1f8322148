"""Cells cut into shards, packed for other machines, and put together again: the same to the last bit."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from builders import save_dead_model, save_digits_model
from PIL import Image

from robustbench_sde.data.official import open_official
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.perturbations.corruptions.frost import PHOTOGRAPHS
from robustbench_sde.perturbations.corruptions.perturbation import make_corruptions, stored_corruptions
from robustbench_sde.runs.cells import Cell, attack_cells
from robustbench_sde.runs.cluster.parcel import (
    PackedImages,
    Parcel,
    files_of,
    software,
    with_images_in_memory,
)
from robustbench_sde.runs.cluster.shards import Job, Shard, groups, pieces
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.worker import Worker
from robustbench_sde.storage.examples import EXAMPLES

SETTINGS = ScoreSettings(draws=3, rows=6)


@pytest.fixture(scope="module")
def data(digits):
    return digits.subset(10)


@pytest.fixture
def source(tmp_path, data):
    return Source.of(save_digits_model(tmp_path / "tiny.safetensors", "additive"), data)


def pgd(**changes):
    return make_attack("pgd", **({"eps": 0.1, "steps": 2, "eot_draws": 2} | changes))


def test_scorings_and_the_control_stay_together(source):
    """Images are made once for all scorings; clean and control cells, which must agree, run side by side."""
    few, many = SETTINGS, replace(SETTINGS, draws=5)
    cells = [cell for settings in (few, many) for cell in attack_cells(source, [pgd()], settings)]
    cells.append(Cell(source, pgd(), replace(few, seed=1)))
    kinds = [[type(cell.perturbation).__name__ for cell in group] for group in groups(cells)]
    assert kinds == [["Clean", "Control", "Clean", "Control"], ["PGD", "PGD"], ["PGD"]]


@pytest.mark.parametrize(
    ("rows", "draws", "eot", "stochastic", "wanted", "size"),
    [
        (256, 32, 8, True, 256, 256),  # batches of 64 and of 8 images
        (256, 32, 8, True, 40, 64),
        (256, 32, 8, False, 40, 256),  # an ODE has no draws: batches of 256
        (6, 3, 2, True, 1, 24),  # batches of 24 and of 2
        (256, 48, 8, True, 100, 320),  # 64 and 5
        (4, 9, 9, True, 7, 16),
    ],
)
def test_no_batch_is_cut(source, rows, draws, eot, stochastic, wanted, size):
    """A shard is as many images as asked for, rounded up to whole batches of perturbing and of scoring."""
    settings = ScoreSettings(draws=draws, rows=rows)
    cell = Cell(source if stochastic else replace(source, kinds=()), pgd(eot_draws=eot), settings)
    found = pieces([cell], 1000, wanted)
    assert {piece.stop - piece.start for piece in found[:-1]} <= {size}
    assert [index for piece in found for index in range(1000)[piece]] == list(range(1000))
    for batch in (
        cell.perturbation.images_per_batch(rows, stochastic),
        settings.images_per_batch(stochastic),
    ):
        assert math.gcd(size, batch) == batch


def test_one_noise_path_is_scored_in_batches_of_a_deterministic_model(source):
    """fixed-path attacks with draws in a pass, and scores without."""
    attack = make_attack("fixed-path", norm="linf", eps=0.1, eot_draws=8)
    found = pieces([Cell(source, attack, ScoreSettings(draws=32, rows=256))], 1000, 40)
    assert {piece.stop - piece.start for piece in found[:-1]} == {256}


def run_in_shards(cells, data, wanted, tmp_path):
    """Results by way of parcels, with none of the files in place."""
    packed = PackedImages.of(data)
    results = {}
    for group in groups(cells):
        job = Job(group, data, pieces(group, len(data), wanted))
        paths = files_of(group)
        files = [np.fromfile(path, dtype=np.uint8) for path in paths]
        parcels = [
            Parcel(
                tuple(with_images_in_memory(cell, data.ids[piece]) for cell in group),
                piece,
                paths,
                Compute(),
                1,
                {},
                software(group),
            )
            for piece in job.pieces
        ]
        away = tmp_path.rename(tmp_path.with_name("away"))
        reports = [parcel.run(packed, *files) for parcel in parcels]
        away.rename(tmp_path)
        for index in reversed(range(len(parcels))):  # the order in which they come back is anything
            results |= dict(Shard(job, index).finish(reports[index].results))
    return results


def test_counts_of_gradients_come_back_from_other_machines(data, tmp_path):
    """Shards that are put together have the counts and the suspect rows of one machine."""
    (tmp_path / "here").mkdir()
    dead = Source.of(save_dead_model(tmp_path / "here" / "dead.safetensors", "none"), data)
    auto = make_attack("auto", eps=0.1, steps=2, queries_per_step=1)
    cells = [Cell(dead, attack, SETTINGS) for attack in (pgd(), auto)]
    here = {cell: Worker(data, Compute()).attempt(cell) for cell in cells}
    away = run_in_shards(cells, data, 4, tmp_path / "here")
    for cell in cells:
        assert away[cell].row["status"].startswith("suspect: gradients of 100% of the images are zero")
        assert away[cell].row["status"] == here[cell].row["status"]
        for sign in ("gradients_zero", "gradients_not_finite", "gradients_saturated"):
            assert away[cell].row[sign] == here[cell].row[sign]
            pd.testing.assert_series_equal(away[cell].records[sign], here[cell].records[sign])


def cells_with_files(source, data, tmp_path):
    """Cells of every kind that reads files: another checkpoint, photographs, a published set."""
    other = str(save_digits_model(tmp_path / "other.safetensors", "none"))
    generator = np.random.default_rng(0)
    (tmp_path / "frost").mkdir()
    for name in PHOTOGRAPHS:
        pixels = generator.integers(0, 255, (80, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "frost" / name)
    (tmp_path / "c").mkdir()
    count = int(data.ids.max()) + 1
    labels = np.zeros(count, dtype=np.int64)
    labels[data.ids.numpy()] = data.labels.numpy()
    np.save(tmp_path / "c" / "labels.npy", np.tile(labels, 5))
    np.save(tmp_path / "c" / "fog.npy", generator.integers(0, 255, (5 * count, 32, 32, 1), dtype=np.uint8))
    official = open_official(f"cifar10-c:{tmp_path / 'c'}")
    transfer = make_attack("transfer", eps=0.1, steps=2, source=other)
    return [
        Cell(source, perturbation, SETTINGS)
        for perturbation in (
            Clean(),
            Control(transfer),
            transfer,
            *make_corruptions("frost", [2], frost_dir=tmp_path / "frost"),
            *stored_corruptions(official, data, "fog", [3]),
        )
    ]


@pytest.mark.parametrize("wanted", [1, 7, 100])
def test_shards_add_up_to_the_cell(tmp_path, data, wanted):
    """Records, row and examples equal the undivided cell's to the bit, elsewhere and without its files."""
    home = tmp_path / "home"
    home.mkdir()
    source = Source.of(save_digits_model(home / "tiny.safetensors", "additive"), data)
    cells = [*attack_cells(source, [pgd()], SETTINGS), *cells_with_files(source, data, home)[1:]]
    cells.append(Cell(source, make_attack("fmn", steps=3, eot_draws=2), SETTINGS))
    whole = {cell: Worker(data, Compute()).attempt(cell) for cell in cells}
    found = run_in_shards(cells, data, wanted, home)
    assert found.keys() == set(cells)
    for cell, result in found.items():
        expected = whole[cell]
        pd.testing.assert_frame_equal(result.records, expected.records, check_exact=True)
        row, other = ({**each.row, "seconds": 0} for each in (result, expected))
        assert pd.Series(row).equals(pd.Series(other)), cell.label
        assert torch.equal(result.images, expected.images)
        assert len(result.images) == EXAMPLES


def test_other_software_is_refused(source, data):
    """Another version there would give other numbers under the same name."""
    parcel = Parcel((), slice(0, 2), (), Compute(), 1, {}, ("robustbench-sde 0.0.1",))
    with pytest.raises(ImportError, match=r"it has robustbench-sde .* and not robustbench-sde 0\.0\.1"):
        parcel.run(PackedImages.of(data))


@pytest.mark.parametrize("kind", ["additive", "none"])
def test_random_points_in_pieces_are_those_of_the_whole(tmp_path, data, kind):
    """Noise with samples gives records in pieces that equal those of the whole to the last bit."""
    source = Source.of(save_digits_model(tmp_path / "tiny.safetensors", kind), data)
    cell = Cell(source, make_attack("noise", eps=0.3, samples=4), replace(SETTINGS, rows=8))
    whole = Worker(data, Compute()).attempt(cell)
    parts = pieces([cell], len(data), 3)
    assert len(parts) > 1
    job = Job((cell,), data, parts)
    found = []
    for index, piece in enumerate(parts):
        part = Worker(data.select(data.ids[piece]), Compute()).attempt(cell)
        found += Shard(job, index).finish([part])
    ((_, joined),) = found
    pd.testing.assert_frame_equal(joined.records, whole.records)
    numbers = ("random_accuracy", "reaches_90_low", "reaches_99_high", "samples", "score_draws")
    assert [joined.row[name] for name in numbers] == [whole.row[name] for name in numbers]
    assert whole.row["samples"] == whole.row["score_draws"] == 4
