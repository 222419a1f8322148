"""Write contact sheets: labelled grids of images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustbench_sde.storage.files import atomic_write

#: side in pixels to which small images are enlarged, by a whole factor
_TILE = 96
_GAP = 6
_FONT_SIZE = 13


def write_contact_sheet(
    path: Path, tiles: Sequence[Sequence[Tensor]], *, rows: Sequence[str], columns: Sequence[str]
) -> None:
    """Write a PNG of tiles with labels.

    Args:
        path: the file to write.
        tiles: images by row and column, each (C, H, W), float in [0, 1] or uint8, C 1 or 3, all of one size.
        rows: labels on the left.
        columns: labels above.

    Raises:
        BenchError: the file cannot be written.
    """
    import matplotlib as mpl
    from PIL import Image, ImageDraw, ImageFont

    font_file = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    font = ImageFont.truetype(str(font_file), _FONT_SIZE)
    height, width = tiles[0][0].shape[-2:]
    factor = max(1, round(_TILE / max(height, width)))
    left = int(max(font.getlength(label) for label in rows)) + 2 * _GAP
    across = max(factor * width, *(int(font.getlength(label)) for label in columns)) + _GAP
    down, top = factor * height + _GAP, _FONT_SIZE + 2 * _GAP
    sheet = Image.new("RGB", (left + across * len(columns), top + down * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, label in enumerate(columns):
        pen.text((left + column * across, _GAP / 2), label, fill="black", font=font)
    for row, (label, images) in enumerate(zip(rows, tiles, strict=True)):
        pen.text(
            (_GAP, top + row * down + (factor * height - _FONT_SIZE) / 2), label, fill="black", font=font
        )
        for column, image in enumerate(images):
            large = Image.fromarray(_pixels(image)).resize(
                (factor * width, factor * height), Image.Resampling.NEAREST
            )
            sheet.paste(large, (left + column * across, top + row * down))
    with atomic_write(path) as temporary:
        sheet.save(temporary, "PNG")


def _pixels(image: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return an image as (H, W, 3) uint8."""
    whole = image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)
    return np.ascontiguousarray(whole.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy())
