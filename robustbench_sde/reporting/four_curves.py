"""Draw four accuracies of one classifier against eps: certified, attacked once, attacked again, random."""

import pandas as pd

from robustbench_sde.reporting.figures import (
    ACCURACY,
    MOST_FIGURES,
    Drawn,
    draw_lines,
    file_name,
    save,
    styled,
)
from robustbench_sde.runs.words import most_draws, name_lines
from robustbench_sde.storage.certificates import read_certified
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import CERTIFIED, empty_table

#: number of submissions of the curve of attackers who may try again
_TRIES = 10


def four_curves(summary: pd.DataFrame, run: RunFolder, out: RunFolder) -> list[Drawn]:
    """Draw `figures/four-curves-<norm>-<checkpoint>` for each checkpoint that was attacked.

    The curves are: proven accuracy (L2 alone, from `certificates.parquet` of the run), accuracy under
    the attack that left least, the share of images that ten submissions of what it made survive, and accuracy
    at random points (`noise` with `samples`). A figure is drawn if the first or the last of them is known.

    Args:
        summary: rows of a run.
        run: folder with its certificates.
        out: folder to write into.

    Raises:
        BenchError: a certificate is damaged.
    """
    sound = most_draws(summary[summary["status"] == "ok"])
    names, every = name_lines(summary)[sound.index], read_certified(run.path)
    drawn: list[Drawn] = []
    plain = sound[sound["perturbation"] == "clean"]
    for (name, norm), rows in sound[sound["eps"] > 0].groupby([names, "norm"], sort=False):
        if len(drawn) == MOST_FIGURES:
            break
        if every is None and not (rows["samples"] > 0).any():
            continue
        certified = every[every["status"] == "ok"] if norm == "l2" and every is not None else _NOTHING
        clean = plain[names[plain.index] == name]
        lines = list(_curves(clean, rows, certified[certified["checkpoint"] == name]).items())
        known = {label for label, _ in lines}
        if "attacked" not in known or len(known) < 3:
            continue
        with styled(height=3.8) as figure:
            axes = figure.add_subplot(
                xlabel=f"eps ({norm}, images in [0, 1])", ylabel=ACCURACY, ylim=(-2, 102), title=str(name)
            )
            draw_lines(axes, lines, "eps")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)  # lines go everywhere
            stem = file_name("four-curves", str(norm), str(name))
            save(figure, out, stem)
        caption = (
            f"{name}, {norm}: what is proven, what the strongest attack of this run leaves, what is left of "
            f"that after {_TRIES} submissions, and accuracy at random points. Bands: 95 % over images."
        )
        drawn.append(Drawn(stem, caption))
    return drawn


def _curves(clean: pd.DataFrame, rows: pd.DataFrame, certified: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the curves that are known, by label, with columns eps, accuracy, accuracy_low and accuracy_high.

    Args:
        clean: rows of the clean images.
        rows: rows at budgets above 0, of one norm.
        certified: rows of its certificates (`CERTIFIED`), maybe none.
    """
    attacks = rows[(rows["samples"] == 0) & (rows["perturbation"] != "noise")]
    points = rows[(rows["samples"] > 0) & (rows["perturbation"] == "noise")]
    curves: dict[str, pd.DataFrame] = {}
    rule = clean["rule"].iloc[0] if len(clean) else ""
    for proven in certified["rule"].unique():  # a proof is about one decision rule
        label = "certified" if proven == rule else f"certified ({proven})"
        own = certified[certified["rule"] == proven]
        names = ["radius", "certified_accuracy", "certified_low", "certified_high"]
        curves[label] = own[names].set_axis(_COLUMNS, axis=1)
    start = clean.assign(eps=0.0)
    if not attacks.empty:
        attacked = pd.concat([start, attacks])
        curves["attacked"] = _lowest(attacked, "accuracy", "accuracy")
        again = f"survives_{_TRIES}"
        curves[f"attacked, {_TRIES} submissions"] = _lowest(attacked, again, again)
    if not points.empty:
        begin = _lowest(start, "single_draw_accuracy", "single_draw")
        curves["random"] = pd.concat([begin, _lowest(points, "random_accuracy", "random")])
    return {label: curve for label, curve in curves.items() if not curve.empty}


_COLUMNS = ["eps", "accuracy", "accuracy_low", "accuracy_high"]


#: table of certificates without rows
_NOTHING = empty_table(CERTIFIED)


def _lowest(rows: pd.DataFrame, estimate: str, ends: str) -> pd.DataFrame:
    """Return the lowest value of each budget with its interval; budgets without a number are left out."""
    known = rows[rows[estimate].notna()].sort_values(["eps", estimate], kind="stable")
    first = known.drop_duplicates("eps")[["eps", estimate, f"{ends}_low", f"{ends}_high"]]
    return first.set_axis(_COLUMNS, axis=1)
