"""Show objects in notebooks: small pieces of HTML that take the colours of the page, light or dark."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import numpy.typing as npt

#: (C, H, W) float32 in [0, 1]; C is 1 or 3
Pixels = npt.NDArray[np.float32]

_TABLE = "font-size:inherit;border-collapse:collapse;font-variant-numeric:tabular-nums;margin:0.4em 0"
_CELL = "padding:0.15em 0.7em;white-space:nowrap;border:0;background:none;vertical-align:top"
_LINE = "border-top:1px solid;border-color:color-mix(in srgb,currentColor 35%,transparent)"
#: largest side of a picture, in pixels
_SIDE = 96


@singledispatch
def html_of(thing: object) -> str | None:
    """Return an object as HTML, or None: `reporting.notebook` adds what it can print to this function."""
    return None


@dataclass(frozen=True)
class HtmlCell:
    """A cell of a table."""

    text: str
    #: whether it is printed bold
    strong: bool = False


def html_table(
    title: str,
    headings: Sequence[tuple[str, bool]],
    blocks: Sequence[Sequence[Sequence[HtmlCell]]],
) -> str:
    """Return a table, everything escaped; it inherits the colours of the page.

    Args:
        title: line above the table.
        headings: texts of the columns, each with whether it is aligned right; empty: no line of headings.
        blocks: blocks of lines, each with one cell a column; a thin line separates blocks.
    """
    sides = ["right" if right else "left" for _, right in headings]
    heads = [
        f'<th style="{_CELL};text-align:{side};font-weight:bold">{_escaped(text)}</th>'
        for side, (text, _) in zip(sides, headings, strict=True)
    ]
    parts = [f'<div style="overflow-x:auto"><table style="{_TABLE}">']
    if title:
        parts.append(f'<caption style="text-align:left;color:inherit">{_escaped(title)}</caption>')
    if any(text for text, _ in headings):
        parts.append(f"<thead><tr>{''.join(heads)}</tr></thead>")
    for block in blocks:
        parts.append(f'<tbody style="{_LINE}">')
        for line in block:
            cells = (
                f'<td style="{_CELL};text-align:{side}{";font-weight:bold" * cell.strong}">'
                f"{_escaped(cell.text)}</td>"
                for side, cell in zip(sides, line, strict=True)
            )
            parts.append(f'<tr style="background:none">{"".join(cells)}</tr>')
        parts.append("</tbody>")
    return "".join([*parts, "</table></div>"])


def html_line(text: str, *, strong: bool = False) -> str:
    """Return a line of text below a table, escaped."""
    return f'<div style="{"font-weight:bold" if strong else ""}">{_escaped(text)}</div>'


def html_facts(title: str, facts: Mapping[str, str]) -> str:
    """Return a table of names and values."""
    lines = [[HtmlCell(name, strong=True), HtmlCell(value)] for name, value in facts.items()]
    return html_table(title, [("", False), ("", False)], [lines])


def html_pictures(pictures: Sequence[tuple[Pixels, str]]) -> str:
    """Return pictures side by side, each with a text below, escaped."""
    figures = (
        '<figure style="display:inline-block;margin:0.3em;text-align:center">'
        f'<img alt="{_escaped(text)}" src="{data_uri(image)}" '
        'style="width:48px;height:48px;object-fit:contain;image-rendering:pixelated">'
        f"<figcaption>{_escaped(text)}</figcaption></figure>"
        for image, text in pictures
    )
    return f"<div>{''.join(figures)}</div>"


def data_uri(image: Pixels) -> str:
    """Encode (C, H, W) values in [0, 1] as a PNG of at most `_SIDE` pixels a side; C is 1 or 3."""
    from PIL import Image

    levels = (255 * np.clip(image, 0, 1)).round().astype(np.uint8)
    picture = Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0))
    picture.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _escaped(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")
