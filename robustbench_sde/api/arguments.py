"""Arguments of the public functions that may be names and texts, as on the command line."""

from collections.abc import Mapping, Sequence
from typing import Any

from robustbench_sde.data import ImageDataset, load_dataset
from robustbench_sde.errors import BenchError
from robustbench_sde.perturbations.attacks.registry import ATTACK_PLUGINS, ATTACKS
from robustbench_sde.perturbations.norms import NORMS
from robustbench_sde.texts import names, parse_eps, parse_numbers, parse_severities, spelled

#: Images, or the name of a data set, whose test split is taken.
Data = ImageDataset | str
#: A budget as a number or a text like ``8/255``.
Budget = float | str
#: One budget or several; None asks for the smallest perturbation.
Budgets = Budget | Sequence[Budget | None] | None
#: One number or several, or texts like ``1/4``.
Numbers = float | str | Sequence[float | str]
#: Names of attacks, or a mapping from names to their parameters.
Attacks = str | Sequence[str] | Mapping[str, Mapping[str, Any]]


def dataset_of(data: Data) -> ImageDataset:
    """Return the images, or load the test split of the data set of this name.

    Raises:
        BenchError: there is no such data set, or it is something else.
    """
    if isinstance(data, ImageDataset):
        return data
    if isinstance(data, str):
        return load_dataset(data)
    raise BenchError(
        f"`data` is a {type(data).__name__}; give the name of a data set, or what load_dataset returns"
    )


def budgets_of(eps: Budgets, norm: str | None) -> list[float | None]:
    """Return the budgets as numbers; None, and the text ``none``, ask for the smallest perturbation.

    Raises:
        BenchError: a text is no number, or a text is more than 1 for `linf`.
    """
    several = [eps] if isinstance(eps, str) or not isinstance(eps, Sequence) else eps
    found: list[float | None] = []
    for each in several:
        if isinstance(each, str):
            found += [None] if each.strip().lower() == "none" else parse_eps(each, norm or "")
        else:
            found.append(each)
    return found


def budget_of(eps: Budget | None, norm: str | None) -> float | None:
    """Return one budget as a number; None stays None.

    Raises:
        BenchError: a text is no number, or several.
    """
    if not isinstance(eps, str):
        return eps
    budget, *others = parse_eps(eps, norm or "")
    if others:
        raise BenchError(f"`eps` is {eps!r}; this function takes one budget")
    return budget


def numbers_of(values: Numbers, parameter: str) -> list[float]:
    """Return numbers of a parameter, of which each may be a text like ``1/4`` or ``0.25,0.5``.

    Raises:
        BenchError: a text is no number.
    """
    several = [values] if isinstance(values, str) or not isinstance(values, Sequence) else values
    return [
        number
        for each in several
        for number in (parse_numbers(each, parameter) if isinstance(each, str) else [float(each)])
    ]


def severities_of(values: int | str | Sequence[int | str]) -> list[int]:
    """Return severities, of which each may be a text like ``1-5``, in the given order.

    Raises:
        BenchError: a text is not in 1 to 5.
    """
    several = [values] if isinstance(values, int | str) else values
    return [
        level for each in several for level in (parse_severities(each) if isinstance(each, str) else [each])
    ]


def corruptions_of(corruptions: str | Sequence[str]) -> str:
    """Return names of corruptions as one text with commas."""
    return corruptions if isinstance(corruptions, str) else ",".join(corruptions)


def attacks_of(attack: Attacks) -> list[str] | dict[str, Mapping[str, Any]]:
    """Return the names of attacks as the registry spells them, or a mapping from them to their parameters."""
    known = [*ATTACKS, *ATTACK_PLUGINS.names()]
    if isinstance(attack, Mapping):
        return {spelled(name, known): parameters for name, parameters in attack.items()}
    return names(attack, known)


def norm_of(norm: str | None) -> str | None:
    """Return the norm as the registry spells it; None stays None."""
    return None if norm is None else spelled(norm, NORMS)
