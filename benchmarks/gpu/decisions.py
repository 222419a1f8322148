"""Whether a GPU decides as the CPU does: records of both, image by image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import robustbench_sde as rb
from robustbench_sde.choices import Precision
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.models.compute import Compute

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "digits-multiplicative.safetensors"
#: attacks with the budget of the shipped suite; few steps, since the CPU takes them, too
ATTACKS: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 10, "eot_draws": 4},
    "cw": {"steps": 20, "eot_draws": 4, "norm": "l2", "eps": 1.0},
    "apgd-ce": {"steps": 10, "eot_draws": 4},
    "square": {"steps": 40, "eot_draws": 4},
}
CORRUPTIONS = ("gaussian_noise", "fog", "pixelate")
#: all that are compared; of these, images do not depend on how the network is computed
COMPARED = ("clean", "control", *ATTACKS, *CORRUPTIONS)
SCORED_ALONE = ("clean", "control", *CORRUPTIONS)


def differences(images: int, precisions: Sequence[Precision] = ("fp32",)) -> Iterator[dict[str, Any]]:
    """Count, by perturbation, decisions and margins of a GPU that are not those of the CPU in fp32.

    Args:
        images: of the embedded digits.
        precisions: of the GPU.
    """
    data = rb.load_dataset("digits", split="test", images=images)
    there = _records(data, "cpu", "fp32")
    for precision in precisions:
        for name, found in _records(data, "cuda", precision).items():
            expected = there[name]
            apart = (found["margin"] - expected["margin"]).abs()
            yield {
                "perturbation": name,
                "precision": precision,
                "images": len(found),
                "accuracy": float(found["correct"].mean()),
                "accuracy on the CPU": float(expected["correct"].mean()),
                "decisions that differ": int((found["prediction"] != expected["prediction"]).sum()),
                "margins that differ by 1e-3": int((apart > 1e-3).sum()),
                "largest difference of a margin": float(apart.max()),
            }


def _records(data: ImageDataset, device: str, precision: str) -> dict[str, Any]:
    """Tables of images by perturbation."""
    tables = {}
    for name, parameters in ATTACKS.items():
        more: dict[str, Any] = {"eps": 0.06, **parameters}
        result = rb.attack(
            CHECKPOINT, data, name, device=Compute(device), precision=precision, score_draws=32, **more
        )
        tables["clean"], tables["control"] = result.records_of(0), result.records_of(1)
        tables[name] = result.records_of(2)
    for name in CORRUPTIONS:
        images = rb.corrupt(to_float(data.images), name, 3, image_ids=data.ids)
        result = rb.score(CHECKPOINT, data, images, device=Compute(device), precision=precision)
        tables[name] = result.records
    return {name: tables[name].reset_index(drop=True) for name in COMPARED}
