"""Put figures into the page: SVG that follows its light and dark colours."""

import re

from markupsafe import Markup, escape

from robustbench_sde.reporting.figures import COLOURS

#: colours that matplotlib writes, and the variables of the page's style sheet that replace them
_THEMED = {colour.lower(): f"var(--line-{index})" for index, colour in enumerate(COLOURS)} | {
    "#000000": "currentColor",
    "#ffffff": "none",
    "#b0b0b0": "var(--grid)",
}
#: patterns within a tag and their replacements; `name` is the figure's
_CHANGES = (
    (r' font-family: [^;"]*;', ""),
    (r'(\bid="|href="#|url\(#)', r"\1{name}-"),
)


def inline(svg: str, name: str, caption: str) -> Markup:
    """Return the `<svg>` element of a file that matplotlib wrote.

    Wide figures may be wider on the page than others, and do not shrink until nobody can read them.
    Ids get `name` in front, since those of two figures may be equal; sizes, metadata, fonts and style sheets
    go, and colours become those of the page. Text is left as it is.
    """

    def changed(tag: re.Match[str]) -> str:
        text = tag.group()
        for pattern, replacement in _CHANGES:
            text = re.sub(pattern, replacement.format(name=name), text)
        return re.sub(r"#[0-9a-f]{6}\b", lambda found: _THEMED.get(found.group(), found.group()), text)

    body = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL
    )
    box = re.search(r'viewBox="0 0 ([\d.]+) ', body)
    points = float(box[1]) if box else 0.0
    sizes = f"max-width: max(38rem, {1.35 * points:.0f}px); min-width: {min(0.75 * points, 480):.0f}px"
    body = re.sub(r' (width|height|version)="[^"]*"', "", body, count=3)
    body = re.sub(r"<[^>]*>", changed, body)
    return Markup(body.replace("<svg", f'<svg role="img" style="{sizes}" aria-label="{escape(caption)}"', 1))
