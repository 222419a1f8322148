"""The corruptions against the published recipes, and against stored output of the published generator.

    pip install -e '.[benchmarks]'
    python benchmarks/corruption_reference.py [STORED.npz] [--photographs] [--seeds 64] [--only fog,frost]

The recipes (`corruption_oracle.py`) and the package corrupt the same images with as many seeds each.
Deterministic corruptions: mean absolute difference at most 1/255, 99.9 % of the values within 2/255. Random
ones, in % of the recipes' expectation with the standard error from the seeds: mean absolute change within
5 % (10 % for frost, snow, spatter, glass_blur), its spread over images within 20 %, its power spectrum within
10 % in each ring that carries at least 5 % of the power (the worst ring, with its frequencies, is printed).

With a stored file (`clean` (N, 32, 32, 3) uint8, and by name (5, N, 32, 32, 3)) the same limits hold against
that one draw. Then its columns follow, and how far the farthest of its statistics is from the recipes'
expectation, in standard deviations of a draw; below, each limit that it misses, and how far the recipes'
expectation is from the draw there: what is theirs too is the luck of the draw. Exit status 1 if the package
misses any limit, against either.

Images: those of the stored file, else those of the tests, or `--photographs`: crops of scikit-learn's.
`--write FILE` stores the recipes' expectations, which the tests use.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import corruption_oracle as oracle
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from robustbench_sde.perturbations.corruptions import CORRUPTIONS, corrupt
from robustbench_sde.perturbations.corruptions.severities import FAMILIES

Images = npt.NDArray[np.uint8]
Statistics = npt.NDArray[np.float64]

TEST_IMAGES = Path(__file__).parents[1] / "tests" / "data" / "corruptions.npz"
DETERMINISTIC = (
    "brightness",
    "contrast",
    "saturate",
    "pixelate",
    "jpeg_compression",
    "defocus_blur",
    "gaussian_blur",
    "zoom_blur",
)
LARGE_LAYERS = ("frost", "snow", "spatter", "glass_blur")
CHANGE, SPREAD, SPECTRUM, COMPARED = 0.05, 0.20, 0.10, 0.05
#: rings of the power spectrum, in cycles per image
RINGS = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (12, 17), (17, 24)]


@dataclass(frozen=True)
class Deviations:
    """Relative deviations of one set of statistics from another, their standard errors and limits."""

    #: change, spread, and one per ring that counts
    values: Statistics
    errors: Statistics
    limits: Statistics
    rings: list[tuple[int, int]]

    @property
    def missed(self) -> list[int]:
        """List the limits that do not hold."""
        return np.flatnonzero(np.abs(self.values) > self.limits).tolist()

    def name(self, index: int) -> str:
        """Name of what a value is about."""
        return ("change", "spread", *(f"ring {low}-{high}" for low, high in self.rings))[index]

    def __str__(self) -> str:
        worst = 2 + int(np.abs(self.values[2:]).argmax())
        low, high = self.rings[worst - 2]
        parts = [f"{100 * self.values[i]:+6.1f} ±{100 * self.errors[i]:4.1f}" for i in (0, 1, worst)]
        return f"{'  '.join(parts)} {f'({low}-{high})':>7}  {'MISS' if self.missed else 'ok':4}"


def statistics(corrupted: Images, clean: Images) -> Statistics:
    """Mean absolute change, its deviation over images, mean change by channel (3), power by ring."""
    change = corrupted.astype(float) - clean
    by_image = np.abs(change).mean((1, 2, 3))
    power = (np.abs(np.fft.fft2(change, axes=(1, 2))) ** 2).mean((0, 3))
    axis = np.fft.fftfreq(oracle.SIDE, 1 / oracle.SIDE)
    ring = np.rint(np.hypot(axis[:, None], axis[None]))
    rings = [power[(ring >= low) & (ring < high)].sum() for low, high in RINGS]
    return np.array([by_image.mean(), by_image.std(), *change.mean((0, 1, 2)), *rings])


def deviations(name: str, ours: Statistics, expected: Statistics, *, drawn: Statistics) -> Deviations:
    """Means over seeds of `ours` (seeds, statistics) against those of `expected`, or against one draw of it.

    `drawn` (seeds, statistics) is the recipes', for the standard error of a single draw.
    """

    def error(runs: Statistics) -> Statistics:
        return np.asarray((runs if len(runs) > 1 else drawn).std(0, ddof=1) / np.sqrt(len(runs)))

    target = expected.mean(0)
    power = target[5:]
    counted = np.flatnonzero(power >= COMPARED * power.sum())
    kept = np.array([0, 1, *(5 + counted)])
    change = CHANGE * (2 if name in LARGE_LAYERS else 1)
    return Deviations(
        (ours.mean(0) / target - 1)[kept],
        (np.hypot(error(ours), error(expected)) / target)[kept],
        np.array([change, SPREAD, *[SPECTRUM] * len(counted)]),
        [RINGS[ring] for ring in counted],
    )


def ours(clean: Images, name: str, severity: int, seed: int) -> Images:
    """Corrupt (N, 32, 32, 3) uint8 images by the package."""
    images = torch.from_numpy(clean).permute(0, 3, 1, 2).contiguous()
    return np.asarray(corrupt(images, name, severity, seed=seed).permute(0, 2, 3, 1).numpy())


def photograph_crops() -> Images:
    """30 crops of scikit-learn's two sample photographs at a quarter of their size: (30, 32, 32, 3)."""
    side = oracle.SIDE
    crops = [
        small[top : top + side, left : left + side]
        for small in (np.asarray(Image.fromarray(large).reduce(4)) for large in load_sample_images().images)
        for top in range(0, small.shape[0] - side + 1, side)
        for left in range(0, small.shape[1] - side + 1, side)
    ]
    return np.stack(crops)


def compare_exactly(clean: Images, name: str, severity: int, stored: Images | None) -> int:
    """Prints one deterministic corruption's line; the number of missed limits."""
    random, parameters = np.random.default_rng(0), FAMILIES["cifar"].parameters(name, severity)
    targets = {"recipe": oracle.corrupt(clean, name, random, parameters)}
    if stored is not None:
        targets["stored"] = stored
    missed, parts = 0, []
    for label, target in targets.items():
        difference = np.abs(ours(clean, name, severity, seed=0).astype(int) - target)
        mean, within = difference.mean(), (difference <= 2).mean()
        missed += int(mean > 1) + int(within < 0.999)
        parts.append(f"{label}: mean {mean:.4f}, largest {difference.max()}, within 2: {100 * within:.2f} %")
    print(f"{name:18}{severity}  {';  '.join(parts)}  {'MISS' if missed else 'ok'}", flush=True)
    return missed


def compare_statistically(
    clean: Images, name: str, severity: int, stored: Images | None, seeds: int
) -> tuple[int, int, int, Statistics]:
    """Prints one random corruption's line.

    Returns the numbers of limits missed against the recipes, against `stored`, and by the recipes against
    `stored`; and the recipes' statistics (seeds, statistics).
    """
    parameters = FAMILIES["cifar"].parameters(name, severity)
    expected = np.stack(
        [
            statistics(
                oracle.corrupt(clean, name, np.random.default_rng([seed, severity]), parameters), clean
            )
            for seed in range(seeds)
        ]
    )
    runs = np.stack([statistics(ours(clean, name, severity, seed), clean) for seed in range(seeds)])
    against_recipes = deviations(name, runs, expected, drawn=expected)
    line = f"{name:18}{severity} {against_recipes}"
    if stored is None:
        print(line.rstrip(), flush=True)
        return len(against_recipes.missed), 0, 0, expected
    draw = statistics(stored, clean)
    against_draw = deviations(name, runs, draw[None], drawn=expected)
    recipes = deviations(name, expected, draw[None], drawn=expected)
    farthest = np.abs((draw - expected.mean(0)) / expected.std(0, ddof=1)).max()
    print(f"{line} | {against_draw}  draw off {farthest:.1f} sd", flush=True)
    for index in against_draw.missed:
        value, error, theirs = (
            f"{100 * of[index]:.1f}" for of in (against_draw.values, against_draw.errors, recipes.values)
        )
        print(
            f"{'':20}stored draw, {against_draw.name(index)}: {value} ±{error}, recipes {theirs}", flush=True
        )
    return len(against_recipes.missed), len(against_draw.missed), len(recipes.missed), expected


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stored", nargs="?", type=Path)
    parser.add_argument("--photographs", action="store_true")
    parser.add_argument("--seeds", type=int, default=64)
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    if options.stored and options.photographs:
        parser.error("a stored file has its own images; leave out --photographs")
    torch.set_num_threads(1)
    file = np.load(options.stored or TEST_IMAGES)
    clean = photograph_crops() if options.photographs else file["clean"]
    names = options.only.split(",") if options.only else list(CORRUPTIONS)

    missed = missed_stored = luck = 0
    table: dict[str, dict[str, list[list[float]]]] = {}
    print(
        f"{len(clean)} images, {options.seeds} seeds; change, spread, worst ring in % | the same, stored draw"
    )
    for name in names:
        for severity in range(1, 6):
            stored = file[name][severity - 1] if options.stored else None
            if name in DETERMINISTIC:
                missed += compare_exactly(clean, name, severity, stored)
                continue
            recipes, draw, lucky, runs = compare_statistically(clean, name, severity, stored, options.seeds)
            missed, missed_stored, luck = missed + recipes, missed_stored + draw, luck + lucky
            row = table.setdefault(name, {"mean": [], "deviation": []})
            row["mean"].append([float(f"{value:.6g}") for value in runs.mean(0)])
            row["deviation"].append([float(f"{value:.6g}") for value in runs.std(0, ddof=1)])
    print(f"limits missed against the recipes: {missed}")
    if options.stored:
        print(f"limits missed against the stored draw: {missed_stored}; by the recipes themselves: {luck}")
    if options.write:
        rows = ",\n".join(f'"{name}": {json.dumps(row)}' for name, row in table.items())
        options.write.write_text(f"{{\n{rows}\n}}\n")
    sys.exit(1 if missed or missed_stored else 0)


if __name__ == "__main__":
    main()
