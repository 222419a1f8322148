"""Gate: compare the cells of two runs image by image, and judge what the tests say."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from robustbench_sde.errors import BenchError, counted
from robustbench_sde.evaluation import paired
from robustbench_sde.evaluation.certificate_report import CERTIFIED_NAME
from robustbench_sde.regression.measured import ComparedCell, Side
from robustbench_sde.regression.measures import (
    MeasureTest,
    compare_decisions,
    compare_single_draws,
    compare_survival,
)
from robustbench_sde.regression.pairing import differences, names_of, pair_cells
from robustbench_sde.regression.policy import Limits, Policy, covers
from robustbench_sde.regression.verdict import CellVerdict, Change, Comparison, FewerImages, Verdict


def compare(baseline: Side, run: Side, policy: Policy) -> Comparison:
    """Pair the cells of two runs, test what can be compared, and judge.

    Raises:
        BenchError: the baseline has no cells.
    """
    if not baseline.cells:
        raise BenchError(f"{baseline.name} has no cells to compare with")
    pairs, new = pair_cells(baseline.cells, run.cells)
    names = names_of([old.facts for old, _ in pairs])
    drafts = [
        _draft(name, old, now, policy.limits(name), policy.alpha)
        for name, (old, now) in zip(names, pairs, strict=True)
    ]
    drafts += _draft_versus(run, policy)
    adjusted = iter(paired.holm([test.p for _, tests in drafts for test in tests]))
    count = sum(len(tests) for _, tests in drafts)
    cells = []
    for cell, tests in drafts:
        changes = [
            _judge(test, next(adjusted), cell.limits.max_drop, policy.alpha, policy.alpha / count)
            for test in tests
        ]
        cells.append(_conclude(cell, changes) if changes else cell)
    notes = (*_notes(cells, names, new, policy), *_definition_notes(pairs), *_image_notes(pairs, cells))
    fewer = _fewer_images(pairs, run) if any(cell.verdict is Verdict.INCONCLUSIVE for cell in cells) else None
    return Comparison(baseline.name, run.name, policy.alpha, tuple(cells), notes, fewer)


def _definition_notes(pairs: Sequence[tuple[ComparedCell, ComparedCell | None]]) -> Iterator[str]:
    """Say that random cells of the two sides have draws of different definitions of the noise."""
    found = Counter(
        (old.facts.noise_definition, now.facts.noise_definition)
        for old, now in pairs
        if now is not None and old.facts.noise_definition != now.facts.noise_definition
    )
    for (was, is_now), count in sorted(found.items()):
        yield (
            f"noise definition {was} in the baseline, {is_now} in the run ({counted(count, 'random cell')}): "
            "comparable, but the draws are others, as with another seed; make the baseline anew"
        )


def _image_notes(
    pairs: Sequence[tuple[ComparedCell, ComparedCell | None]], cells: Sequence[CellVerdict]
) -> Iterator[str]:
    """Say that both sides of compared cells have images that the other one lacks."""
    sizes = Counter(
        (cell.images, len(old.ids), len(now.ids))
        for (old, now), cell in zip(pairs, cells, strict=False)  # behind them are those of `versus`
        if now is not None
    )
    for (common, was, is_now), count in sorted(sizes.items()):
        if 0 < common < min(was, is_now):
            yield (
                f"{counted(common, 'image')} {'is' if common == 1 else 'are'} in both, of {was} of the "
                f"baseline and {is_now} of the run ({counted(count, 'cell')}); the others do not count"
            )


def _fewer_images(pairs: Sequence[tuple[ComparedCell, ComparedCell | None]], run: Side) -> FewerImages | None:
    """Say that the run has fewer images than the baseline, and how to make it with as many; None if not."""
    counts = [(len(now.ids), len(old.ids)) for old, now in pairs if now is not None and now.status == "ok"]
    if not counts or any(now >= old for now, old in counts):
        return None
    images, asked = max(now for now, _ in counts), max(old for _, old in counts)
    return FewerImages(images, asked, with_images(run.made.get("command", ""), asked))


def with_images(command: str, images: int) -> str:
    """Return a command of `sde-bench` with another number of images; empty for any other command.

    A folder that is named holds the run with fewer images, which the command has to replace.
    """
    if not command.startswith("sde-bench "):
        return ""
    words = re.sub(r" --images[ =]\S+", "", command)
    named = " --force" * bool(re.search(r" --(name|out)[ =]", words) and " --force" not in words)
    return f"{words} --images {images}{named}"


def _draft_versus(run: Side, policy: Policy) -> Iterator[tuple[CellVerdict, list[MeasureTest]]]:
    """Compare cells of the run with those of a reference in the same run, by the rules of the policy.

    Raises:
        BenchError: a rule matches no cell, or the run lacks the reference.
    """
    for rule in policy.versus:
        known = {
            (facts.perturbation, facts.norm, facts.eps, facts.severity, facts.settings, facts.seed): cell
            for cell in run.cells
            if (facts := cell.facts).checkpoint == rule.reference
        }
        others = [
            cell
            for cell in run.cells
            if cell.facts.checkpoint != rule.reference and covers(rule.match, cell.facts.label)
        ]
        if not known or not others:
            missing = f"reference {rule.reference!r}" if not known else f"cell that matches {rule.match!r}"
            raise BenchError(f"versus in the policy: {run.name} has no {missing}")
        limits = Limits(max_drop=rule.max_below, required=rule.required)
        for cell in others:
            facts = cell.facts
            key = (facts.perturbation, facts.norm, facts.eps, facts.severity, facts.settings, facts.seed)
            name = f"{facts.label} versus {rule.reference}"
            yield _draft_pair(name, known.get(key), cell, limits, policy.alpha)


def _draft_pair(
    name: str, reference: ComparedCell | None, cell: ComparedCell, limits: Limits, alpha: float
) -> tuple[CellVerdict, list[MeasureTest]]:
    """Return the comparison of two cells of one run with its test of the decisions."""
    draft = CellVerdict(
        name,
        Verdict.INCOMPARABLE,
        "",
        limits,
        seeds=(cell.facts.seed, cell.facts.seed),
        invalid=cell.status != "ok",
    )
    if reference is None:
        return replace(draft, reason="the reference was not attacked like this"), []
    for side, status in (("cell", cell.status), ("reference", reference.status)):
        if status != "ok":
            return replace(draft, reason=f"the {side} is {status}"), []
    common, left, right = np.intersect1d(reference.ids, cell.ids, assume_unique=True, return_indices=True)
    if not len(common):
        return replace(draft, reason="the networks have no image in common"), []
    test = compare_decisions(reference.correct[left], cell.correct[right], alpha)
    return replace(draft, images=len(common)), [test]


def _draft(
    name: str, old: ComparedCell, now: ComparedCell | None, limits: Limits, alpha: float
) -> tuple[CellVerdict, list[MeasureTest]]:
    """Return the cell with its tests, or an incomparable cell without tests."""
    cell = CellVerdict(name, Verdict.INCOMPARABLE, "", limits, seeds=(old.facts.seed, None))
    if now is None:
        return replace(cell, reason="missing: the run has no such cell"), []
    cell = replace(cell, seeds=(old.facts.seed, now.facts.seed), invalid=now.status != "ok")
    for side, status in (("run", now.status), ("baseline", old.status)):
        if status != "ok":
            return replace(cell, reason=f"the {side}'s cell is {status}"), []
    found = differences(old, now)
    if found:
        return replace(cell, reason=f"not the same measurement: {'; '.join(found)}"), []
    common, left, right = np.intersect1d(old.ids, now.ids, assume_unique=True, return_indices=True)
    if not len(common):
        return replace(cell, reason="the runs have no image in common"), []
    test = compare_decisions(old.correct[left], now.correct[right], alpha)
    if old.facts.perturbation == CERTIFIED_NAME:
        test = replace(test, measure="certified_accuracy")
    tests = [test]
    if old.facts.score_draws > 1:  # one draw: its accuracy is the other one
        draws = (old.right_draws[left].astype(np.int64), now.right_draws[right].astype(np.int64))
        tests.append(compare_single_draws(*draws, old.facts.score_draws, alpha))
    if limits.metric is not None and old.facts.noise != "none":  # without noise it is the accuracy
        tests.append(compare_survival(old, now, (left, right), limits.metric, name, alpha))
    return replace(cell, images=len(common)), tests


def _judge(test: MeasureTest, p_holm: float, max_drop: float, alpha: float, strictest: float) -> Change:
    """The verdict of one measure; `strictest` is the level that Holm asks of the smallest p-value."""
    verdict = Verdict.INCONCLUSIVE
    if p_holm <= alpha and test.drop.estimate > max_drop:
        verdict = Verdict.REGRESSION
    elif p_holm <= alpha and test.drop.estimate < 0:
        verdict = Verdict.IMPROVED
    elif test.drop.high <= max_drop:
        verdict = Verdict.OK
    decides = test.measure in ("accuracy", "certified_accuracy")
    open_question = verdict is Verdict.INCONCLUSIVE
    return Change(
        test.measure,
        test.baseline,
        test.run,
        test.drop,
        test.p,
        p_holm,
        verdict,
        test.detectable(strictest) if open_question else None,
        test.needed(max_drop, strictest) if open_question else None,
        paired.images_without_change(max_drop, alpha) if open_question and decides else None,
    )


def _conclude(cell: CellVerdict, changes: list[Change]) -> CellVerdict:
    """Give a cell the worst verdict of its measures, in the order of `Verdict`."""
    worst = max(changes, key=lambda change: list(Verdict).index(change.verdict))
    verdict, reason = worst.verdict, worst.sentence(cell.images, cell.limits.max_drop)
    if cell.images < cell.limits.min_images and verdict is not Verdict.REGRESSION:
        verdict = Verdict.INCONCLUSIVE
        reason = f"{cell.images} images are in both, the policy asks for {cell.limits.min_images}"
    return replace(cell, verdict=verdict, reason=reason, changes=tuple(changes))


def _notes(
    cells: Sequence[CellVerdict], names: list[str], new: Sequence[ComparedCell], policy: Policy
) -> Iterator[str]:
    seeds = sorted({cell.seeds for cell in cells if cell.seeds[1] not in (None, cell.seeds[0])})
    if seeds:
        pairs = ", ".join(f"{old} and {now}" for old, now in seeds)
        yield f"seeds differ ({pairs}): comparable, and the luck of the draws is part of every difference"
    if new:
        labels = ", ".join(cell.facts.label for cell in new[:3]) + (", ..." if len(new) > 3 else "")
        yield f"{counted(len(new), 'cell')} of the run not in the baseline and not judged: {labels}"
    for pattern in policy.unused(names):
        yield f"the policy's pattern {pattern!r} matches no cell"
