"""Measure what docs/certificates.md says: coverage, draws saved, and brackets of ODEs beside SDEs.

    python -m benchmarks.certificates bounds               # simulated, no network; a minute
    python -m benchmarks.certificates noise                # float32 noise beside float64 noise
    python -m benchmarks.certificates savings              # the shipped checkpoints; an hour
    python -m benchmarks.certificates trainings FOLDER     # three ODEs and three SDEs, trained there
    python -m benchmarks.certificates pair FOLDER DATASET  # one ODE and one SDE on a data set, as CIFAR-10

`bounds` prints how often each bound is on the wrong side of the truth, the total error of looking often, and
radii of linear classifiers beside their true ones. `savings` compares draws on demand with 10,000 for every
image. `trainings` and `pair` train what FOLDER lacks, certify, attack, and print the table of the brackets;
`pair` takes the size of the training in --train-images and --epochs. A run that was stopped goes on.
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.special import ndtr

import robustbench_sde as rb
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.evaluation import bounds
from robustbench_sde.evaluation.certificate_report import CertificateReport
from robustbench_sde.evaluation.looks import Looks, Tally
from robustbench_sde.models.smoothed import Smoothed
from robustbench_sde.sde import philox
from robustbench_sde.sde.draws import SMOOTHING_SITE, Draws, Stream, path_key

SIGMA, RADII, ALPHA = 0.25, (0.0, 0.25, 0.5, 1.0), 0.001
SHIPPED = ("digits-smoothed", "digits-ode", "digits-additive", "digits-multiplicative", "digits-dropout")
SEEDS = (0, 1, 2)


def simulate_bounds(repeats: int) -> None:
    """Print the share of simulated bounds on the wrong side, with its exact 95 % interval."""
    dice = np.random.default_rng(0)
    print(f"bound too high, of {repeats} samples of n values | n | truth | alpha | share (95 %)")
    for alpha in (0.05, 0.001):
        for n, p in ((100, 0.6), (100, 0.99), (10_000, 0.6), (10_000, 0.99)):
            lows = np.array([bounds.clopper_pearson_low(k, n, alpha) for k in range(n + 1)])
            wrong = int((lows[dice.binomial(n, p, repeats)] > p).sum())
            print(f"Clopper-Pearson | {n} | {p} | {alpha} | {_share(wrong, repeats)}")
        for n, shape in ((100, (0.5, 0.5)), (100, (8.0, 1.0)), (1_000, (0.5, 0.5)), (1_000, (30.0, 2.0))):
            wrong = 0
            for start in range(0, repeats, 1_000):
                values = dice.beta(*shape, size=(min(1_000, repeats - start), n))
                found = [
                    bounds.bernstein_low(mean, variance, n, alpha)
                    for mean, variance in zip(values.mean(1), values.var(1, ddof=1), strict=True)
                ]
                wrong += int((np.array(found) > shape[0] / sum(shape)).sum())
            print(f"empirical Bernstein | {n} | mean of beta{shape} | {alpha} | {_share(wrong, repeats)}")


def simulate_looks(repeats: int) -> None:
    """Print how often the bound at the look where sampling stops is too high, for known probabilities."""
    dice = np.random.default_rng(1)
    print(f"looks up to 10,000 draws, of {repeats} images | rule | p | alpha | bound too high (95 %) | draws")
    for rule in ("vote", "mean-prob"):
        for alpha in (0.1, ALPHA):
            for p in (0.5, 0.7, 0.84, 0.95, 0.99):
                looks = Looks(10_000, alpha, SIGMA, RADII, rule)
                found = [_look(looks, p, dice) for _ in range(repeats)]
                wrong = sum(low > p for low, _ in found)
                draws = np.mean([draws for _, draws in found])
                print(f"{rule} | {p} | {alpha} | {_share(wrong, repeats)} | {draws:.0f}")


def _look(looks: Looks, p: float, dice: np.random.Generator) -> tuple[float, int]:
    """Return bound and draws of one image whose votes have probability `p`."""
    total, start = 0, 0
    for look, end in enumerate(looks.ends):
        total, start = total + int(dice.binomial(end - start, p)), end
        tally = Tally(end, float(total), float(total))
        if looks.decided(tally, look):
            return tally.low(looks.rule, looks.error(look)), end
    raise AssertionError("the last look decides")


def simulate_linear(images: int = 2_000, draws: int = 10_000) -> None:
    """Print radii of linear classifiers beside their distance to the boundary, which is the true radius."""
    dice = np.random.default_rng(2)
    truth = dice.uniform(0.05, 0.6, images)
    votes = dice.binomial(draws, ndtr(truth / SIGMA))
    radii = np.array(
        [bounds.certified_radius(bounds.clopper_pearson_low(int(k), draws, ALPHA), SIGMA) for k in votes]
    )
    beyond = int((radii > truth).sum())
    print(f"linear classifiers: {_share(beyond, images)} of the radii exceed the truth at alpha {ALPHA}")
    print(f"median of radius / truth {np.median(radii / truth):.3f}, mean {np.mean(radii / truth):.3f}")


def compare_noise(images: int, draws: int) -> None:
    """Print what float32 changes: moments and tail of the noise, and votes beside noise made in float64."""
    data = rb.load_dataset("digits", images=images)
    model = rb.load_checkpoint("digits-smoothed")
    smooth = Smoothed(model, SIGMA)
    pixels = math.prod(data.image_shape)
    asked = Draws(0, Stream.AUDIT, range(draws))
    changed, total, largest, sums = 0, 0, 0.0, np.zeros(5)
    for place in range(images):
        image, ids = to_float(data.images[place : place + 1]), data.ids[place : place + 1]
        rows = [(k, int(ids)) for k in range(draws)]
        words = philox.words(path_key(asked), rows, -(-pixels // philox.WORDS_PER_BLOCK), site=SMOOTHING_SITE)
        exact = _exact_normals(words)[:, :pixels].reshape(draws, 1, *data.image_shape)
        single = smooth.noisy(image, ids, asked)
        both = (single, torch.from_numpy(image.numpy().astype(np.float64) + SIGMA * exact).float())
        with torch.no_grad():
            one, other = (
                torch.cat(
                    [model.logits(x, range(len(x)), Draws(0, Stream.AUDIT))[0] for x in y[:, 0].split(250)]
                )
                for y in both
            )
        changed += int((one.argmax(1) != other.argmax(1)).sum())
        total += draws
        largest = max(largest, float((single - both[1]).abs().max()))
        normals = ((single - image) / SIGMA).double().numpy().ravel()
        sums += [len(normals), *(float((normals**k).sum()) for k in (1, 2, 3, 4))]
    count, *moments = sums
    mean, square, cube, fourth = (moment / count for moment in moments)
    print(f"{total} draws of {images} images: {changed} votes differ between float32 and float64 noise")
    print(f"largest difference of a noisy pixel {largest:.2g}")
    print(
        f"{count:.3g} normals in float32: mean {mean:+.1e}, variance {square - mean**2:.6f}, third moment "
        f"{cube:+.1e}, fourth {fourth:.4f} (0, 1, 0, 3; standard errors {count**-0.5:.1e}, "
        f"{(2 / count) ** 0.5:.1e}, {(15 / count) ** 0.5:.1e}, {(96 / count) ** 0.5:.1e})"
    )


def _exact_normals(words: np.ndarray) -> np.ndarray:
    """Return the normals that `philox.to_normals` makes of words, computed in float64."""
    radius, angle = np.split(philox.signed(words).double().numpy(), 2, axis=-1)
    bits = philox.signed(words).numpy()[..., : radius.shape[-1]] & 0x7FFFFFFF
    length = np.sqrt(-2 * np.log((bits + 0.5) * 2.0**-31))
    turn = angle * (math.pi * 2.0**-31)
    return np.concatenate([np.cos(turn) * length, np.sin(turn) * length], axis=-1)


def measure_savings(names: Sequence[str], images: int, folder: Path) -> None:
    """Print certified accuracies with draws on demand and with all draws, and the draws that each took."""
    data = rb.load_dataset("digits", images=images)
    print("checkpoint | rule | certified at 0, 0.25, 0.5, 1 on demand | all draws | draws an image | CPU s")
    for name in names:
        for rule in ("vote",):
            found, seconds = [], []
            for early in (True, False):
                started = time.process_time()
                made = rb.certify(
                    name, data, smoothing=SIGMA, radius=RADII, rule=rule, early=early,
                    out=folder / f"{name}-{rule}-{early}",
                )  # fmt: skip
                found.append(made.reports[0])
                seconds.append(time.process_time() - started)
            shares = [", ".join(f"{100 * b.certified[0]:.1f}" for b in report.brackets) for report in found]
            draws = [f"{report.mean_draws:.0f}" for report in found]
            times = " / ".join(f"{each:.0f}" for each in seconds)
            print(" | ".join([name, rule, *shares, " / ".join(draws), times]), flush=True)


def train_kinds(
    folder: Path, train: ImageDataset, test: ImageDataset, seeds: Sequence[int], **options: object
) -> list[Path]:
    """Train an ODE and a multiplicative SDE for each seed on noisy images, unless they are there."""
    paths = []
    for kind in ("none", "multiplicative"):
        for seed in seeds:
            path = folder / f"{'ode' if kind == 'none' else 'sde'}-{seed}.safetensors"
            paths.append(path)
            if not path.exists():
                started = time.process_time()
                known = {"noise": kind, "augment_noise": SIGMA, "seed": seed, **options}
                made = rb.train(train, path, test=test, **known)  # type: ignore[arg-type]
                accuracy = made.header.training.get("test_accuracy")
                print(f"trained {path.stem}: {time.process_time() - started:.0f} s CPU, clean {accuracy}")
    return paths


def measure_brackets(paths: Sequence[Path], data: ImageDataset, folder: Path, draws: int) -> None:
    """Certify and attack the networks, and print the brackets and the difference between the kinds."""
    started = time.process_time()
    found = rb.certify(
        list(paths), data, smoothing=SIGMA, radius=RADII[:3], draws=draws, attack="apgd-ce",
        parameters={"steps": 10, "eot_draws": 4}, score_draws=64, out=folder / "run",
    )  # fmt: skip
    print(f"certified and attacked in {time.process_time() - started:.0f} s CPU; {found.folder}")
    print("L2 radius | network | certified (95 %) | attacked (95 %) | draws/image")
    for report in found.reports:
        for bracket in report.brackets:
            texts = [_percent(bracket.certified), _percent(bracket.attacked or (math.nan,) * 3)]
            print(" | ".join([f"{bracket.radius:g}", report.checkpoint, *texts, f"{report.mean_draws:.0f}"]))
        if not report.ok:
            print(report.status)
    _compare_kinds(found.reports, found.folder)


def _compare_kinds(reports: Sequence[CertificateReport], folder: Path | None) -> None:
    """Print the differences of certified and attacked accuracy between SDEs and ODEs, trainings pooled."""
    from robustbench_sde.api.result import Result

    if folder is None:
        return
    several = len(reports) > 2
    kinds = "ode=ode-*,sde=sde-*" if several else None
    answer = Result.read(folder).versus("ode" if several else "ode-0", kinds=kinds)
    print("setting | SDE less ODE, points (95 %) | p (Holm)")
    for row in answer.rows:
        change = row.accuracy.difference
        text = f"{100 * change.estimate:+.1f} ({100 * change.low:.1f} to {100 * change.high:.1f})"
        print(f"{row.setting} | {text} | {row.accuracy.p_holm:.2g}")


def _share(count: int, total: int) -> str:
    interval = bounds.clopper_pearson(count, total)
    return f"{count / total:.5f} ({interval.low:.5f}-{interval.high:.5f})"


def _percent(share: Sequence[float]) -> str:
    estimate, low, high = (100 * each for each in share)
    return f"{estimate:.1f} ({low:.1f}-{high:.1f})"


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("bounds", "noise", "savings", "trainings", "pair"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("reports/certificates"))
    parser.add_argument("dataset", nargs="?", default="digits")
    parser.add_argument("--images", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=20_000)
    parser.add_argument("--draws", type=int, default=1_000)
    parser.add_argument("--train-images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--checkpoints", nargs="*", default=SHIPPED)
    asked = parser.parse_args()
    if asked.what == "bounds":
        simulate_bounds(asked.repeats)
        simulate_looks(asked.repeats // 10)
        simulate_linear()
    elif asked.what == "noise":
        compare_noise(asked.images or 8, asked.draws)
    elif asked.what == "savings":
        measure_savings(asked.checkpoints, asked.images or 20, asked.folder)
    elif asked.what == "trainings":
        train, test = (rb.load_dataset("digits", split=split) for split in ("train", "test"))
        paths = train_kinds(asked.folder, train, test, SEEDS)
        measure_brackets(paths, test.subset(asked.images or 30), asked.folder, asked.draws)
    else:
        train = rb.load_dataset(asked.dataset, split="train", images=asked.train_images)
        data = rb.load_dataset(asked.dataset, split="test", images=asked.images or 200)
        options = {"preset": "digits", "steps": 4, "epochs": asked.epochs, "lr": 0.05}
        paths = train_kinds(asked.folder, train, data, SEEDS[:1], **options)
        measure_brackets(paths, data, asked.folder, asked.draws)


if __name__ == "__main__":
    main()
