"""Corruptions say how far they are."""

import torch

import robustbench_sde as rb
from robustbench_sde.perturbations.corruptions import apply


class _Told:
    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.done: list[int] = []

    def start(self, description: str, total: int) -> None:
        self.begun.append((description, total))

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done.append(amount)


def test_progress_counts_every_piece_and_changes_nothing(monkeypatch):
    """A receiver gets name, severity and number of images, then each piece; the images are the same."""
    monkeypatch.setattr(apply, "_PIECE", 3 * 32 * 32 * 2)
    images = torch.arange(5 * 3 * 32 * 32).remainder(256).to(torch.uint8).reshape(5, 3, 32, 32)
    told = _Told()
    found = rb.corrupt(images, "gaussian_noise", 3, progress=told)
    assert told.begun == [("gaussian_noise 3", 5)]
    assert sum(told.done) == 5
    assert len(told.done) > 1
    assert torch.equal(found, rb.corrupt(images, "gaussian_noise", 3))


def test_unchanged_images_have_no_progress():
    """Severity 0 is done at once, and a simple perturbation is named with its parameter."""
    told = _Told()
    rb.corrupt(torch.zeros(1, 1, 32, 32), "fog", 0, progress=told)
    rb.corrupt(torch.zeros(1, 1, 32, 32), "gaussian:0.1", 0, progress=told)
    assert told.begun == [("gaussian:0.1", 1)]
