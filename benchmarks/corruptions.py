"""Images per second of our corruptions, imagecorruptions and plain torch code, on batches of CIFAR size.

    pip install imagecorruptions==1.1.2 'setuptools<81'
    python benchmarks/corruptions.py [--threads 2] [--rounds 5] [--clock wall|cpu]

They take turns on 256 images, severities 1, 3 and 5 each round; the table has the medians over the rounds. On
numpy 2 and a current scikit-image, imagecorruptions fails in glass_blur, gaussian_blur and fog. It knows only
the parameters of ImageNet-C, which are those of larger blurs. On a busy machine, `--threads 1 --clock cpu`
counts the work instead of the time; imagecorruptions uses one thread anyway. Freed memory is kept, for all of
them, as in every command of this program.

The plain torch code (`PLAIN`) is what a user would write in a few lines, with our parameters: whole batches,
random numbers of `torch.randn` and its relatives, which nobody can make again image by image.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_sde.perturbations.corruptions import CORRUPTIONS, blur, corrupt
from robustbench_sde.perturbations.corruptions.severities import choose_family
from robustbench_sde.sde.heap import keep_freed_memory

BATCH, SEVERITIES = 256, (1, 3, 5)


def _impulses(x: Tensor, share: float) -> Tensor:
    u = torch.rand_like(x)
    return torch.where(u < share / 2, 1.0, torch.where(u < share, 0.0, x))


def _disk_blur(x: Tensor, radius: float, alias_blur: float) -> Tensor:
    kernel = torch.from_numpy(blur._disk(radius, alias_blur)).float()
    margin = len(kernel) // 2
    padded = F.pad(x, (margin,) * 4, mode="reflect")
    return F.conv2d(padded, kernel.expand(3, 1, -1, -1), groups=3)


def _gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.gaussian_blur(x, 2 * int(4 * sigma + 0.5) + 1, sigma)


def _zooms(x: Tensor, start: float, stop: float, step: float) -> Tensor:
    factors, side, total = np.arange(start, stop, step).tolist(), x.shape[-1], x
    for factor in factors:
        large = F.interpolate(x, scale_factor=factor, mode="bilinear")
        top = (large.shape[-1] - side) // 2
        total = total + large[..., top : top + side, top : top + side]
    return total / (len(factors) + 1)


def _brighter(x: Tensor, shift: float) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.adjust_brightness(x, 1 + shift)


def _contrast(x: Tensor, factor: float) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.adjust_contrast(x, factor)


def _saturated(x: Tensor, factor: float, shift: float) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.adjust_saturation(x, factor)


def _pixels(x: Tensor, share: float) -> Tensor:
    small = F.interpolate(x, size=int(x.shape[-1] * share), mode="area")
    return F.interpolate(small, size=x.shape[-1], mode="nearest")


def _jpeg(x: Tensor, quality: float) -> Tensor:
    from torchvision import io

    files = io.encode_jpeg(list((255 * x).to(torch.uint8)), int(quality))
    return torch.stack(io.decode_jpeg(files)) / 255


#: Corruptions that a user would write in a few lines of torch, for (B, 3, 32, 32) in [0, 1].
PLAIN: dict[str, Callable[..., Tensor]] = {
    "gaussian_noise": lambda x, sigma: x + sigma * torch.randn_like(x),
    "shot_noise": lambda x, photons: torch.poisson(x * photons) / photons,
    "impulse_noise": _impulses,
    "speckle_noise": lambda x, sigma: x + sigma * x * torch.randn_like(x),
    "defocus_blur": _disk_blur,
    "gaussian_blur": _gaussian_blur,
    "zoom_blur": _zooms,
    "brightness": _brighter,
    "contrast": _contrast,
    "saturate": _saturated,
    "pixelate": _pixels,
    "jpeg_compression": _jpeg,
}


def photos() -> Tensor:
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
    keep_freed_memory()
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

    family = choose_family(None, images.shape[-1])

    def plain(name: str) -> None:
        for severity in SEVERITIES:
            made = PLAIN[name](images / 255, *family.parameters(name, severity))
            (255 * made.clamp(0, 1)).to(torch.uint8)

    count = BATCH * len(SEVERITIES)
    ratios: dict[str, list[float]] = {"imagecorruptions": [], "plain torch": []}
    print(f"{'images/s':20}{'ours':>10}{'imagecorruptions':>18}{'ratio':>9}{'plain torch':>13}{'ratio':>9}")
    for name in CORRUPTIONS:
        calls: dict[str, Callable[[], object]] = {"ours": partial(ours, name)}
        calls["ours"]()
        try:
            imagecorruptions.corrupt(arrays[0], corruption_name=name, severity=1)
            calls["imagecorruptions"] = partial(theirs, name)
        except (AttributeError, TypeError):
            pass
        if name in PLAIN:
            calls["plain torch"] = partial(plain, name)
            calls["plain torch"]()
        seconds = dict(zip(calls, median_seconds(list(calls.values()), options.rounds, clock), strict=True))
        row = f"{name:20}{count / seconds['ours']:10.0f}"
        for other, width in (("imagecorruptions", 18), ("plain torch", 13)):
            if other not in seconds:
                row += f"{'fails' if other == 'imagecorruptions' else '':>{width}}{'':>9}"
                continue
            ratios[other].append(seconds[other] / seconds["ours"])
            row += f"{count / seconds[other]:{width}.0f}{ratios[other][-1]:8.1f}x"
        print(row, flush=True)
    for other, values in ratios.items():
        print(
            f"{other}: mean ratio {np.mean(values):.1f}x, "
            f"geometric mean {statistics.geometric_mean(values):.1f}x, least {min(values):.1f}x "
            f"({options.threads} threads, {options.clock} time)"
        )


if __name__ == "__main__":
    main()
