"""Compare networks at equal noise on the image, where the cells of a run are of smoothed classifiers."""

from dataclasses import replace

from robustbench_sde.models.smoothed import name_inside, smoothing_in_name
from robustbench_sde.regression.measured import ComparedCell, Side


def at_equal_smoothing(side: Side, reference: str) -> Side:
    """Return the cells with the smoothing as part of the perturbation and not of the network's name.

    ``ode@0.12`` under pgd becomes ``ode`` under ``pgd@0.12``, or under ``pgd`` if all cells have one and the
    same smoothing, so that networks are compared at equal smoothing and trainings of a kind can be pooled. A
    reference that is itself a name with a smoothing leaves everything as it is.
    """
    names = {cell.facts.checkpoint for cell in side.cells}
    values = {smoothing_in_name(name) for name in names}
    if reference in names or values <= {None}:
        return side
    return replace(side, cells=tuple(_moved(cell, several=len(values) > 1) for cell in side.cells))


def _moved(cell: ComparedCell, *, several: bool) -> ComparedCell:
    facts, smoothing = cell.facts, smoothing_in_name(cell.facts.checkpoint)
    if smoothing is None:
        return cell
    perturbation = f"{facts.perturbation}@{smoothing:g}" if several else facts.perturbation
    changed = {"checkpoint": name_inside(facts.checkpoint), "perturbation": perturbation}
    return replace(cell, facts=facts.model_copy(update=changed))
