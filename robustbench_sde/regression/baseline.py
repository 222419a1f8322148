"""Baselines: a run in one text file that is small enough to commit and reads well in a diff.

The file is JSON with two lines per cell: settings with accuracies, and the outcomes of all images, packed.
"""

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, ValidationError

from robustbench_sde.errors import BenchError, InvalidEvaluationError
from robustbench_sde.evaluation.certificate_report import CERTIFIED_NAME
from robustbench_sde.models.strict import Spec, first_problem
from robustbench_sde.regression.measured import ComparedCell, Facts, Line, MeasuredRow, Side, read_run
from robustbench_sde.storage.files import atomic_write, check_format, check_replaceable

#: format of a baseline file
_FORMAT = 1
#: Largest file that is read. It bounds the memory too: every image takes space in the file.
_MAX_BYTES = 16_000_000
_MAX_IMAGES = 1_000_000

_Accuracy = Annotated[float, Field(ge=0, le=1)]


class _Row(MeasuredRow):
    #: index of the perturbation in `settings`
    settings: int = Field(ge=0)
    accuracy: _Accuracy
    single_draw_accuracy: _Accuracy


_COLUMNS = tuple(_Row.model_fields)


def _by_name(values: object) -> object:
    if not isinstance(values, list) or len(values) != len(_COLUMNS):
        raise ValueError(f"a cell is a list of {len(_COLUMNS)} values")
    return dict(zip(_COLUMNS, values, strict=True))


class _File(Spec):
    format: Literal[1]
    made: dict[Line, Line]
    dataset: Line
    fingerprint: Line
    #: ids of the images, in the order of all outcomes
    images: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(min_length=1, max_length=_MAX_IMAGES)
    settings: list[Line]
    #: parameters by name of each of `settings`, of attacks alone; empty in files of older versions
    parameters: list[dict[Line, Line]] = Field(default_factory=list)
    #: names of the values of a cell, for people; they are part of the format
    columns: list[str]
    cells: list[Annotated[_Row, BeforeValidator(_by_name)]] = Field(min_length=1)
    #: two texts for each cell: base64 of one bit per image, right or wrong, the first image in the highest
    #: bit; and base64 of zlib of how many draws are right, the low bytes of all images, then the high ones
    #: (empty with one draw)
    outcomes: list[tuple[str, str]]
    #: draws that answer one submission of each cell, and how many answers are right, packed as draws are
    #: (empty with one draw an answer); no entries in files where every draw is an answer
    answers: list[tuple[Annotated[int, Field(ge=1, le=65_535)], str]] = Field(default_factory=list)
    #: number format of the network of each cell; no entries in files where all are fp32
    precisions: list[Line] = Field(default_factory=list)
    #: version of the noise definition (`sde.philox`) of all random cells; files without it have 1
    noise_definition: int = Field(default=1, ge=1, le=65_535)
    #: how many pairs of answers of each cell have exactly one right, packed as draws are (empty if answers
    #: are independent); no entries in files without pairs
    pairs: list[str] = Field(default_factory=list)
    #: `_checksum` of all the rest; files of older versions have none
    checksum: Line | None = None


def read_side(path: Path) -> Side:
    """Read a run folder or a baseline file; it raises the errors of `read_run` and `read_baseline`."""
    if not path.exists():
        raise BenchError(f"{path} does not exist; give the folder of a run or a baseline file")
    return read_run(path) if path.is_dir() else read_baseline(path)


def save_baseline(run: Side, path: Path, *, force: bool = False) -> None:
    """Write the baseline of a run, atomically.

    Args:
        run: the run.
        path: file to write.
        force: whether a file that is no baseline may be replaced.

    Raises:
        BenchError: the run is not complete, its cells are on different images, or `path` cannot be written or
            is something else.
        InvalidEvaluationError: a cell of the run must not be used.
    """
    check_replaceable(path, '"fingerprint": ', "a baseline", force=force)
    bad = [cell for cell in run.cells if cell.status != "ok"]
    if bad:
        raise InvalidEvaluationError(f"{run.name}: {bad[0].facts.label} is {bad[0].status}; no baseline")
    if not run.complete or not run.cells:
        raise BenchError(f"{run.name} is not complete; finish it with its command, then save the baseline")
    first = run.cells[0]
    for cell in run.cells:
        same_data = cell.facts.fingerprint == first.facts.fingerprint
        if not same_data or not np.array_equal(cell.ids, first.ids):
            raise BenchError(f"{run.name} has cells on different images; a baseline holds one set of images")
    parameters = {cell.facts.settings: dict(cell.parameters) if cell.facts.norm else {} for cell in run.cells}
    settings = list(parameters)
    head: dict[str, object] = {
        "format": _FORMAT,
        "made": run.made,
        "dataset": first.facts.dataset,
        "fingerprint": first.facts.fingerprint,
        "images": first.ids.tolist(),
    }
    definitions = {cell.facts.noise_definition for cell in run.cells} - {0}
    if len(definitions) > 1:
        raise BenchError(f"{run.name} mixes definitions of the noise; run all its cells anew")
    if definitions:
        head["noise_definition"] = definitions.pop()
    blocks: dict[str, Sequence[object]] = {
        "settings": settings,
        "parameters": list(parameters.values()),
        "columns": _COLUMNS,
        "cells": [_row(cell, settings.index(cell.facts.settings)) for cell in run.cells],
        "outcomes": [_outcomes(cell) for cell in run.cells],
    }
    if any(cell.facts.try_draws > 1 for cell in run.cells):
        blocks["answers"] = [
            (cell.facts.try_draws, "" if cell.right_answers is None else _pack_draws(cell.right_answers))
            for cell in run.cells
        ]
    if any(cell.facts.precision != "fp32" for cell in run.cells):
        blocks["precisions"] = [cell.facts.precision for cell in run.cells]
    if any(cell.split is not None for cell in run.cells):
        blocks["pairs"] = ["" if cell.split is None else _pack_draws(cell.split) for cell in run.cells]
    head["checksum"] = _checksum(head | blocks)
    parts = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    for name, entries in blocks.items():
        lines = ",\n".join(json.dumps(entry) for entry in entries)
        parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
    with atomic_write(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def read_baseline(path: Path) -> Side:
    """Read the cells of a baseline file.

    Raises:
        BenchError: the file is not a baseline, is damaged, was edited, is of a later version, or has more
            than 16 MB.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}") from error
    if len(raw) > _MAX_BYTES:
        raise BenchError(f"{path} has more than {_MAX_BYTES // 10**6} MB; it is not a baseline")
    try:
        loaded = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BenchError(f"{path} is not a baseline: it is not JSON ({error})") from error
    check_format(path, loaded, _FORMAT)
    try:
        parsed = _File.model_validate(loaded)
    except ValidationError as error:
        raise first_problem(error, f"{path} is not a baseline") from error
    count = len(parsed.cells)
    whole = len(set(parsed.images)) == len(parsed.images) and len(parsed.outcomes) == count
    more = parsed.answers, parsed.precisions, parsed.pairs
    whole = whole and all(len(entries) in (0, count) for entries in more)
    if not whole or tuple(parsed.columns) != _COLUMNS:
        raise BenchError(f"{path} is damaged: its images repeat, or cells, outcomes and columns do not match")
    ids = np.array(parsed.images, dtype=np.int64)
    answers = parsed.answers or [(1, "")] * count
    precisions = parsed.precisions or ["fp32"] * count
    pairs = parsed.pairs or [""] * count
    cells = tuple(
        _measured(path, parsed, *entry, ids)
        for entry in zip(parsed.cells, parsed.outcomes, answers, precisions, pairs, strict=True)
    )
    if parsed.checksum not in (None, _checksum(loaded)):
        raise BenchError(f"{path} was edited, or merged from two files: its checksum is of other content")
    return Side(str(path), cells, parsed.made)


def _checksum(content: dict[str, object]) -> str:
    """Hash all entries of a file but the checksum itself; spaces and line ends do not count."""
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return f"sha256:{hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}"


def _row(cell: ComparedCell, settings: int) -> list[object]:
    facts = cell.facts
    row = facts.model_dump(include=set(MeasuredRow.model_fields)) | {
        "settings": settings,
        "accuracy": round(float(cell.correct.mean()), 6),
        "single_draw_accuracy": round(_single_draw(cell.right_draws, facts.score_draws), 6),
    }
    return [row[name] for name in _COLUMNS]


def _single_draw(right_draws: npt.NDArray[np.uint16], score_draws: int) -> float:
    return float(right_draws.mean()) / score_draws


def _outcomes(cell: ComparedCell) -> list[str]:
    draws = _pack_draws(cell.right_draws) if cell.facts.score_draws > 1 else ""
    return [base64.b64encode(np.packbits(cell.correct).tobytes()).decode(), draws]


def _pack_draws(counts: npt.NDArray[np.uint16]) -> str:
    planes = counts.astype("<u2").view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()


def _measured(
    path: Path,
    parsed: _File,
    row: _Row,
    outcomes: tuple[str, str],
    answers: tuple[int, str],
    precision: str,
    pairs: str,
    ids: npt.NDArray[np.int64],
) -> ComparedCell:
    if row.settings >= len(parsed.settings):
        raise BenchError(f"{path} is damaged: it has no settings {row.settings}")
    random = row.noise != "none" and row.perturbation != CERTIFIED_NAME
    facts = Facts(
        **row.model_dump(include=set(MeasuredRow.model_fields)),
        dataset=parsed.dataset,
        fingerprint=parsed.fingerprint,
        settings=parsed.settings[row.settings],
        try_draws=answers[0],
        precision=precision,
        noise_definition=parsed.noise_definition if random else 0,
    )
    right_answers, split = None, None
    try:
        correct = _unpack_bits(outcomes[0], len(ids))
        right = correct.astype(np.uint16)
        if row.score_draws > 1:
            right = _unpack_draws(outcomes[1], len(ids), row.score_draws)
        if facts.try_draws > 1:
            right_answers = _unpack_draws(answers[1], len(ids), facts.answers)
        if pairs:
            split = _unpack_draws(pairs, len(ids), facts.answers // 2)
    except (ValueError, binascii.Error, zlib.error) as error:
        raise BenchError(f"{path} is damaged: outcomes of {facts.label} ({error})") from error
    found = (float(correct.mean()), _single_draw(right, row.score_draws))
    for name, said, counted in zip(
        ("accuracy", "single_draw_accuracy"), (row.accuracy, row.single_draw_accuracy), found, strict=True
    ):
        if abs(said - counted) > 1e-6:
            raise BenchError(f"{path} was edited: {facts.label} says {name} {said}, its images {counted:.6f}")
    known = dict(zip(parsed.settings, parsed.parameters, strict=False))
    parameters = known.get(facts.settings, {})
    return ComparedCell(
        facts, ids, correct, right, parameters=parameters, right_answers=right_answers, split=split
    )


def _unpack_bits(text: str, images: int) -> npt.NDArray[np.bool_]:
    packed = base64.b64decode(text, validate=True)
    if len(packed) != -(-images // 8):
        raise ValueError(f"{len(packed)} bytes for {images} images")
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=images).astype(bool)


def _unpack_draws(text: str, images: int, score_draws: int) -> npt.NDArray[np.uint16]:
    unpacker = zlib.decompressobj()
    raw = unpacker.decompress(base64.b64decode(text, validate=True), 2 * images + 1)
    if len(raw) != 2 * images or not unpacker.eof:
        raise ValueError(f"not one number for each of {images} images")
    low, high = np.frombuffer(raw, np.uint8).reshape(2, -1).astype(np.uint16)
    right = low + 256 * high
    if right.max() > score_draws:
        raise ValueError(f"{right.max()} of {score_draws} draws are right")
    return right
