"""Draw names in any script: find a font that has their letters, or write the letters by number."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: font of the figures
_FONT = "DejaVu Sans"
#: fonts with the letters of many scripts, tried in this order if they are installed
_OTHERS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei"),
    *("Hiragino Sans", "PingFang SC", "Yu Gothic", "Malgun Gothic", "Apple SD Gothic Neo"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Hebrew", "Noto Sans Arabic", "Noto Sans"),
    *("Arial Unicode MS", "Unifont", "FreeSans"),
)


@contextmanager
def without_complaints() -> Iterator[None]:
    """Keep matplotlib from warning on the screen about letters that a font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(Glyph \d+|Matplotlib currently does not support)")
        yield


def make_drawable(figure: "Figure") -> None:
    """Give each text with letters that the font lacks another font, or write those letters as ``U+4E2D``.

    A browser finds fonts by itself: this is for pictures made of pixels.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            texts = [label.get_text() for label in axis.get_ticklabels()]
            if isinstance(axis.get_major_locator(), FixedLocator) and any(map(_missing, texts)):
                axis.set_ticklabels([_with_letters(text, _font_for(text)) for text in texts])
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if _missing(text.get_text()):
            font = _font_for(text.get_text())
            text.set_text(_with_letters(text.get_text(), font))
            if font is not None:
                text.set_fontfamily([_FONT, font])


def _with_letters(text: str, font: str | None) -> str:
    """Return the text with letters by number that neither the usual font nor `font` has."""
    known = _letters(_FONT) | (_letters(font) if font else frozenset())
    return "".join(
        letter if letter.isspace() or ord(letter) in known else f"U+{ord(letter):04X} " for letter in text
    ).rstrip()


def _font_for(text: str) -> str | None:
    """Return the installed font with the letters that the usual font lacks; None if there is none."""
    missing = _missing(text)
    return next((name for name in _installed() if missing and missing <= _letters(name)), None)


def _missing(text: str) -> frozenset[int]:
    return frozenset(ord(letter) for letter in text if not letter.isspace()) - _letters(_FONT)


@cache
def _installed() -> list[str]:
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return [name for name in _OTHERS if name in there]


@cache
def _letters(font: str) -> frozenset[int]:
    """Return the code points that a font has."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(font)).get_charmap())
