"""How images of any size become images of one size."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustbench_sde.errors import BenchError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Framing:
    """Sizes as people's evaluation code has them: the shorter side first, then a square from the centre.

    All interpolation is bilinear with antialiasing, as in torchvision's `Resize` of a Pillow image.

    Raises:
        BenchError: a size is below 1, or `squeeze` stands beside one of the others.
    """

    #: (H, W) to bring every image to, without keeping its proportions
    squeeze: tuple[int, int] | None = None
    #: pixels of the shorter side, proportions kept
    resize: int | None = None
    #: (H, W) to cut from the centre
    crop: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for option, sizes in (("image_size", self.squeeze), ("resize", self.resize), ("crop", self.crop)):
            smallest = min(sizes) if isinstance(sizes, tuple) else sizes
            if smallest is not None and smallest < 1:
                raise BenchError(f"`{option}` must be at least 1, not {smallest}")
        if self.squeeze and (self.resize or self.crop):
            raise BenchError("`image_size` does not keep proportions; give it, or `resize` and `crop`")

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
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        if (out_width, out_height) == image.size:
            return image
        top, left = round((height - out_height) / 2), round((width - out_width) / 2)
        return image.crop((left, top, left + out_width, top + out_height))


#: leaves images as they are
AS_IS = Framing()
