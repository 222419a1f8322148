"""Tables for LaTeX documents that fit a page and compile with pdflatex, whatever the names in them."""

import unicodedata
from collections.abc import Iterator, Sequence

#: rows of a table; a longer one goes on in further floats of the same number
ROWS = 40
_PACKAGES = "% needs \\usepackage{booktabs,graphicx}"
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # after \\ it would begin an option
    "\n": " ",
    "·": r"\textperiodcentered{}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "−": "$-$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
} | {letter: f"\\{letter}" for letter in "&%$#_{}"}
#: accents of the LaTeX kernel by their combining characters
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u0304\u0306\u0307\u030a\u030b\u030c\u0327",
                    [*"`'^~\"=u.rHvc"], strict=True))  # fmt: skip


_LETTERS = frozenset(
    (
        *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "mu", "nu"),
        *("xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
    )
)
#: Greek capitals that look like no Latin letter, which alone have commands
_CAPITALS = frozenset(("gamma", "delta", "theta", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega"))


def escape(text: str) -> str:
    """Return text that LaTeX prints as it is; letters that pdflatex lacks are written ``U+4E2D``."""
    return "".join(map(_letter, unicodedata.normalize("NFC", text)))


def _letter(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isascii():
        return letter
    base, *accents = list(unicodedata.normalize("NFD", letter))
    if base.isascii() and base.isalpha() and len(accents) == 1 and accents[0] in _ACCENTS:
        return f"\\{_ACCENTS[accents[0]]}{{{base}}}"
    script, _, known = unicodedata.name(letter, "").lower().partition(" letter ")
    if script == "greek small" and known in _LETTERS:
        return f"$\\{known}$"
    if script == "greek capital" and known in _CAPITALS:
        return f"$\\{known.capitalize()}$"
    return f"\\texttt{{U+{ord(letter):04X}}}"


#: largest number of letters by number in a line of a cell; longer names are stacked, or the table gets tiny
_BY_NUMBER = 4


def escape_cell(text: str) -> str:
    """Return text as `escape` does, broken into lines after every few letters that are written by number."""
    lines, numbers = [""], 0
    for letter in map(_letter, unicodedata.normalize("NFC", text)):
        if letter.startswith(r"\texttt{U+"):
            if numbers == _BY_NUMBER:
                lines, numbers = [*lines, ""], 0
            numbers += 1
        lines[-1] += letter
    if len(lines) == 1:
        return lines[0]
    stacked = r" \\ ".join(lines)
    return f"\\begin{{tabular}}[t]{{@{{}}l@{{}}}}{stacked}\\end{{tabular}}"


def fitted_table(
    caption: str, alignment: str, headings: Sequence[str], groups: Sequence[Sequence[Sequence[str]]]
) -> str:
    """Return a table as floats, each as wide as the text at most and `ROWS` rows long.

    Args:
        caption: its caption, escaped.
        alignment: a letter a column, as ``llr``.
        headings: of the columns, escaped.
        groups: rows of cells, escaped; a rule stands between groups.
    """
    pieces = list(_pieces(groups))
    parts = [_PACKAGES]
    for number, lines in enumerate(pieces):
        more = " (continued)" if number else ""
        parts += [
            r"\begin{table}",
            *([r"\addtocounter{table}{-1}"] if number else []),
            r"\centering",
            r"\setlength{\tabcolsep}{3pt}",
            f"\\caption{{{caption}{more}.}}",
            r"\sbox0{%",
            f"\\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            f"{' & '.join(headings)} \\\\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}%",
            r"\ifdim\wd0>\textwidth\resizebox{\textwidth}{!}{\usebox0}\else\usebox0\fi",
            r"\end{table}",
        ]
    return "\n".join([*parts, ""])


def _pieces(groups: Sequence[Sequence[Sequence[str]]]) -> Iterator[list[str]]:
    """Yield the lines of each float; a group that goes on in the next one has its name there again."""
    lines: list[str] = []
    rows = 0
    for index, group in enumerate(groups):
        if index and lines:
            lines.append(r"\midrule")
        for row in group:
            if rows == ROWS:
                yield lines if lines[-1] != r"\midrule" else lines[:-1]
                lines, rows = [], 0
                row = [group[0][0], *row[1:]]
            lines.append(f"{' & '.join(row)} \\\\")
            rows += 1
    yield lines
