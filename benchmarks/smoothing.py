"""Measure what noise on the image adds to a forward pass and a gradient of the shipped digits networks.

python -m benchmarks.smoothing
"""

import time
from collections.abc import Callable

import torch

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.models.smoothed import Smoothed
from robustbench_sde.sde.draws import Draws, Stream

IMAGES, DRAWS, TIMES = 8, range(32), 7
NAMES = ("digits-additive", "digits-multiplicative", "digits-dropout")


class OneDraw:
    """A classifier that takes one draw at a time: what a smoothed SDE cost before images by draw."""

    def __init__(self, model: RandomClassifier) -> None:
        self._model = model

    def __getattr__(self, name: str) -> object:
        return name != "images_by_draw" and getattr(self._model, name)


def milliseconds(work: Callable[[], object]) -> float:
    """Return the fastest CPU time of several calls."""
    found = []
    for _ in range(TIMES):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return 1e3 * min(found)


def main() -> None:
    """Print one line for each network."""
    torch.set_num_threads(1)
    data = rb.load_dataset("digits", images=IMAGES)
    images, draws = to_float(data.images), Draws(0, Stream.AUDIT, DRAWS)
    print(f"{IMAGES} images x {len(DRAWS)} draws, one thread, CPU ms, the fastest of {TIMES}")
    print(
        "network | plain | noise | stem by draw | smoothed | one draw at a time | gradient: plain | smoothed"
    )
    for name in NAMES:
        model = rb.load_checkpoint(name)
        smooth = Smoothed(model, 0.25)
        slow = Smoothed(OneDraw(model), 0.25)  # type: ignore[arg-type]
        noisy = smooth.noisy(images, data.ids, draws).flatten(0, 1)

        def forward(model: RandomClassifier) -> Callable[[], object]:
            return torch.no_grad()(lambda: model.logits(images, data.ids, draws))

        def gradient(model: RandomClassifier) -> Callable[[], object]:
            def differentiate() -> object:
                x = images.clone().requires_grad_()
                return torch.autograd.grad(model.logits(x, data.ids, draws).sum(), x)

            return differentiate

        def stem(model: Classifier = model, noisy: torch.Tensor = noisy) -> object:
            return model.stem((noisy - model.mean) / model.std)

        works = (
            forward(model),
            lambda smooth=smooth: smooth.noisy(images, data.ids, draws),
            torch.no_grad()(stem),
            forward(smooth),
            forward(slow),
            gradient(model),
            gradient(smooth),
        )
        print(" | ".join([name, *(f"{milliseconds(work):.0f}" for work in works)]))


if __name__ == "__main__":
    main()
