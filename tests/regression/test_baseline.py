"""The baseline file: what it holds, what it refuses, how large it is; and the folder of a run beside it."""

import base64
import json
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from regression.worlds import DRAWS, changed, make_cell, make_side, write_run

from robustbench_sde.errors import BenchError, ExitCode
from robustbench_sde.regression.baseline import read_baseline, read_side, save_baseline
from robustbench_sde.regression.measured import Side, read_run
from robustbench_sde.regression.pairing import differences


@pytest.fixture
def side():
    """Clean, an attack and a corruption, of a deterministic and of a random model."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(1000)[:203]
    cells = []
    for checkpoint in ("ode", "sde"):
        for number, facts in enumerate(
            (
                {"perturbation": "clean", "norm": "", "eps": None, "settings": "Clean()"},
                {},
                {
                    "perturbation": "fog",
                    "norm": "",
                    "eps": None,
                    "severity": 3.0,
                    "settings": "Fog(severity=3)",
                },
            )
        ):
            right = rng.binomial(DRAWS, rng.beta(0.5, 0.2 + number, 203))
            draws = right if checkpoint == "sde" else None
            cells.append(make_cell(right > DRAWS / 2, draws, ids=ids, checkpoint=checkpoint, **facts))
    return Side("run", tuple(cells), {"version": "0.1", "git_revision": "", "command": "sde-bench run"})


def assert_equal(found, expected):
    assert [cell.facts for cell in found.cells] == [cell.facts for cell in expected.cells]
    for one, other in zip(found.cells, expected.cells, strict=True):
        for name in ("ids", "correct", "right_draws"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_baseline_holds_every_outcome(tmp_path, side):
    """Written and read it is the same, and the same bytes when written again."""
    save_baseline(side, tmp_path / "b.json")
    found = read_baseline(tmp_path / "b.json")
    assert_equal(found, side)
    assert found.made == side.made
    save_baseline(found, tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["cells"][0][-2] == round(
        float(side.cells[0].correct.mean()), 6
    )
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "again.json").read_bytes()


def test_a_run_folder_and_its_baseline_are_the_same_side(tmp_path, side):
    """Through Parquet and the manifest; the control is left out."""
    control = make_cell(side.cells[0].correct, ids=side.cells[0].ids, perturbation="control")
    folder = write_run(tmp_path / "run", make_side(*side.cells, control))
    run = read_side(folder)
    assert_equal(run, side)
    save_baseline(run, tmp_path / "b.json")
    assert_equal(read_side(tmp_path / "b.json"), side)


def test_a_checksum_is_of_the_content_and_old_files_have_none(tmp_path, side):
    """Laid out anew a file is the same; without a checksum, as earlier versions wrote it, it is read."""
    path = tmp_path / "b.json"
    save_baseline(side, path)
    parsed = json.loads(path.read_text())
    path.write_bytes(json.dumps(parsed, indent=4, sort_keys=True).replace("\n", "\r\n").encode())
    assert_equal(read_baseline(path), side)
    del parsed["checksum"]
    path.write_text(json.dumps(parsed))
    assert_equal(read_baseline(path), side)


def test_number_formats_are_kept_and_a_change_of_them_is_named(tmp_path, side):
    """A cell in bf16 comes back as such from the run folder and the baseline; other files say nothing."""
    first, *others = side.cells
    coarse = replace(first, facts=first.facts.model_copy(update={"precision": "bf16"}))
    run = read_side(write_run(tmp_path / "run", make_side(coarse, *others)))
    save_baseline(run, tmp_path / "b.json")
    found = read_side(tmp_path / "b.json")
    assert [cell.facts.precision for cell in found.cells] == ["bf16"] + ["fp32"] * 5
    assert differences(first, found.cells[0]) == ["precision fp32 -> bf16"]
    save_baseline(side, tmp_path / "plain.json")
    assert "precision" not in (tmp_path / "plain.json").read_text()


def test_a_changed_cell_changes_three_lines(tmp_path, side):
    """One says what is new for people, one holds the outcomes, and the checksum is another."""
    save_baseline(side, tmp_path / "old.json")
    worse = side.cells[4].correct.copy()
    worse[np.flatnonzero(worse)[0]] = False
    cell = side.cells[4]
    cells = (
        *side.cells[:4],
        make_cell(worse, cell.right_draws, ids=cell.ids, checkpoint="sde"),
        side.cells[5],
    )
    save_baseline(Side("run", cells, side.made), tmp_path / "new.json")
    old, new = ((tmp_path / name).read_text().splitlines() for name in ("old.json", "new.json"))
    different = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert len(different) == 3
    assert different[0][0].startswith('"checksum": ')
    assert different[1][0].startswith('["sde", "additive", 0.5, "pgd", "linf", 0.03')


def test_five_hundred_cells_of_noisy_images_are_below_200_kb(tmp_path):
    """More cells than the digits suite has, 200 images, 32 draws that disagree on most images."""
    rng = np.random.default_rng(0)
    cells = []
    for number in range(500):
        right = rng.binomial(32, rng.beta(0.5, 0.3, 200))
        settings = (
            f"Corrupted(corruption='gaussian_noise', severity={number % 120}, family=None, frost_dir=None)"
        )
        facts = {"checkpoint": "digits-multiplicative", "score_draws": 32, "norm": "", "eps": None}
        cells.append(make_cell(right > 16, right, perturbation="gaussian_noise", settings=settings, **facts))
    save_baseline(make_side(*cells), tmp_path / "b.json")
    assert (tmp_path / "b.json").stat().st_size < 200_000


def edit(**changes):
    """A spoiler of a parsed baseline that sets some keys."""
    return lambda parsed: parsed | changes


def edit_cell(place, value):
    def spoil(parsed):
        parsed["cells"][4][place] = value
        return parsed

    return spoil


def edit_outcome(place, content):
    def spoil(parsed):
        parsed["outcomes"][4][place] = base64.b64encode(content).decode()
        return parsed

    return spoil


def edit_text(place):
    """A spoiler that adds a sign which base64 does not have."""

    def spoil(parsed):
        parsed["outcomes"][4][place] = "!" + parsed["outcomes"][4][place]
        return parsed

    return spoil


SPOILED = {
    "another format": (edit(format=2), "format"),
    "an unknown key": (edit(extra=1), "extra"),
    "no images": (edit(images=[]), "images"),
    "an image twice": (edit(images=[7] * 203), "images repeat"),
    "a negative id": (edit(images=[-1]), "images.0"),
    "an id beyond 64 bits": (edit(images=[2**63]), "images.0"),
    "a wrong column": (edit(columns=["checkpoint"]), "columns do not match"),
    "too few outcomes": (edit(outcomes=[]), "outcomes"),
    "cells that are no lists": (edit(cells=[1]), "cells.0"),
    "short cells": (edit(cells=[["ode"]]), "cells.0"),
    "a wrong accuracy": (edit_cell(-2, 0.5), "was edited: sde pgd linf eps=0.03 says accuracy 0.5"),
    "NaN": (edit_cell(-2, float("nan")), "cells.4.accuracy"),
    "a setting that is not there": (edit_cell(-3, 99), "no settings 99"),
    "a setting just behind the last": (
        lambda parsed: edit_cell(-3, len(parsed["settings"]))(parsed),
        r"no settings \d+$",
    ),
    "no draws": (edit_cell(7, 0), "cells.4.score_draws"),
    "fewer draws than are right": (edit_cell(7, 3), "of 3 draws are right"),
    "an escape sequence": (edit_cell(0, "\x1b[31mred"), "cells.4.checkpoint"),
    "a name of two lines": (edit_cell(0, "a\n::error::b"), "cells.4.checkpoint"),
    "too few bits": (edit_outcome(0, b"\0"), "1 bytes for 203 images"),
    "letters that are no base64": (edit_text(0), "outcomes of sde pgd"),
    "draws that are no base64": (edit_text(1), "outcomes of sde pgd"),
    "more draws than 16 bits hold": (edit_cell(7, 65_536), "cells.4.score_draws"),
    "draws that are not packed": (edit_outcome(1, b"\0\1"), "outcomes of sde pgd"),
    "a zip bomb": (edit_outcome(1, zlib.compress(bytes(10**8))), "not one number for each of 203 images"),
    "another id of an image": (
        lambda parsed: parsed | {"images": [*parsed["images"][:-1], 10**6]},
        "edited, or merged .* its checksum",
    ),
    "another definition of the noise": (edit(noise_definition=7), "its checksum"),
    "another command": (edit(made={}), "its checksum"),
    "no definition of the noise": (
        lambda parsed: {name: value for name, value in parsed.items() if name != "noise_definition"},
        "its checksum",
    ),
    "another checksum": (edit(checksum="sha256:00"), "its checksum"),
    "a list instead of a mapping": (lambda parsed: [parsed], "not a baseline"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_baseline_is_one_line_and_little_memory(tmp_path, side, name):
    """Whatever is wrong with it."""
    spoil, message = SPOILED[name]
    path = tmp_path / "b.json"
    save_baseline(side, path)
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    tracemalloc.start()
    with pytest.raises(BenchError, match=message.replace("[", r"\[")) as caught:
        read_baseline(path)
    assert tracemalloc.get_traced_memory()[1] < 40_000_000  # it reads 16 MB at most; the bomb has 100
    tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert caught.value.exit_code is ExitCode.INPUT_ERROR


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_truncated_baseline_is_one_line(tmp_path, side, share):
    """Wherever it ends."""
    path = tmp_path / "b.json"
    save_baseline(side, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))].rstrip(b"}\n"))
    with pytest.raises(BenchError, match="is not a baseline"):
        read_baseline(path)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"\xff\xfe", b" " * 16_000_001], ids=["deep", "bytes", "large"]
)
def test_what_is_no_text_of_ours_is_refused(tmp_path, content):
    """Nested without end, not UTF-8, or too large."""
    (tmp_path / "b.json").write_bytes(content)
    with pytest.raises(BenchError, match="not a baseline"):
        read_baseline(tmp_path / "b.json")


UNFIT = [
    ({"status": "invalid: the control differs"}, True, "invalid", ExitCode.INVALID),
    ({}, False, "not complete", ExitCode.INPUT_ERROR),
    ({"ids": np.arange(10, 370)}, True, "different images", ExitCode.INPUT_ERROR),
    ({"fingerprint": "sha256:bb"}, True, "different images", ExitCode.INPUT_ERROR),
]


@pytest.mark.parametrize(("facts", "complete", "message", "code"), UNFIT)
def test_a_run_that_is_no_reference_gives_no_baseline(tmp_path, facts, complete, message, code):
    """Invalid, interrupted, or on several sets of images."""
    before, _ = changed(360, 200)
    other = make_cell(before, perturbation="fog", **facts)
    folder = write_run(tmp_path / "run", make_side(make_cell(before), other), complete=complete)
    with pytest.raises(BenchError, match=message) as caught:
        save_baseline(read_run(folder), tmp_path / "b.json")
    assert caught.value.exit_code is code
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [('"perturbation":', '"perturbed":'), ("cells:", "cells: 3\nothers:"), ("robustbench-sde:", "other:")],
)
def test_an_edited_manifest_is_one_line(tmp_path, old, new):
    """The manifest says how the perturbations were made; without that there is nothing to compare."""
    before, _ = changed(360, 200)
    manifest = write_run(tmp_path / "run", make_side(make_cell(before))) / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace(old, new))
    with pytest.raises(BenchError, match="has been changed") as caught:
        read_run(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_settings_that_were_edited_are_not_told_as_nothing():
    """A text of settings that its own parameters contradict is named as such."""
    cell = make_cell([True, False])
    facts = cell.facts.model_copy(update={"settings": cell.facts.settings.replace("steps=20", "steps=21")})
    edited = replace(cell, facts=facts)
    assert differences(edited, cell) == ["settings in their text only, as in a file that was edited"]
