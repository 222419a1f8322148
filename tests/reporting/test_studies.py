"""Views of studies that have little to show."""

import math
from itertools import pairwise

import pandas as pd
import pytest
from rich.console import Console

from robustbench_sde.reporting import studies
from robustbench_sde.reporting.studies import study_table, write_study
from robustbench_sde.reporting.views import VIEWS
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import RECORDS, SUMMARY, table


def summary(*rows):
    """A summary of these rows; columns that are not given are 0 or empty."""
    blank = {column.name: "" if column.dtype == "str" else 0 for column in SUMMARY}
    return table([blank | row for row in rows], SUMMARY)


@pytest.mark.parametrize("name", VIEWS)
def test_a_study_of_which_every_cell_has_failed_has_an_empty_table(tmp_path, name):
    """And no figure."""
    rows = summary({"checkpoint": "net", "perturbation": "clean", "status": "failed: no memory"})
    found, drawn = write_study(name, rows, {"net": 0.5}, RunFolder(tmp_path))
    assert found.empty
    assert drawn == []
    assert study_table(Console(width=100), name, found, "title").row_count == 0


def test_noise_of_several_scales_has_a_place_of_its_own(tmp_path):
    """Beside those that are numbers."""
    sigmas = (math.nan, 0.0, 0.5)
    known = {"checkpoint": "net", "perturbation": "clean", "severity": math.nan, "status": "ok"}
    rows = summary(*({**known, "sigma": sigma} for sigma in sigmas))
    found, drawn = write_study("sigma", rows, {"net": math.nan}, RunFolder(tmp_path))
    assert found["across"].tolist() == ["as trained", 0.0, 0.5]
    assert (tmp_path / "figures" / f"{drawn[0].name}.svg").exists()


def test_the_table_says_a_name_once(tmp_path):
    """Lines of one checkpoint follow each other, along their axis."""
    known = {"perturbation": "clean", "severity": math.nan, "status": "ok"}
    rows = summary(
        *(known | {"checkpoint": name, "score_draws": draws} for draws in (4, 1) for name in ("b", "a"))
    )
    found, _ = write_study("draws", rows, {}, RunFolder(tmp_path))
    assert found[["line", "across"]].to_numpy().tolist() == [["b", 1], ["b", 4], ["a", 1], ["a", 4]]
    assert pd.read_csv(tmp_path / "study.csv")["across"].tolist() == [1, 4, 1, 4]
    shown = study_table(Console(width=100), "draws", found, "title")
    assert [str(cell) for cell in shown.columns[1].cells] == ["b", "", "a", ""]


def test_a_grid_says_how_far_probabilities_and_logits_are_from_the_finest(tmp_path):
    """Both are compared by image: a certain image may move by many logits and no probability."""
    folder = RunFolder(tmp_path)
    blank = {column.name: "" if column.dtype == "str" else 0 for column in RECORDS}
    rows = []
    for steps, probabilities in ((1, (0.5, 0.999)), (100, (0.8, 0.9))):
        row = {"checkpoint": "net", "perturbation": "clean", "severity": math.nan, "status": "ok"}
        row |= {"solver_steps": steps, "cell": f"{steps:016d}", "images": 2}
        records = table(
            [
                blank | {"image_id": i, "label": 1, "label_probability": p}
                for i, p in enumerate(probabilities)
            ],
            RECORDS,
        )
        folder.write_cell(row["cell"], "net clean", row, records)
        rows.append(row)
    found, _ = write_study("grid", summary(*rows), {}, folder)
    assert found["change"].tolist()[0] == pytest.approx((0.3 + 0.099) / 2)
    logits = (math.log(4), math.log(999) - math.log(9))
    assert found["logit_change"].tolist()[0] == pytest.approx(sum(logits) / 2)
    assert found["logit_change_high"].iloc[0] > found["logit_change"].iloc[0] > 1  # no share
    assert found[["change", "logit_change"]].iloc[1].isna().all()
    assert "| 1 | " in (tmp_path / "study.md").read_text()


def test_numbers_of_a_heat_map_stand_apart(tmp_path, monkeypatch):
    """However long the names are beside them."""
    found = []

    def overlapping(figure, folder, name):
        figure.draw_without_rendering()
        for axes in figure.axes:
            boxes = sorted(
                (text.get_window_extent() for text in axes.texts), key=lambda box: (box.y0, box.x0)
            )
            found.extend(one.overlaps(other) for one, other in pairwise(boxes))

    monkeypatch.setattr(studies, "save", overlapping)
    known = {"perturbation": "clean", "severity": math.nan, "status": "ok", "accuracy": 1.0}
    name = "a-checkpoint-of-a-name"
    sigmas = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5)
    rows = summary(*(known | {"checkpoint": name, "accuracy_high": 0.9, "sigma": sigma} for sigma in sigmas))
    write_study("sigma", rows, {name: 0.5}, RunFolder(tmp_path))
    assert found == [False] * 6
