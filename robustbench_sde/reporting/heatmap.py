"""Heat maps: accuracy of a checkpoint by corruption and severity."""

import numpy as np
import pandas as pd

from robustbench_sde.evaluation.corruption_summary import CLEAN, MEAN
from robustbench_sde.reporting.figures import Drawn, file_name, save, styled
from robustbench_sde.storage.run_folder import RunFolder

#: errors from here on get white letters
_DARK = 0.55


def graded_corruptions(own: pd.DataFrame) -> pd.DataFrame:
    """The rows of a checkpoint with a corruption and a severity, the mean over corruptions last."""
    graded = own[own["severity"].notna() & (own["corruption"] != CLEAN) & (own["status"] == "ok")]
    return graded.sort_values("corruption", key=lambda names: names == MEAN, kind="stable")


def corruption_heatmaps(corruptions: pd.DataFrame, folder: RunFolder) -> list[Drawn]:
    """Write `figures/heatmap-<checkpoint>`: darker is more errors, half the width of the interval beside."""
    drawn = []
    for checkpoint, own in corruptions.groupby("checkpoint", sort=False):
        rows = graded_corruptions(own)
        if rows.empty:
            continue
        corrupted = list(rows["corruption"].unique())
        severities = sorted(rows["severity"].unique())
        errors = np.full((len(corrupted), len(severities)), np.nan)
        with styled(1.7 + 0.62 * len(severities), 0.75 + 0.21 * len(corrupted)) as figure:
            axes = figure.add_subplot(xlabel="severity", title=f"{checkpoint}: accuracy, % (± 95 %)")
            for row in rows.to_dict("records"):
                place = corrupted.index(row["corruption"]), severities.index(row["severity"])
                errors[place] = 1 - row["accuracy"]
                half = 50 * (row["accuracy_high"] - row["accuracy_low"])
                axes.text(
                    place[1],
                    place[0],
                    f"{100 * row['accuracy']:.0f} ± {half:.0f}",
                    ha="center",
                    va="center",
                    fontsize="small",
                    color="white" if errors[place] > _DARK else "black",
                )
            axes.imshow(errors, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            axes.set_xticks(range(len(severities)), [f"{severity:g}" for severity in severities])
            axes.set_yticks(range(len(corrupted)), corrupted)
            name = file_name("heatmap", str(checkpoint))
            save(figure, folder, name)
        drawn.append(
            Drawn(name, f"{checkpoint}: accuracy by corruption and severity, darker is more errors.")
        )
    return drawn
