"""Coverage of the intervals over draws: simulated classifiers whose draws come in pairs.

    python -m benchmarks.noise_intervals [--trials 1000] [--what noise share auto]

A draw gives each class a score m + z; the two z of a pair have a given correlation: -1 (a smooth network
under mirrored noise), 0 (independent draws), 1 (a network that cannot tell noise from its mirror image).
`noise` is the interval over noise of 200 images, `share` the interval of an image's probability, `auto` how
often `--score-draws auto` decides an image differently than 256 draws do.
"""

import argparse
import math

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr

from robustbench_sde.evaluation.sequential import MOST, decided, stages
from robustbench_sde.evaluation.statistics import Z95, over_noise, share_interval
from robustbench_sde.models.probabilities import mean_error

Floats = npt.NDArray[np.float64]
Dice = np.random.Generator

CORRELATIONS = (-1.0, -0.9, 0.0, 0.9)
DRAWS = (2, 4, 8, 32)
IMAGES = 200


def normals(correlation: float, draws: int, shape: tuple[int, ...], dice: Dice) -> Floats:
    """Draw numbers (draws, *shape) whose consecutive pairs have this correlation."""
    first, other = dice.normal(size=(2, draws // 2, *shape))
    second = correlation * first + math.sqrt(1 - correlation**2) * other
    return np.stack((first, second), 1).reshape(draws, *shape)


def probabilities(means: Floats, correlation: float, draws: int, dice: Dice) -> Floats:
    """Draw softmax probabilities (draws, images, classes) about mean scores (images, classes)."""
    scores = means + normals(correlation, draws, means.shape, dice)
    odds = np.exp(scores - scores.max(-1, keepdims=True))
    total: Floats = odds / odds.sum(-1, keepdims=True)
    return total


def margins(probs: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the margin of class 0, its error from pairs, and its error as if draws were independent."""
    mean = probs.mean(0)
    rival = 1 + mean[:, 1:].argmax(1)
    difference = probs[..., 0] - np.take_along_axis(probs, rival[None, :, None], 2)[..., 0]
    values = torch.from_numpy(difference)
    errors = (mean_error(values, paired=paired).numpy() for paired in (True, False))
    return difference.mean(0), *errors


def before(margin: Floats, error: Floats) -> float:
    """Return the half width of the rule of earlier versions."""
    right = ndtr(margin / (error * math.sqrt(2)))
    return Z95 * math.sqrt(float((right * (1 - right)).sum())) / len(margin)


def covered_over_noise(means: Floats, correlation: float, draws: int, trials: int) -> tuple[float, float]:
    """Return the coverage of the accuracy of fresh draws, by the earlier rule and by today's."""
    dice = np.random.default_rng(1)

    def trial() -> tuple[Floats, Floats, Floats]:
        return margins(probabilities(means, correlation, draws, dice))

    truth = float(np.mean([(trial()[0] > 0).mean() for _ in range(4 * trials)]))
    held = np.zeros(2)
    for _ in range(trials):
        margin, of_pairs, of_draws = trial()
        accuracy = float((margin > 0).mean())
        found = over_noise(margin, of_pairs, margin > 0, max(1, draws // 2 - 1))
        held += (
            abs(accuracy - truth) <= before(margin, of_draws) + 1e-12,
            found.low - 1e-12 <= truth <= found.high + 1e-12,
        )
    return tuple(held / trials)  # type: ignore[return-value]


def over_noise_table(trials: int) -> None:
    """Print the coverage of the interval over noise."""
    print("| classes | images | correlation | draws | before | now |\n|---|---|---|---|---|---|")
    for classes in (3, 10):
        for where in ("at the boundary", "mixed"):
            dice = np.random.default_rng(0)
            means = dice.normal(size=(IMAGES, classes))
            means[:, 2:] -= 1.5
            means[:, 0] = (
                means[:, 1] if where == "at the boundary" else means[:, 0] + dice.choice([0, 2, 5], IMAGES)
            )
            for correlation in CORRELATIONS:
                for draws in DRAWS:
                    old, now = covered_over_noise(means, correlation, draws, trials)
                    text = "none" if draws < 4 else f"{100 * now:.1f}"
                    print(
                        f"| {classes} | {where} | {correlation:g} | {draws} | {100 * old:.1f} | {text} |",
                        flush=True,
                    )


def share_table(trials: int) -> None:
    """Print the least coverage of an image's interval over its probability, from .01 to .99."""
    print("| correlation | draws | least coverage | mean |\n|---|---|---|---|")
    images = 20 * trials
    for correlation in (*CORRELATIONS, 1.0):
        for draws in (2, 4, 8, 32, 128):
            dice, held = np.random.default_rng(2), []
            for level in (-2.3, -1.6, -0.8, 0.0, 0.8, 1.6, 2.3):
                right = normals(correlation, draws, (images,), dice) < level
                low, high = share_interval(right.mean(0), draws)
                truth = float(ndtr(level))
                held.append(float(((low <= truth) & (truth <= high)).mean()))
            print(
                f"| {correlation:g} | {draws} | {100 * min(held):.1f} | {100 * np.mean(held):.1f} |",
                flush=True,
            )


def auto_table(trials: int) -> None:
    """Print how often fewer draws decide differently than all, and the draws that they take."""
    print(
        "| draws | correlation | share of votes | decided differently | mean draws |\n|---|---|---|---|---|"
    )
    images = 4 * trials
    for kind in ("votes", "probabilities"):
        for correlation in (*CORRELATIONS, 1.0):
            for level in (0.0, 0.25, 0.67, 1.64):
                dice = np.random.default_rng(3)
                scores = level + normals(correlation, MOST, (images,), dice)
                first = (scores > 0).astype(np.float64) if kind == "votes" else ndtr(scores)
                values = torch.from_numpy(np.stack((first, 1 - first), -1))
                truth, decision = values.mean(0).argmax(1), torch.zeros(images, dtype=torch.int64)
                taken, left = torch.zeros(images), torch.arange(images)
                for stage in stages():
                    if not len(left):
                        break
                    seen = values[: stage.stop, left]
                    done = decided(seen)
                    decision[left[done]], taken[left[done]] = seen.mean(0).argmax(1)[done], float(stage.stop)
                    left = left[~done]
                wrong = float((decision != truth).double().mean())
                print(
                    f"| {kind} | {correlation:g} | {ndtr(level):.2f} "
                    f"| {100 * wrong:.2f} % | {float(taken.mean()):.0f} |",
                    flush=True,
                )


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument(
        "--what", nargs="*", choices=["noise", "share", "auto"], default=["noise", "share", "auto"]
    )
    options = parser.parse_args()
    tables = {"noise": over_noise_table, "share": share_table, "auto": auto_table}
    for name in options.what:
        tables[name](options.trials)


if __name__ == "__main__":
    main()
