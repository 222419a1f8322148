"""Write what is made from the code (`make tables`): three pages, and the catalogue that `list` reads."""

import ast
import inspect
import json
from collections.abc import Mapping
from pathlib import Path

from robustbench_sde.cli.list_ import catalogue
from robustbench_sde.perturbations.attacks.base import Attack
from robustbench_sde.perturbations.attacks.registry import ATTACKS
from robustbench_sde.sde.diffusion import NOISE_TERMS
from robustbench_sde.storage import schema

_HEAD = """\
# Attacks

Made from the classes in `perturbations/attacks/` by `make tables`; do not edit.

Set a parameter with `--set ATTACK.NAME=VALUE` on the command line, with a key in a [suite](suites.md#keys),
or with a keyword of [`rb.attack`](api.md). Some parameters have an option of their own (`--steps`,
`--eot-draws`, and `--budget` for `passes`). `null` means None. Attacks of foolbox, `foolbox:NAME`, have the
parameters of all attacks; their step size is 2.5 eps / steps, and their other parameters have the values of
foolbox. Those that look for the smallest change take foolbox's own number of steps (25,000 for
BoundaryAttack) unless `--steps` gives another; their rows show it.
"""

_NOISE_HEAD = """\
# Kinds of noise

Made from the classes in `sde/diffusion.py` by `make tables`; do not edit. How kinds are chosen and joined:
[models](models.md#noise). A default is that of a checkpoint whose header lacks the parameter; `train` may
have another, which `--help-all` shows (`--jump-rate` 2). Orders are those under Euler-Maruyama (`euler`).
"""


def attacks_page() -> str:
    """Describe every attack and its parameters, from the docstrings and comments of the classes."""
    shared = Attack.parameters()
    parts = [_HEAD, "## Parameters of all attacks\n", _table(Attack, shared)]
    for name, kind in ATTACKS.items():
        traits = [f"Norms: {', '.join(kind.norms)}" if len(kind.norms) > 1 else f"Norm: {kind.norms[0]}"]
        traits += ["minimal-norm: finds the smallest perturbation, `eps` is a limit"] * kind.minimal
        traits += ["takes no gradients"] * (not kind.gradients)
        parts += [f"## {name}\n", f"{inspect.getdoc(kind)}\n", f"{'; '.join(traits)}.\n"]
        own = dict(item for item in kind.parameters().items() if item not in shared.items())
        parts += [_table(kind, own)] * bool(own)
    return "\n".join(parts)


def noise_page() -> str:
    """Describe every kind of noise and its parameters, from the attributes and docstrings of the classes."""
    parts = [_NOISE_HEAD]
    for name, kind in NOISE_TERMS.items():
        strong, weak = kind.euler_orders
        theorem = kind.outside_theorem or "the theorem is about this noise, if it is `scalar`"
        parts += [f"## {name}\n", f"{inspect.getdoc(kind)}\n"]
        parts += [f"Orders: strong {strong:g}, weak {weak:g}. Stability: {theorem}.\n"]
        if kind.parameters:
            rows = [
                f"| `{own}` | {each.summary} | above {each.above:g}, at most {each.at_most:g} "
                f"| {each.default:g} |"
                for own, each in kind.parameters.items()
            ]
            heading = "| parameter | meaning | range | default |"
            parts.append("\n".join([heading, "|---|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _table(kind: type, defaults: Mapping[str, object]) -> str:
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__):  # a subclass may say it anew
        if issubclass(base, Attack):
            meanings |= _comments(base)
    rows = [f"| `{name}` | {_shown(default)} | {meanings[name]} |" for name, default in defaults.items()]
    return "\n".join(["| parameter | default | meaning |", "|---|---|---|", *rows, ""])


def _shown(default: object) -> str:
    """Write a default as YAML and `--set` have it."""
    words = {None: "null", True: "true", False: "false"}
    text = words[default] if default is None or isinstance(default, bool) else str(default)
    return f"`{text}`" if text else ""


def _comments(kind: type) -> dict[str, str]:
    """Read the `#:` comment above each field that the class itself has."""
    source = inspect.getsource(kind)
    lines = source.splitlines()
    comments = {}
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            end = start = statement.lineno - 1
            while lines[start - 1].lstrip().startswith("#:"):
                start -= 1
            if start < end:
                said = (line.strip().removeprefix("#:").strip() for line in lines[start:end])
                comments[statement.target.id] = " ".join(said)
    return comments


if __name__ == "__main__":
    here = Path(__file__).parent
    (here / "attacks.md").write_text(attacks_page())
    (here / "noise.md").write_text(noise_page())
    (here / "tables.md").write_text(schema.documentation())
    listed = json.dumps(catalogue(), indent=2, ensure_ascii=False)
    (here.parent / "robustbench_sde" / "cli" / "catalogue.json").write_text(listed + "\n")
