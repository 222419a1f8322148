"""What it costs that a module has noise of its own, so that a pass is eight draws of one image.

    python -m benchmarks.opaque [--images 32] [--repeats 5] [--threads 1]

Convolutional networks with a layer of noise, in passes of eight rows, each under seeds of its own, against
one large batch under the global generator. CPU seconds, medians of interleaved runs.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.scoring import interleaved
from robustbench_sde.data import load_dataset, to_float
from robustbench_sde.models.modules.adapter import DRAWS_PER_PASS, Interface
from robustbench_sde.sde.draws import Draws, Stream

WIDTHS = (16, 32, 64)


class Noise(nn.Module):
    """Gaussian noise from the global generator."""

    def forward(self, x: Tensor) -> Tensor:
        """x + 0.1 N(0, 1)."""
        return x + 0.1 * torch.randn_like(x)


def network(width: int) -> nn.Module:
    """Four convolutions, the first with a stride, on images (1, 32, 32)."""
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, stride=2, padding=1), nn.ReLU(), Noise()]
    for _ in range(3):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*layers, *head).eval().requires_grad_(False)


def ratios(width: int, images: Tensor, repeats: int) -> list[float]:
    """Wall time of passes by image over that of one batch: of logits, and of gradients."""
    net = network(width)
    facts = Interface("net", (1, 32, 32), 10, "opaque")
    opaque, draws = facts.around(net), Draws(0, Stream.ATTACK, range(DRAWS_PER_PASS))
    ids = range(len(images))

    def batch(x: Tensor) -> Tensor:
        return net(x.repeat(DRAWS_PER_PASS, 1, 1, 1))

    def by_image(x: Tensor) -> Tensor:
        return opaque.logits(x, ids, draws)

    def gradient(logits: Callable[[Tensor], Tensor]) -> None:
        x = images.clone().requires_grad_()
        torch.autograd.grad(logits(x).sum(), x)

    (plain, _), (ours, _) = interleaved((lambda: batch(images), lambda: by_image(images)), repeats)
    both = interleaved((lambda: gradient(batch), lambda: gradient(by_image)), repeats)
    (plain_gradient, _), (our_gradient, _) = both
    return [ours / plain, our_gradient / plain_gradient]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = to_float(load_dataset("digits", images=options.images).images)
    print("| features | logits | gradients |\n|---|---|---|")
    for width in WIDTHS:
        logits, gradients = ratios(width, images, options.repeats)
        print(f"| {width} | {logits:.2f} | {gradients:.2f} |")


if __name__ == "__main__":
    main()
