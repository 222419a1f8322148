"""How often does the interval of `versus` hold the truth, and how often does it find what it says it would?

    python -m benchmarks.versus [--repeats 4000] [--images 200]

Networks are simulated: an image has a difficulty that all networks share, a training has a level of its own,
and there is noise of each image under each training. Two kinds have the trainings that the first column says;
there is no third kind to learn the spread from. Coverage is the share of 95 % intervals that hold the true
difference of the kinds; it should be 95 % or a little more. The next two columns are the shares of equal
kinds that tests at the levels 1 and .2 % call different, which Holm's method asks of large tables. Power is
the share of tests at the 5 % level that find a difference as large as the median of `detectable`; it should
be 80 %.
"""

import argparse

import numpy as np
from scipy.special import ndtri

from robustbench_sde.evaluation.paired import detectable_by_decisions, sign_flip_test
from robustbench_sde.evaluation.trainings import Difference, Spread, difference

Floats = np.ndarray
#: Levels of tests, the first of which is that of the intervals.
LEVELS = (0.05, 0.01, 0.002)


def kind(
    generator: np.random.Generator, difficulty: Floats, trainings: int, spread: float, mean: float
) -> Floats:
    """Simulate (trainings, images) outcomes, 0 or 1, of a kind with this mean accuracy.

    Args:
        generator: source of all randomness.
        difficulty: (images,) standard normal.
        trainings: number of networks.
        spread: standard deviation of a training's accuracy at 60 %, as a share.
        mean: accuracy of the kind over all images and trainings.
    """
    own = 0.5  # what an image's outcome owes to the training, in the units of its difficulty
    deviation = spread / (np.exp(-0.5 * ndtri(0.6) ** 2) / np.sqrt(2 * np.pi))
    centre = ndtri(mean) * np.sqrt(1 + deviation**2)  # so that `mean` is the mean over trainings
    level = np.sqrt(1 + own**2) * (centre + deviation * generator.standard_normal((trainings, 1)))
    noise = own * generator.standard_normal((trainings, len(difficulty)))
    return (difficulty + noise < level).astype(np.float64)


def simulate(
    trainings: tuple[int, int], spread: float, gain: float, repeats: int, images: int, seed: int = 0
) -> list[Difference]:
    """Simulate comparisons of two kinds at 60 % accuracy, the first better by `gain`."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        difficulty = generator.standard_normal(images)
        one, other = (
            kind(generator, difficulty, count, spread, mean)
            for count, mean in zip(trainings, (0.6 + gain, 0.6), strict=True)
        )
        found.append(difference(one, other, Spread.pooled([one, other])))
    return found


def false_claims(
    trainings: tuple[int, int], spread: float, repeats: int, images: int, seed: int = 0
) -> list[float]:
    """Return the share of comparisons of equal kinds whose p-value is below each of `LEVELS`."""
    found = simulate(trainings, spread, 0.0, repeats, images, seed)
    return [float(np.mean([_differs(each, level) for each in found])) for level in LEVELS]


def _differs(found: Difference, level: float) -> bool:
    """Whether p is below the level, which takes a while to compute itself."""
    return float(found.variance.half(level)) < abs(found.interval.estimate)


def power(trainings: tuple[int, int], spread: float, repeats: int, images: int) -> tuple[float, float]:
    """Return the median detectable difference, and the share of comparisons that find it."""
    promised = float(
        np.median([d.detectable(0.05) for d in simulate(trainings, spread, 0.0, repeats, images)])
    )
    if promised > 0.35:  # accuracies end at 1
        return promised, float("nan")
    found = simulate(trainings, spread, promised, repeats, images, seed=1)
    return promised, float(np.mean([_differs(each, 0.05) and each.interval.estimate > 0 for each in found]))


def paired_power(repeats: int, images: int) -> tuple[float, float]:
    """Return the median detectable difference of two single trainings, and how often it is found exactly."""
    generator = np.random.default_rng(2)

    def pair(gain: float) -> Floats:
        difficulty = generator.standard_normal(images)
        one, other = (kind(generator, difficulty, 1, 0.0, mean)[0] for mean in (0.6 + gain, 0.6))
        return one - other

    promised = float(
        np.median(
            [
                detectable_by_decisions(images, float(np.abs(pair(0)).mean()), 0.05)
                for _ in range(repeats // 10)
            ]
        )
    )
    hits = [
        sign_flip_test(change.astype(np.int64)) <= 0.05 and change.sum() > 0
        for change in (pair(promised) for _ in range(repeats))
    ]
    return promised, float(np.mean(hits))


def main(arguments: list[str] | None = None) -> None:
    """Print the table of coverage and power."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args(arguments)
    repeats, images = options.repeats, options.images
    print(f"{repeats} simulations, {images} images, accuracy 60 %, 95 % intervals, tests at 5 %\n")
    print("| trainings | spread, points | coverage, % | p < .01, % | p < .002, % | detectable | found, % |")
    print("|---|---|---|---|---|---|---|")
    for trainings in ((2, 2), (3, 3), (5, 5), (3, 1), (2, 1)):
        for spread in (0.0, 0.01, 0.04, 0.1):
            outside, *tails = false_claims(trainings, spread, repeats, images)
            promised, hit = power(trainings, spread, repeats, images)
            found = "" if np.isnan(hit) else f"{100 * hit:.1f}"
            print(
                f"| {trainings[0]} and {trainings[1]} | {100 * spread:g} | {100 * (1 - outside):.1f} "
                f"| {' | '.join(f'{100 * tail:.2g}' for tail in tails)} | {100 * promised:.1f} | {found} |",
                flush=True,
            )
    promised, hit = paired_power(repeats, images)
    print(f"| 1 and 1, images alone | 0 | | | | {100 * promised:.1f} | {100 * hit:.1f} |")


if __name__ == "__main__":
    main()
