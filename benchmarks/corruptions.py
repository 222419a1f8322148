"""Images per second of our corruptions and of imagecorruptions, on batches of 256 CIFAR-sized images.

    pip install imagecorruptions==1.1.2
    python benchmarks/corruptions.py [--threads 2] [--rounds 5] [--clock wall|cpu]

The two take turns, severities 1, 3 and 5 each round; the table has the medians over the rounds. On numpy 2
and a current scikit-image, imagecorruptions fails in glass_blur, gaussian_blur and fog. It knows only the
parameters of ImageNet-C, which are those of larger blurs. On a busy machine, `--threads 1 --clock cpu` counts
the work instead of the time; imagecorruptions uses one thread anyway.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from robustbench_sde.perturbations.corruptions import CORRUPTIONS, corrupt

BATCH, SEVERITIES = 256, (1, 3, 5)


def photos() -> torch.Tensor:
    """Smooth random images with noise: (256, 3, 32, 32) uint8."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(BATCH, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic", align_corners=True)
    noise = 0.05 * torch.randn(smooth.shape, generator=generator)
    return (255 * (smooth + noise).clamp(0, 1)).to(torch.uint8)


def median_seconds(calls: list[Callable[[], object]], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Median duration of each call over `rounds` rounds, in which they take turns."""
    rows = []
    for _ in range(rounds):
        ticks = [clock()]
        for call in calls:
            call()
            ticks.append(clock())
        rows.append(np.diff(ticks))
    return [float(median) for median in np.median(rows, axis=0)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    import imagecorruptions

    images = photos()
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()

    def ours(name: str) -> None:
        for severity in SEVERITIES:
            corrupt(images, name, severity)

    def theirs(name: str) -> None:
        for severity in SEVERITIES:
            for array in arrays:
                imagecorruptions.corrupt(array, corruption_name=name, severity=severity)

    count = BATCH * len(SEVERITIES)
    ratios = []
    print(f"{'images/s':20}{'ours':>10}{'imagecorruptions':>18}{'ratio':>9}")
    for name in CORRUPTIONS:
        calls: list[Callable[[], object]] = [partial(ours, name), partial(theirs, name)]
        calls[0]()
        try:
            imagecorruptions.corrupt(arrays[0], corruption_name=name, severity=1)
        except (AttributeError, TypeError) as error:
            (fast,) = median_seconds(calls[:1], options.rounds, clock)
            print(f"{name:20}{count / fast:10.0f}{'fails':>18}  {type(error).__name__}", flush=True)
            continue
        fast, slow = median_seconds(calls, options.rounds, clock)
        ratios.append(slow / fast)
        print(f"{name:20}{count / fast:10.0f}{count / slow:18.0f}{ratios[-1]:8.1f}x", flush=True)
    print(
        f"mean ratio {np.mean(ratios):.1f}x, geometric mean {statistics.geometric_mean(ratios):.1f}x, "
        f"least {min(ratios):.1f}x ({options.threads} threads, {options.clock} time)"
    )


if __name__ == "__main__":
    main()
