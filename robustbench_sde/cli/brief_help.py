"""Shorten --help: common options in full, rare ones in a line each; --help-all has every text in full."""

import re
from collections.abc import Sequence
from copy import copy
from typing import Any

from robustbench_sde.cli.options import RARE

#: options that few command lines need, by the name of their parameter, besides those of speed and memory
_RARE = frozenset(
    (
        *("samples", "restarts", "budget", "target", "source", "set_"),
        *("weights", "normalize", "classes", "class_map", "smoothing", "precision"),
        *("data_dir", "download", "image_size", "resize", "crop", "interpolation", "class_order"),
        *("tries", "try_draws", "save_images", "force", "select_draws", "early", "alpha", "radius"),
        *("family", "frost_dir", "official", "reference", "allow_unequal"),
        *("address", "gpus_per_task", "cpus_per_task", "shard_images", "cache"),
        *("noise_shape", "sigma_growth", "learn_sigma", "jump_rate", "levy_alpha", "keep", "horizon"),
        *("momentum", "weight_decay", "schedule", "crop_padding", "flip", "augment_noise"),
        *("adversarial_norm", "adversarial_steps", "adversarial_step_size", "trades_beta"),
    )
)
#: options that a command names among the common ones, though they are rare elsewhere
_COMMON = {"certify": ("smoothing", "radius", "alpha"), "corrupt": ("family",)}
#: fewest rare options that are worth a second --help
_FEWEST = 4
#: end of the first clause of a help text: a full stop, semicolon, colon or bracket that a blank follows
_CLAUSE = re.compile(r"[.;:](?=\s|$)| \(")
#: number of letters for which a line of 80 columns has room
_LINE = 55


def rare_of(command: str, parameters: Sequence[Any]) -> list[Any]:
    """Return the parameters of a command that --help names in a line each; empty if there are few."""
    names = _RARE.difference(_COMMON.get(command, ()))
    rare = [
        each for each in parameters if each.name in names or getattr(each, "rich_help_panel", None) == RARE
    ]
    return rare if len(rare) >= _FEWEST else []


def help_all_option(help_option: Any, show: Any) -> Any:
    """Return the option `--help-all`, made like the help option of this version of typer.

    Args:
        help_option: the option `--help`.
        show: function that prints the whole help of a context.
    """

    def callback(context: Any, _: Any, value: bool) -> None:
        if value and not context.resilient_parsing:
            show(context)
            context.exit()

    option = copy(help_option)
    option.name, option.opts, option.secondary_opts = "help_all", ["--help-all"], []
    option.help = "Show all options in full and exit."
    option.callback = callback
    return option


def print_rare(rare: Sequence[Any]) -> None:
    """Print the rare options in a panel, each with the first clause of its help."""
    from rich.panel import Panel
    from rich.table import Table
    from typer import rich_utils

    table = Table(box=None, show_header=False, expand=True, padding=(0, 1), pad_edge=False)
    table.add_column(no_wrap=True, style=rich_utils.STYLE_OPTION)
    table.add_column(ratio=1)
    for each in rare:
        names = sorted(each.opts, key=len, reverse=True) + each.secondary_opts
        table.add_row("/".join(names), first_clause(each.help or ""))
    rich_utils._get_rich_console().print(
        Panel(
            table,
            title="Rarely needed; --help-all explains them",
            title_align=rich_utils.ALIGN_OPTIONS_PANEL,
            border_style=rich_utils.STYLE_OPTIONS_PANEL_BORDER,
        )
    )


def first_clause(text: str) -> str:
    """Return the beginning of a help text that stands alone, with a full stop.

    It goes as far as the first full stop, semicolon, colon or bracket, and as far as a comma if that is
    needed for one line.
    """
    end = _CLAUSE.search(text)
    clause = text if end is None else text[: end.start()]
    if len(clause) > _LINE and ", " in clause:
        clause = clause.partition(", ")[0]
    return clause + "." * bool(clause)
