"""Colours of one-channel images: recipes that paint in colour see them as grey in three channels."""

from collections.abc import Callable
from functools import wraps

from torch import Tensor

Recipe = Callable[..., Tensor]

#: Luminance of red, green and blue (ITU-R BT.601), as in OpenCV.
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114


def luminance(x: Tensor) -> Tensor:
    """(B, 1, H, W) of (B, 3, H, W); one channel is its own luminance."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    return _RED * red + _GREEN * green + _BLUE * blue


def in_colour(recipe: Recipe) -> Recipe:
    """Lets a recipe for three channels take one channel too; it gives the luminance back."""

    @wraps(recipe)
    def wrapped(x: Tensor, *args: object) -> Tensor:
        if x.shape[1] == 3:
            return recipe(x, *args)
        return luminance(recipe(x.expand(-1, 3, -1, -1), *args).clamp(0, 1))

    return wrapped
