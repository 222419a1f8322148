"""Gate: pair the cells of two runs image by image, test and judge them."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial

import numpy as np
import numpy.typing as npt

from robustbench_sde.errors import BenchError, counted
from robustbench_sde.evaluation import paired
from robustbench_sde.evaluation.bounds import survives
from robustbench_sde.evaluation.certificate_report import CERTIFIED_NAME
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.regression.measured import ComparedCell, Facts, Side
from robustbench_sde.regression.policy import Limits, Policy, tries_of
from robustbench_sde.regression.verdict import CellVerdict, Change, Comparison, Verdict

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Test:
    """Test of one measure of one cell, before it is judged."""

    measure: str
    baseline: float
    run: float
    drop: Interval
    p: float
    #: function from the level of the test to the smallest true drop that it finds
    detectable: Callable[[float], float]
    #: function from a true drop and the level of the test to the number of images that find it
    needed: Callable[[float, float], int | None]


def compare(baseline: Side, run: Side, policy: Policy) -> Comparison:
    """Pair the cells of two runs, test what can be compared, and judge.

    Raises:
        BenchError: the baseline has no cells.
    """
    if not baseline.cells:
        raise BenchError(f"{baseline.name} has no cells to compare with")
    pairs, new = _pair_cells(baseline.cells, run.cells)
    names = _names([old.facts for old, _ in pairs])
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
    return Comparison(
        baseline.name, run.name, policy.alpha, tuple(cells), tuple(_notes(cells, names, new, policy))
    )


def _draft_versus(run: Side, policy: Policy) -> Iterator[tuple[CellVerdict, list[_Test]]]:
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
            if cell.facts.checkpoint != rule.reference and fnmatchcase(cell.facts.label, rule.match)
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
) -> tuple[CellVerdict, list[_Test]]:
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
    test = _test_decisions(reference.correct[left], cell.correct[right], alpha)
    return replace(draft, images=len(common)), [test]


def _pair_cells(
    baseline: Sequence[ComparedCell], run: Sequence[ComparedCell]
) -> tuple[list[tuple[ComparedCell, ComparedCell | None]], list[ComparedCell]]:
    """Pair every cell of the baseline with its cell of the run, or None; also return the run's other cells.

    Cells that agree in everything are paired first, then cells that differ in the seed, then cells that have
    only the label in common, so that the report can name the differences.
    """
    keys: tuple[Callable[[Facts], Hashable], ...] = (
        lambda facts: facts,
        lambda facts: facts.model_copy(update={"seed": 0}),
        lambda facts: facts.label,
    )
    partner: dict[int, ComparedCell] = {}
    left = list(run)
    for key in keys:
        waiting = defaultdict(list)
        for cell in left:
            waiting[key(cell.facts)].append(cell)
        for place, cell in enumerate(baseline):
            if place not in partner and waiting[key(cell.facts)]:
                partner[place] = waiting[key(cell.facts)].pop(0)
        left = [cell for cells in waiting.values() for cell in cells]
    return [(cell, partner.get(place)) for place, cell in enumerate(baseline)], left


def _names(cells: Sequence[Facts]) -> list[str]:
    """Return labels, extended by the settings that tell cells with one label apart."""
    groups = defaultdict(list)
    for facts in cells:
        groups[facts.label].append(facts)

    def name(facts: Facts) -> str:
        alike = groups[facts.label]
        fields = (
            "noise",
            "sigma",
            "solver",
            "solver_steps",
            "score_draws",
            "rule",
            "try_draws",
            "seed",
            "settings",
        )
        told = [f for f in fields if len({getattr(other, f) for other in alike}) > 1]
        return " ".join([facts.label, *(f"{field}={getattr(facts, field)}" for field in told)])

    return [name(facts) for facts in cells]


def _draft(
    name: str, old: ComparedCell, now: ComparedCell | None, limits: Limits, alpha: float
) -> tuple[CellVerdict, list[_Test]]:
    """Return the cell with its tests, or an incomparable cell without tests."""
    cell = CellVerdict(name, Verdict.INCOMPARABLE, "", limits, seeds=(old.facts.seed, None))
    if now is None:
        return replace(cell, reason="missing: the run has no such cell"), []
    cell = replace(cell, seeds=(old.facts.seed, now.facts.seed), invalid=now.status != "ok")
    for side, status in (("run", now.status), ("baseline", old.status)):
        if status != "ok":
            return replace(cell, reason=f"the {side}'s cell is {status}"), []
    differences = _differences(old, now)
    if differences:
        return replace(cell, reason=f"not the same measurement: {'; '.join(differences)}"), []
    common, left, right = np.intersect1d(old.ids, now.ids, assume_unique=True, return_indices=True)
    if not len(common):
        return replace(cell, reason="the runs have no image in common"), []
    test = _test_decisions(old.correct[left], now.correct[right], alpha)
    if old.facts.perturbation == CERTIFIED_NAME:
        test = replace(test, measure="certified_accuracy")
    tests = [test]
    if old.facts.score_draws > 1:  # one draw: its accuracy is the other one
        draws = (old.right_draws[left].astype(np.int64), now.right_draws[right].astype(np.int64))
        tests.append(_test_single_draws(*draws, old.facts.score_draws, alpha))
    if limits.metric is not None and old.facts.noise != "none":  # without noise it is the accuracy
        answers = (old.answered_rightly[left], now.answered_rightly[right])
        tests.append(_test_survival(*answers, old.facts, limits.metric, name, alpha))
    return replace(cell, images=len(common)), tests


def _differences(old: ComparedCell, now: ComparedCell) -> list[str]:
    """List in words the settings in which two cells with one label differ; the seed does not count."""
    found = []
    for field in Facts.model_fields:
        was, is_now = getattr(old.facts, field), getattr(now.facts, field)
        if was == is_now or field == "seed":
            continue
        if field == "settings":
            was, is_now = old.differing(now)
        found.append(f"{field} {str(was)[:80] or 'nothing'} -> {str(is_now)[:80] or 'nothing'}")
    return found


def _test_decisions(was: npt.NDArray[np.bool_], now: npt.NDArray[np.bool_], alpha: float) -> _Test:
    images = len(was)
    lost, won = int((was & ~now).sum()), int((now & ~was).sum())
    changed = (lost + won) / images
    return _Test(
        "accuracy",
        float(was.mean()),
        float(now.mean()),
        paired.drop_of_decisions(lost, won, images, alpha),
        paired.sign_flip_test(was.astype(np.int64) - now.astype(np.int64)),
        partial(paired.detectable_by_decisions, images, changed),
        partial(paired.images_for_decisions, changed),
    )


def _test_single_draws(was: Ints, now: Ints, draws: int, alpha: float) -> _Test:
    drops = (was - now) / draws
    deviation = float(drops.std(ddof=1)) if len(drops) > 1 else 1.0
    return _Test(
        "single_draw_accuracy",
        float(was.mean()) / draws,
        float(now.mean()) / draws,
        paired.drop_of_shares(drops, alpha),
        paired.sign_flip_test(was - now),
        partial(paired.detectable_by_shares, len(drops), deviation),
        partial(paired.images_for_shares, deviation),
    )


def _test_survival(
    was: npt.NDArray[np.uint16],
    now: npt.NDArray[np.uint16],
    facts: Facts,
    metric: str,
    cell: str,
    alpha: float,
) -> _Test:
    """Test accuracy against somebody who may submit an image again, estimated image by image.

    The permutation test takes whole numbers: the estimates are rounded to 1/4096, which keeps it exact.

    Raises:
        BenchError: the score draws are too few for so many submissions.
    """
    tries, answers = tries_of(metric), facts.answers
    if answers < tries:
        raise BenchError(
            f"the policy asks for {metric}, and {cell} has {facts.score_draws} score draws: measure both "
            f"runs with {tries * facts.try_draws} or more"
        )
    count = np.full(len(was), answers, dtype=np.int64)
    first, second = (survives(right.astype(np.int64), count, tries) for right in (was, now))
    drops = first - second
    deviation = float(drops.std(ddof=1)) if len(drops) > 1 else 1.0
    return _Test(
        metric,
        float(first.mean()),
        float(second.mean()),
        paired.drop_of_shares(drops, alpha),
        paired.sign_flip_test(
            np.rint(4096 * first).astype(np.int64) - np.rint(4096 * second).astype(np.int64)
        ),
        partial(paired.detectable_by_shares, len(drops), deviation),
        partial(paired.images_for_shares, deviation),
    )


def _judge(test: _Test, p_holm: float, max_drop: float, alpha: float, strictest: float) -> Change:
    """The verdict of one measure; `strictest` is the level that Holm asks of the smallest p-value."""
    verdict = Verdict.INCONCLUSIVE
    if p_holm <= alpha and test.drop.estimate > max_drop:
        verdict = Verdict.REGRESSION
    elif p_holm <= alpha and test.drop.estimate < 0:
        verdict = Verdict.IMPROVED
    elif test.drop.high <= max_drop:
        verdict = Verdict.OK
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
