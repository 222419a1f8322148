"""Pair the cells of two runs, name them, and say in words what differs between partners."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

from robustbench_sde.regression.measured import ComparedCell, Facts


def pair_cells(
    baseline: Sequence[ComparedCell], run: Sequence[ComparedCell]
) -> tuple[list[tuple[ComparedCell, ComparedCell | None]], list[ComparedCell]]:
    """Pair every cell of the baseline with its cell of the run, or None; also return the run's other cells.

    Cells that agree in everything are paired first, then cells that differ in the definition of the noise,
    then in the seed, then cells that have only the label in common, so that the report can name the
    differences.
    """
    keys: tuple[Callable[[Facts], Hashable], ...] = (
        lambda facts: facts,
        lambda facts: facts.model_copy(update={"noise_definition": 0}),
        lambda facts: facts.model_copy(update={"noise_definition": 0, "seed": 0}),
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


def names_of(cells: Sequence[Facts]) -> list[str]:
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
            "precision",
            "score_draws",
            "rule",
            "try_draws",
            "seed",
            "settings",
        )
        told = [f for f in fields if len({getattr(other, f) for other in alike}) > 1]
        return " ".join([facts.label, *(f"{field}={getattr(facts, field)}" for field in told)])

    return [name(facts) for facts in cells]


def differences(old: ComparedCell, now: ComparedCell) -> list[str]:
    """List in words the settings in which two cells with one label differ.

    The seed does not count, and nor does the definition of the noise: both change which draws are made.
    """
    found = []
    for field in Facts.model_fields:
        was, is_now = getattr(old.facts, field), getattr(now.facts, field)
        if was == is_now or field in ("seed", "noise_definition"):
            continue
        if field == "settings":
            was, is_now = old.differing(now)
            if not was and not is_now:
                found.append("settings in their text only, as in a file that was edited")
                continue
        found.append(f"{field} {str(was)[:80] or 'nothing'} -> {str(is_now)[:80] or 'nothing'}")
    return found
