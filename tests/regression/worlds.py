"""Runs with known truth, in memory and on disk."""

import numpy as np
import pandas as pd

from robustbench_sde.evaluation.numbers import numbers_of
from robustbench_sde.regression.measured import ComparedCell, Facts, Side
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import RECORDS, SUMMARY, table

DRAWS = 16


def make_cell(correct, right_draws=None, *, ids=None, status="ok", **facts):
    """A cell with these outcomes; of a deterministic model unless draws are given."""
    correct = np.asarray(correct, dtype=bool)
    known = {
        "checkpoint": "net",
        "noise": "none" if right_draws is None else "additive",
        "sigma": 0.0 if right_draws is None else 0.5,
        "perturbation": "pgd",
        "norm": "linf",
        "eps": 0.03,
        "severity": None,
        "score_draws": 1 if right_draws is None else DRAWS,
        "rule": "mean-prob",
        "seed": 0,
        "dataset": "digits",
        "fingerprint": "sha256:aa",
        "settings": "PGD(norm='linf', eps=0.03, steps=20, eot_draws=8)",
        "noise_definition": 0 if right_draws is None else 2,
    }
    right = correct if right_draws is None else right_draws
    return ComparedCell(
        Facts(**known | facts),
        np.arange(len(correct)) if ids is None else np.asarray(ids),
        correct,
        np.asarray(right, dtype=np.uint16),
        status,
        parameters_in((known | facts)["settings"]),
    )


def parameters_in(settings):
    """The parameters in a text like ``PGD(steps=20, eps=0.03)`` by name."""
    inside = settings.partition("(")[2].removesuffix(")")
    return dict(part.split("=", 1) for part in inside.split(", ") if part)


def make_side(*cells, name="run"):
    return Side(name, cells)


def changed(images, right, lost=0, won=0):
    """Decisions before and after: `right` of `images` are right before, `lost` of them wrong after, ..."""
    before = np.arange(images) < right
    after = before.copy()
    after[:lost] = False
    after[right : right + won] = True
    return before, after


def write_run(path, side, *, complete=True, command="sde-bench run smoke"):
    """The run folder of a side."""
    folder = RunFolder(path)
    rows, entries = [], []
    for number, cell in enumerate(side.cells):
        key, facts = f"cell{number}", cell.facts
        row = {column.name: np.nan if column.dtype == "float64" else 0 for column in SUMMARY}
        row |= {
            name: getattr(facts, name)
            for name in Facts.model_fields
            if name not in ("settings", "precision", "noise_definition")
        }
        row |= {"images": len(cell.ids), "status": cell.status, "cell": key}
        row |= {name: np.nan if row[name] is None else row[name] for name in ("eps", "severity", "sigma")}
        records = {column.name: np.zeros(len(cell.ids)).astype(_plain(column.dtype)) for column in RECORDS}
        records |= {
            "image_id": cell.ids,
            "correct": cell.correct,
            "share_correct": cell.right_draws / facts.score_draws,
            "prediction": 1 - cell.correct.astype(np.int64),
            "margin": np.where(cell.correct, 0.1, -0.1),
            "score_draws": np.full(len(cell.ids), facts.score_draws),
            "tries_split": np.full(len(cell.ids), np.nan),
        }
        if cell.status == "ok":
            row |= numbers_of(table(pd.DataFrame(records), RECORDS), row["norm"], row["eps"])
        rows.append(row)
        entries.append(
            {
                "cell": key,
                "perturbation": facts.settings,
                "parameters": parameters_in(facts.settings),
                "precision": facts.precision,
                "noise_definition": facts.noise_definition,
            }
        )
        if cell.status == "ok":
            folder.write_cell(key, facts.label, row, pd.DataFrame(records))
    folder.write_summary(rows)
    folder.write_manifest(
        {
            "format": 1,
            "command": command,
            "complete": complete,
            "versions": {"robustbench-sde": "0.1"},
            "git_revision": None,
            "dataset": {"name": "digits"},
            "checkpoints": {},
            "cells": entries,
        }
    )
    return path


def _plain(dtype):
    return object if dtype == "str" else dtype
