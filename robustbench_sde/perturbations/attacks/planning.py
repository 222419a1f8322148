"""From what a user asks for to the attacks that are run."""

from collections.abc import Mapping, Sequence
from typing import Any

from robustbench_sde.errors import BenchError
from robustbench_sde.perturbations.attacks import attack_kind, make_attack
from robustbench_sde.perturbations.attacks.base import Attack
from robustbench_sde.perturbations.norms import get_norm


def plan_attacks(
    names: Sequence[str],
    norm: str | None,
    budgets: Sequence[float | None],
    shared: Mapping[str, Any],
    own: Mapping[str, Mapping[str, Any]],
) -> list[Attack]:
    """One attack for each name and budget.

    An attack that does not know `norm` looks for the smallest change in its own if that is what it is made
    for, once, whatever the budgets.

    Args:
        names: of attacks.
        norm: of the budgets; None is that of each attack.
        budgets: eps; None is the smallest change that a minimal-norm attack finds.
        shared: parameters of all attacks, where they have them; None leaves an attack its default. The
            steps of a minimal-norm attack are its own.
        own: parameters of one attack, by its name.

    Raises:
        BenchError: a name, norm or value is wrong.
    """
    if norm is not None:
        get_norm(norm)
    if not names:
        raise BenchError("--attack names no attack; see `sde-bench list attacks`")
    kinds = [attack_kind(name) for name in names]
    for option in ("target", "source"):
        able = [kind.name for kind in kinds if option in kind.parameters()]
        if shared.get(option) is not None and (not able or (option == "target" and len(able) < len(kinds))):
            unable = next(kind.name for kind in kinds if option not in kind.parameters())
            raise BenchError(f"{unable} takes no --{option}")
    attacks = []
    for name, kind in zip(names, kinds, strict=True):
        known = kind.parameters()
        mine = {
            key: value
            for key, value in shared.items()
            if value is not None and key in known and not (key == "steps" and kind.minimal)
        } | dict(own.get(name, {}))
        if kind.minimal and norm is not None and norm not in kind.norms:
            attacks.append(make_attack(name, **mine))
        else:
            own_norm = norm or kind.norms[0]
            attacks += [make_attack(name, **{"norm": own_norm, "eps": eps} | mine) for eps in budgets]
    return attacks
