"""Make the labelled tiles of a contact sheet from perturbed images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.perturbations.corruptions import corrupt, select
from robustbench_sde.perturbations.corruptions.registry import has_severities


@dataclass(frozen=True)
class Sheet:
    """Tiles by row and column, with the labels of both."""

    rows: list[str]
    columns: list[str]
    #: images by row and column, each (C, H, W), uint8 or float in [0, 1]
    tiles: list[list[Tensor]]


def corrupted(
    data: ImageDataset,
    names: str,
    severities: Sequence[int],
    *,
    family: str | None = None,
    frost_dir: Path | None = None,
    seed: int = 0,
) -> Sheet:
    """Corrupt images for a sheet: one corruption by severity, or several at one severity by image.

    Several at several severities are corruptions by severity, the images taking turns. A plain perturbation
    has no severities; by severity, it fills the first column only.

    Raises:
        BenchError: an unknown name or family, no photographs in `frost_dir`.
    """
    chosen = select(names)

    def images(name: str, severity: int, which: slice) -> list[Tensor]:
        ids = data.ids[which]
        options = {"family": family, "frost_dir": frost_dir}
        return list(corrupt(data.images[which], name, severity, image_ids=ids, seed=seed, **options))  # type: ignore[arg-type]

    def levels(name: str) -> Sequence[int]:
        return severities if has_severities(name) else severities[:1]

    whole, clean = slice(None), list(data.images)
    headings = ["clean", *(f"severity {severity}" for severity in severities)]
    if len(chosen) == 1:
        (name,) = chosen
        columns = [clean, *(images(name, severity, whole) for severity in levels(name))]
        labels = [data.class_names[label] for label in data.labels.tolist()]
        if not has_severities(name):
            headings = ["clean", name]
        return Sheet(labels, headings, [list(row) for row in zip(*columns, strict=True)])
    if len(severities) == 1:
        labels = [data.class_names[label] for label in data.labels.tolist()]
        return Sheet(
            ["clean", *chosen], labels, [clean, *(images(name, severities[0], whole) for name in chosen)]
        )
    tiles = []
    for row, name in enumerate(chosen):
        turn = row % len(data)
        which = slice(turn, turn + 1)
        tiles.append([clean[turn], *(images(name, severity, which)[0] for severity in levels(name))])
    return Sheet(chosen, headings, tiles)


def attacked(
    data: ImageDataset,
    attacks: Sequence[str],
    images: Sequence[Tensor],
    predictions: Sequence[Sequence[int]],
) -> Sheet:
    """Show each original, then for each attack its image and the difference, amplified around mid-grey.

    A row's label is the true class, then the model's prediction for the original and for each attacked image.

    Args:
        data: original images.
        attacks: names of the attacks, as column headings.
        images: (n, C, H, W) float32 in [0, 1] for each of `attacks`.
        predictions: (n,) predicted classes of the originals, then of the images of each of `attacks`.
    """
    original = to_float(data.images)
    seen = [[data.class_names[label] for label in labels] for labels in predictions]
    rows = [
        f"{data.class_names[label]}: {' → '.join(names)}"
        for label, names in zip(data.labels.tolist(), zip(*seen, strict=True), strict=True)
    ]
    columns, tiles = ["original"], [[image] for image in original]
    for attack, made in zip(attacks, images, strict=True):
        change, factor = _amplified(made - original)
        columns += [attack, f"difference x {factor:.3g}"]
        for tile, image, difference in zip(tiles, made, change, strict=True):
            tile += [image, difference]
    return Sheet(rows, columns, tiles)


def _amplified(change: Tensor) -> tuple[Tensor, float]:
    """Return changes (B, C, H, W) of either sign as images around mid-grey, and the common factor."""
    largest = float(change.abs().max())
    factor = 0.5 / largest if largest > 0 else 1.0
    return (0.5 + factor * change).clamp(0, 1), factor
