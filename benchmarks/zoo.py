"""No wrong number without a mark: every animal of tests/zoo under every attack and norm.

    python -m benchmarks.zoo [--write docs/protocol.md] [--only TEXT] [--all]

A row is right if it leaves no more images than the upper end of the 95 % interval of what the same attack
leaves of the honest twin, and, under `auto` and `apgd-targeted`, of the right robust accuracy; and no fewer
than that, where it is known exactly. `--write` puts the tables between the two comments of the page that
name this command. Exit status 1 where a number is wrong and has no mark, or an honest animal has one.
Animals with noise of their own have passes of one image, and meet three attacks unless `--all` is given.
"""

import argparse
import math
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "helpers"), str(ROOT / "tests")]

from zoo.animals import ZOO  # noqa: E402
from zoo.judgement import ATTACKS, BUDGETS, IMAGES, ONE_NORM, Cell, Zoo  # noqa: E402

BEGIN, END = "<!-- made by python -m benchmarks.zoo -->", "<!-- end of what benchmarks.zoo made -->"
#: Attacks of animals whose passes have one image.
QUICK = ["pgd", "apgd-ce", "apgd-dlr"]
#: Name under which rows are counted that are marked although they are right.
NEEDLESS = "needless"
#: What stands behind a number in the tables.
MARKS = {"right": "", "marked": " s", "refused": "refused", "WRONG": " **wrong**"}


def text_of(cell: Cell | None) -> str:
    """Write a cell of the table: what is left in per cent, and its mark."""
    if cell is None:
        return ""
    number = "" if math.isnan(cell.accuracy) else f"{100 * cell.accuracy:.0f}"
    return f"{number}{MARKS[cell.outcome]}".strip()


def table(norm: str, only: str, everything: bool) -> tuple[list[str], Counter[str]]:
    """Write the table of a norm, and count outcomes by the nature of the animals."""
    zoo, counts = Zoo(), Counter[str]()
    names = [name for name in ATTACKS if ONE_NORM.get(name, norm) == norm]
    lines = [f"| {norm} {BUDGETS[norm]:g} | right | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for animal in (animal for animal in ZOO if only in animal.name):
        refused = animal.nature == "refused"
        some = QUICK if animal.random and not everything else names
        cells = zoo.cells(animal, norm, some)
        for cell in cells.values():
            counts[f"{animal.nature}: {cell.outcome}"] += 1
            counts[NEEDLESS] += cell.needless
        truth = "" if refused else f"{100 * zoo.truth(animal, norm):.0f}"
        row = " | ".join(text_of(cells.get(name)) for name in names)
        lines.append(f"| {animal.name} | {truth} | {row} |")
        print(lines[-1], flush=True)
    return lines, counts


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, and write them where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only", default="", help="part of the names of the animals")
    parser.add_argument("--all", action="store_true", help="all attacks for random animals as well")
    options = parser.parse_args(arguments)
    with ProcessPoolExecutor(len(BUDGETS), get_context("spawn")) as pool:
        jobs = [pool.submit(table, norm, options.only, options.all) for norm in BUDGETS]
        found_tables = [job.result() for job in jobs]
    tables = [lines for lines, _ in found_tables]
    counts = sum((counted for _, counted in found_tables), Counter[str]())
    needless = counts.pop(NEEDLESS, 0)
    found = "; ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    summary = (
        f"{counts.total()} rows of {IMAGES} images, by the nature of the network and what the program says: "
        f"{found}. Of the marked ones, {needless} are right all the same."
    )
    print(summary)
    if options.write is not None:
        page = options.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        after = rest.partition(END)[2]
        body = "\n\n".join("\n".join(lines) for lines in tables)
        options.write.write_text(f"{before}{BEGIN}\n\n{body}\n\n{summary}\n\n{END}{after}", encoding="utf-8")
    wrong = sum(count for name, count in counts.items() if "WRONG" in name or name == "honest: marked")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
