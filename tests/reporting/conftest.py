"""A run folder with everything that a report can show, and with hostile names; no model is needed for it."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robustbench_sde.evaluation.audit.report import AuditReport, AuditRule, AuditVerdict
from robustbench_sde.evaluation.corruption_summary import (
    CorruptionLevel,
    CorruptionRecords,
    corruption_summary,
)
from robustbench_sde.evaluation.numbers import numbers_of
from robustbench_sde.evaluation.statistics import wilson
from robustbench_sde.reporting.html.page import write_report
from robustbench_sde.storage.examples import Examples
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import RECORDS, SUMMARY, table

#: must appear as text wherever it appears
HOSTILE = '<script>alert("$x_1$ & 50%")</script>'
CHECKPOINTS = (HOSTILE, "_plain|ode", "digits-additive")
IMAGES = 40

_DEFAULTS = {"int64": 0, "float64": np.nan, "str": "", "bool": False}


@dataclass
class Sample:
    """What goes into the folder; tests change it before writing."""

    rows: list[dict] = field(default_factory=list)
    records: dict[str, pd.DataFrame] = field(default_factory=dict)
    examples: dict[str, Examples] = field(default_factory=dict)
    corruptions: pd.DataFrame | None = None
    audits: list[AuditReport] = field(default_factory=list)
    complete: bool = True

    def add(
        self, checkpoint: str, perturbation: str, right: int, *, draws: int = 16, **changes: object
    ) -> str:
        """A cell of which so many images are right; returns its key."""
        key = f"{len(self.rows):016x}"
        _, low, high = wilson(right / IMAGES, IMAGES)
        ends = {"accuracy_low": low, "accuracy_high": high, "single_draw_low": low, "single_draw_high": high}
        share = right / IMAGES
        row = {column.name: _DEFAULTS[column.dtype] for column in SUMMARY} | ends | {
            "checkpoint": checkpoint, "dataset": "digits", "noise": "additive", "sigma": 0.5,
            "perturbation": perturbation, "images": IMAGES, "score_draws": draws, "rule": "mean-prob",
            "accuracy": share, "single_draw_accuracy": share, "noise_low": max(0, share - 0.2 / draws),
            "noise_high": min(1, share + 0.2 / draws), "undecided": 0.1, "forward_passes": 168.0,
            "backward_passes": 160.0, "seconds": 2.0, "status": "ok", "cell": key,
        }  # fmt: skip
        records = pd.DataFrame({column.name: [_DEFAULTS[column.dtype]] * IMAGES for column in RECORDS})
        correct = np.arange(IMAGES) < right
        records = records.assign(
            image_id=np.arange(IMAGES), label=1, prediction=np.where(correct, 1, 2), correct=correct
        )
        passes = {"forward_passes": 168, "backward_passes": 160}
        numbers = {"confidence": 0.8, "brier": 0.1, "label_probability": 0.5, "linf": 0.1, "l2": 0.5}
        records = records.assign(
            share_correct=np.where(np.arange(IMAGES) % 10 == 0, 0.5, correct),
            margin=np.where(correct, 0.2, -0.2), margin_error=1 / draws, score_draws=draws, **numbers,
            **{name: changes.get(name, passes[name]) for name in passes},
        )  # fmt: skip
        self.records[key] = table(records, RECORDS)
        row |= changes
        self.rows.append(row | numbers_of(self.records[key], row["norm"], row["eps"]))
        return key

    def write(self, path: Path) -> RunFolder:
        """The folder as `sde-bench` writes it."""
        folder = RunFolder(path)
        for row in self.rows:
            folder.write_cell(row["cell"], "cell", row, self.records[row["cell"]])
        for key, examples in self.examples.items():
            folder.write_examples(key, examples)
        if self.corruptions is not None:
            folder.write_text("corruptions.csv", self.corruptions.to_csv(index=False))
        for audit in self.audits:
            audit.write(path)
        folder.write_summary(self.rows)
        folder.write_manifest(
            {
                "format": 1,
                "command": f"sde-bench attack {HOSTILE}",
                "complete": self.complete,
                "versions": {"torch": "2.14.1"},
                "dataset": {"name": "digits", "class_names": ["zero", HOSTILE, "two"]},
                "checkpoints": dict.fromkeys(CHECKPOINTS, "sha256:00"),
                "cells": [
                    {"cell": row["cell"], "checkpoint": row["checkpoint"], "scoring": {"draws": 16}}
                    for row in self.rows
                ],
            }
        )
        return folder


@pytest.fixture
def sample() -> Sample:
    """Return the tables of `make_sample`, for a test to change and write."""
    return make_sample()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about the sample run, written once; only to be read."""
    run = make_sample().write(tmp_path_factory.mktemp("report") / "run")
    return write_report(run, run)[-1]


def make_sample() -> Sample:
    """Three checkpoints; attacks at several budgets, corruptions, a grid of draws, examples, audits."""
    sample = Sample()
    measured = {}
    random = np.random.Generator(np.random.Philox(0))
    clean = random.random((4, 1, 12, 12), np.float32)
    ids = np.arange(36, 40)
    for place, checkpoint in enumerate(CHECKPOINTS):
        key = sample.add(checkpoint, "clean", 38 - place, forward_passes=0.0, backward_passes=0.0)
        sample.add(checkpoint, "control", 38 - place, norm="linf", eps=0.0)
        for step, eps in enumerate((2 / 255, 0.03, 0.06)):
            attacked = sample.add(checkpoint, "pgd", 30 - 12 * step - place, norm="linf", eps=eps)
            changed = np.clip(clean + eps * random.choice([-1, 1], clean.shape), 0, 1).astype(np.float32)
            sample.examples[attacked] = Examples(ids, np.ones(4, np.int64), clean, changed)
        sample.add(checkpoint, "square", 33 - place, norm="linf", eps=0.03, forward_passes=21.0)
        sample.add(checkpoint, "cw", 5, norm="l2", distance_median=0.8, distance_q25=0.5, distance_q75=1.5)
        for draws in (1, 4):
            sample.add(checkpoint, "clean", 36 - place, draws=draws)
        corrupted = {}
        for severity in (1, 5):
            for name in ("fog", "glass_blur"):
                cell = sample.add(checkpoint, name, 36 - 5 * severity - place, severity=float(severity))
                corrupted[CorruptionLevel(name, severity)] = sample.records[cell]
        measured[checkpoint] = CorruptionRecords(sample.records[key], corrupted)
    sample.corruptions = corruption_summary(measured)
    rules = (
        AuditRule("eps = 0 control", AuditVerdict.PASS, "as without an attack", {}),
        AuditRule(
            "black box",
            AuditVerdict.FAIL,
            f"square is stronger than pgd on {HOSTILE}",
            {"drop": [0.1, 0.0, 0.2]},
        ),
    )
    sample.audits.append(
        AuditReport(CHECKPOINTS[2], "sha256:00", "digits", IMAGES, 0, AuditVerdict.FAIL, rules, seconds=1.0)
    )
    return sample
