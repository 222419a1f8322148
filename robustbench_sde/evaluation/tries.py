"""Attackers who may submit an image again: how many images survive several independent tries."""

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.bounds import survives
from robustbench_sde.evaluation.statistics import Interval, clustered, clustered_of_few
from robustbench_sde.storage.schema import TRIES


def survival(records: pd.DataFrame, tries: int, *, try_draws: int = 1) -> Interval:
    """Estimate the accuracy against somebody who submits each image `tries` times and needs one wrong answer.

    Each submission is answered from fresh noise: one draw, or the rule over a block of `try_draws` draws.
    `bounds.survives` is an unbiased estimate of the probability that k answers are all right, from pairs of
    draws or independent blocks; the interval is over images (clustered). One try of one draw is the
    single-draw accuracy. A deterministic classifier answers every try alike.

    Args:
        records: one row per image (`RECORDS`), scored on the `score` stream.
        tries: number of submissions k, from 1 to the answers that the score draws make.
        try_draws: draws of a block, as the records were scored; only the message of an error needs it.

    Raises:
        BenchError: there are too few score draws (the message says how many would do), or scoring stopped
            each image by what it saw, which biases the estimate of more than one try.
    """
    problem = _problem(records, tries, try_draws)
    if problem:
        raise BenchError(problem)
    if is_deterministic(records):
        return clustered(records["share_correct"].to_numpy(np.float64))
    right, answers, split = _answers(records)
    survived = survives(right, answers, tries, split)
    return clustered(survived) if tries == 1 else clustered_of_few(survived)


def check_tries(tries: int, score_draws: int | str, *, try_draws: int = 1, random: bool = True) -> None:
    """Check before an evaluation that its score draws can tell of so many tries.

    Args:
        tries: number of tries of an attacker.
        score_draws: number of score draws, or ``"auto"``.
        try_draws: draws that answer one try.
        random: whether a network is random; others answer every try alike.

    Raises:
        BenchError: they are too few, or `score_draws` is ``"auto"``; says how many would do.
    """
    if tries < 1:
        raise BenchError(f"`tries` is {tries}; it must be at least 1")
    if not random:
        return
    enough = enough_draws(tries, try_draws)
    if score_draws == "auto" and tries > 1:
        raise BenchError(_stopped(tries, enough))
    if score_draws != "auto" and int(score_draws) < enough:
        raise BenchError(_too_few(tries, int(score_draws), enough))


def enough_draws(tries: int, try_draws: int = 1) -> int:
    """Return the fewest score draws that tell of so many tries: as many blocks that begin at even draws.

    A try of one draw takes a pair, except for the last.
    """
    return tries * try_draws if try_draws % 2 == 0 else tries * (try_draws + 1) - 1


def survival_numbers(records: pd.DataFrame) -> dict[str, float]:
    """Return the columns `survives_k` of the `SUMMARY` schema; NaN for a k that the score draws cannot tell.

    Args:
        records: one row per image (`RECORDS`).
    """
    numbers: dict[str, float] = {}
    for tries in TRIES:
        nothing = Interval(math.nan, math.nan, math.nan)
        found = nothing if _problem(records, tries, 1) else survival(records, tries)
        numbers |= {f"survives_{tries}": found.estimate}
        numbers |= {f"survives_{tries}_low": found.low, f"survives_{tries}_high": found.high}
    return numbers


def most_tries(records: pd.DataFrame) -> int:
    """Return the largest number of tries that the records can tell of; 1 if draws differ between images."""
    _, answers, split = _answers(records)
    apart = int(answers[0]) if split is None else (int(answers[0]) + 1) // 2
    return apart if len(set(answers.tolist())) == 1 else 1


def _problem(records: pd.DataFrame, tries: int, try_draws: int) -> str:
    """Say why records cannot tell of so many tries; empty if they can."""
    if tries < 1:
        return f"`tries` is {tries}; it must be at least 1"
    if tries == 1 or is_deterministic(records):
        return ""
    _, answers, split = _answers(records)
    independent = split is None and try_draws == 1
    enough = tries if independent else enough_draws(tries, try_draws)
    if answers.min() != answers.max():
        return _stopped(tries, enough)
    apart = int(answers.min()) if split is None else (int(answers.min()) + 1) // 2
    if apart < tries:
        return _too_few(tries, int(records["score_draws"].min()), enough)
    return ""


def _stopped(tries: int, enough: int) -> str:
    return (
        f"{tries} tries cannot be estimated if scoring stops each image by what it sees (`score_draws` is "
        f"auto): take {enough} score draws or more"
    )


def _too_few(tries: int, draws: int, enough: int) -> str:
    return f"{tries} tries cannot be estimated from {draws} score draws: take {enough} or more"


def is_deterministic(records: pd.DataFrame) -> bool:
    """Whether records are those of a classifier without noise: one score draw, no error of a margin."""
    return bool((records["score_draws"] == 1).all() and (records["margin_error"] == 0).all())


_Ints: TypeAlias = npt.NDArray[np.int64]


def _answers(records: pd.DataFrame) -> tuple[_Ints, _Ints, _Ints | None]:
    """Return how many answers of each image are right, how many there are, and in how many pairs one is.

    The last is None where answers are independent. Records of earlier versions do not say how many there are:
    there every draw is an answer, and independent of all others.
    """
    draws = records["score_draws"].to_numpy(np.float64)
    if "tries" not in records or records["tries"].isna().any():
        right, answers = records["share_correct"].to_numpy(np.float64) * draws, draws
    else:
        right, answers = (records[name].to_numpy(np.float64) for name in ("tries_right", "tries"))
    paired = "tries_split" in records and not records["tries_split"].isna().any()
    split = records["tries_split"].to_numpy(np.float64).astype(np.int64) if paired else None
    return np.rint(right).astype(np.int64), answers.astype(np.int64), split
