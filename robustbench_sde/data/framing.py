"""How images of any size become images of one size."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from robustbench_sde.choices import Interpolation
from robustbench_sde.errors import BenchError, unknown_name

if TYPE_CHECKING:
    from PIL.Image import Image

#: ways to compute pixels of another size
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)


@dataclass(frozen=True)
class Framing:
    """Sizes as people's evaluation code has them: the shorter side first, then a square from the centre.

    All interpolation is with antialiasing, as in torchvision's `Resize` of a Pillow image.

    Raises:
        BenchError: a size is below 1, `squeeze` stands beside one of the others, or there is no such
            interpolation.
    """

    #: (H, W) to bring every image to, without keeping its proportions
    squeeze: tuple[int, int] | None = None
    #: pixels of the shorter side, proportions kept
    resize: int | None = None
    #: (H, W) to cut from the centre
    crop: tuple[int, int] | None = None
    #: one of `INTERPOLATIONS`
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for option, sizes in (("image_size", self.squeeze), ("resize", self.resize), ("crop", self.crop)):
            smallest = min(sizes) if isinstance(sizes, tuple) else sizes
            if smallest is not None and smallest < 1:
                raise BenchError(f"`{option}` must be at least 1, not {smallest}")
        if self.squeeze and (self.resize or self.crop):
            raise BenchError("`image_size` does not keep proportions; give it, or `resize` and `crop`")
        if self.interpolation not in INTERPOLATIONS:
            raise unknown_name("interpolation", self.interpolation, INTERPOLATIONS)

    def __str__(self) -> str:
        sides = {"image_size": self.squeeze, "resize": self.resize, "crop": self.crop}
        parts = [f"`{option}` {_text(side)}" for option, side in sides.items() if side]
        other = [] if self.interpolation == "bilinear" else [f"`interpolation` {self.interpolation}"]
        return ", ".join([*parts, *other]) or "as they are"

    def __bool__(self) -> bool:
        return bool(self.squeeze or self.resize or self.crop)

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Return the (H, W) of an image of this size before it is cut."""
        if self.squeeze:
            return self.squeeze
        if not self.resize:
            return height, width
        shorter, longer = min(height, width), max(height, width)
        other = max(1, int(self.resize * longer / shorter))
        return (self.resize, other) if height <= width else (other, self.resize)

    def framed(self, height: int, width: int) -> tuple[int, int]:
        """Return the (H, W) that an image of this size gets.

        Raises:
            BenchError: it is smaller than what is to be cut from it.
        """
        scaled = self.scaled(height, width)
        if self.crop is None:
            return scaled
        if scaled[0] < self.crop[0] or scaled[1] < self.crop[1]:
            raise BenchError(
                f"{scaled[0]}x{scaled[1]} pixels are fewer than `crop` {self.crop[0]}x{self.crop[1]} takes; "
                "give `resize` for the shorter side, or a smaller `crop`"
            )
        return self.crop

    def apply(self, image: "Image") -> "Image":
        """Return the image resized and cut. Raises BenchError as `framed`."""
        from PIL import Image

        height, width = self.scaled(image.height, image.width)
        out_height, out_width = self.framed(image.height, image.width)
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling[self.interpolation.upper()])
        if (out_width, out_height) == image.size:
            return image
        top, left = round((height - out_height) / 2), round((width - out_width) / 2)
        return image.crop((left, top, left + out_width, top + out_height))


def _text(side: int | tuple[int, int]) -> str:
    return str(side) if isinstance(side, int) else str(side[0]) if side[0] == side[1] else str(side)


#: leaves images as they are
AS_IS = Framing()
