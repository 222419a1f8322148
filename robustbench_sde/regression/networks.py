"""Define which networks of a run are compared: by network, by kind, by setting, and with what effort."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.regression.answer import Setting, setting_text
from robustbench_sde.regression.measured import ComparedCell


def group_by_network(cells: Sequence[ComparedCell]) -> dict[str, dict[Setting, ComparedCell]]:
    """Group valid cells by network; a checkpoint with several noises, solvers or precisions is several.

    Of cells that differ in the number of score draws, the one with the most is kept.
    """
    fields = ("noise", "sigma", "solver", "solver_steps", "precision", "rule", "seed")
    sound = [cell for cell in cells if cell.status == "ok"]
    values: dict[tuple[str, str], set[object]] = defaultdict(set)
    for cell in sound:
        for name in fields:
            values[cell.facts.checkpoint, name].add(getattr(cell.facts, name))
    networks: dict[str, dict[Setting, ComparedCell]] = {}
    for cell in sound:
        facts = cell.facts
        told = [name for name in fields if len(values[facts.checkpoint, name]) > 1]
        network = " ".join([facts.checkpoint, *(f"{name}={getattr(facts, name)}" for name in told)])
        own = networks.setdefault(network, {})
        setting = (facts.perturbation, facts.norm, facts.eps, facts.severity)
        if setting not in own or own[setting].facts.score_draws < facts.score_draws:
            own[setting] = cell
    return networks


def group_by_kind(networks: Mapping[str, object], kinds: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the networks of each kind, in the order of the run; a network without a kind is one itself."""
    kind_of = {name: kind for kind, names in kinds.items() for name in names}
    members: dict[str, list[str]] = {}
    for network in networks:
        members.setdefault(kind_of.get(network, network), []).append(network)
    return members


def find_reference(reference: str, members: Mapping[str, Sequence[str]]) -> str:
    """Return the kind that `reference` names, itself or by one of its networks.

    Raises:
        BenchError: there is none, or it is several networks.
    """
    if reference in members:
        return reference
    for kind, names in members.items():
        if reference in names:
            return kind
    several = [name for names in members.values() for name in names if name.split(" ")[0] == reference]
    if several:
        raise BenchError(f"reference {reference!r} is several networks; name one: {', '.join(several[:5])}")
    raise unknown_name(
        "reference", reference, [*members, *(name for names in members.values() for name in names)]
    )


def settings_of(networks: Iterator[Mapping[Setting, ComparedCell]]) -> list[Setting]:
    """Return the perturbation settings of any of the networks, in the order of their cells."""
    return list(dict.fromkeys(setting for network in networks for setting in network))


def unequal_efforts(setting: Setting, at: Mapping[str, Sequence[ComparedCell]], base: str) -> Iterator[str]:
    """Yield what differs between the effort of the reference and of each other network."""
    first = at[base][0].facts
    for cell in (cell for cells in at.values() for cell in cells):
        differences = list(_effort(at[base][0], cell))
        if differences:
            where = f"{first.checkpoint} and {cell.facts.checkpoint} under {setting_text(setting)}"
            yield f"{where}: {'; '.join(differences)}"


def _effort(reference: ComparedCell, rival: ComparedCell) -> Iterator[str]:
    one, other = reference.facts, rival.facts
    if one.settings != other.settings:
        ours, theirs = reference.differing(rival)
        yield f"{ours[:80] or 'nothing'} against {theirs[:80] or 'nothing'}"
    if one.precision != other.precision:
        yield f"precision {one.precision} against {other.precision}"
    if one.rule != other.rule:
        yield f"rule {one.rule} against {other.rule}"
    if one.noise_definition != other.noise_definition and 0 not in (
        one.noise_definition,
        other.noise_definition,
    ):
        yield f"noise definition {one.noise_definition} against {other.noise_definition}"
    random = one.noise != "none" and other.noise != "none"
    if random and one.score_draws != other.score_draws:
        yield f"{one.score_draws} score draws against {other.score_draws}"


def is_sde_against_ode(
    networks: Mapping[str, Mapping[Setting, ComparedCell]], members: Mapping[str, Sequence[str]], base: str
) -> bool:
    """Whether the reference is an ODE of ours and all others are SDEs of ours."""

    def noises(names: Sequence[str]) -> set[str]:
        facts = [cell.facts for name in names for cell in networks[name].values()]
        found = {one.noise if one.solver else "" for one in facts}
        return {"none" if noise == "keyed" else noise for noise in found}  # an ODE behind noise on the image

    others = set().union(*(noises(names) for kind, names in members.items() if kind != base))
    return noises(members[base]) == {"none"} and not others & {"none", ""}
