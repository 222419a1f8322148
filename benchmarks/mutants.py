"""Would the tests notice? Breaks one line of the core at a time, and runs the tests that are about it.

    python -m benchmarks.mutants [--sample 400] [--seed 0] [--workers 2] [--timeout 300] [--json FILE]

Every mutation is one of cosmic-ray's (operators, comparisons, numbers, conditions, loops), at a place
drawn at random among all places of the core. A change of an annotation or of a docstring is no mutation.
A mutant is killed if a test fails or takes more than `--timeout` seconds; the others are printed with
their line. Those that change no behaviour stand in `benchmarks/equivalent_mutants.yaml`, each with the
reason. Exit status 1 where fewer than 90 % of the others are killed. `--again FILE` runs only those that
survived in an earlier file of `--json`.
"""

import argparse
import ast
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from multiprocessing import current_process, get_context
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
#: Folders of the core, and the tests about each, the nearest first.
CORE: dict[str, list[str]] = {
    "robustbench_sde/sde": ["tests/sde", "tests/models"],
    "robustbench_sde/perturbations/attacks": ["tests/perturbations/attacks", "tests/peers"],
    "robustbench_sde/evaluation": [
        "tests/evaluation",
        "tests/reporting/test_studies.py",
        "tests/test_api.py",
    ],
    "robustbench_sde/regression": ["tests/regression"],
    "robustbench_sde/models/modules": [
        "tests/models/test_adapter.py",
        "tests/models/test_factory.py",
        "tests/models",
    ],
}
#: Packages that a worker imports once, before it forks a process for every mutant.
PRELOADED = (
    "torch",
    "torchvision",
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.datasets",
    "foolbox",
    "pydantic",
    "hypothesis",
    "pytest",
    "torchsde",
    "torchdiffeq",
)
#: Beginnings of the names of operators that change what is computed; those that only rename are left out.
KINDS = (
    "ReplaceBinaryOperator",
    "ReplaceComparisonOperator",
    "ReplaceUnaryOperator",
    "AddNot",
    "ReplaceTrue",
    "ReplaceFalse",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreak",
    "ReplaceContinue",
    "NumberReplacer",
    "ZeroIterationForLoop",
)


@dataclass(frozen=True)
class Mutant:
    """One change: its file, line, operator, and the line before and after."""

    file: str
    line: int
    operator: str
    before: str
    after: str
    code: str


def behaviour(code: str) -> str:
    """Return the code as a tree, less annotations, docstrings, `strict=` of zip and `frozen=` of dataclasses.

    Mutants that change nothing else change no behaviour: both only guard against mistakes of a caller.
    """
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in ("strict", "frozen")]
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, ast.Constant(None))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    return ast.dump(tree)


def changes_behaviour(before: str, after: str) -> bool:
    """Whether the code is valid Python, and another program."""
    try:
        return behaviour(before) != behaviour(after)
    except SyntaxError:
        return False


def mutants(sample: int, seed: int, only: str) -> list[Mutant]:
    """`sample` mutants, every place of the core with equal chance, each place once."""
    import parso
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes
    from cosmic_ray.mutating import mutate_code

    operators = {
        name: plugins.get_operator(name)()
        for name in plugins.operator_names()
        if name.removeprefix("core/").startswith(KINDS)
    }
    places: dict[tuple[str, tuple[int, int]], list[tuple[str, int]]] = {}
    texts = {}
    for folder in CORE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            file = path.relative_to(ROOT).as_posix()
            texts[file] = path.read_text()
            tree = parso.parse(texts[file])
            for name, operator in operators.items():
                occurrence = 0
                for node in ast_nodes(tree):
                    for start, _ in operator.mutation_positions(node):
                        if only in file:
                            places.setdefault((file, start), []).append((name, occurrence))
                        occurrence += 1
    dice = random.Random(seed)
    chosen = []
    order = sorted(places)
    dice.shuffle(order)
    for file, start in order:
        if len(chosen) == sample:
            break
        name, occurrence = dice.choice(places[file, start])
        code = mutate_code(texts[file].encode(), operators[name], occurrence)
        if code is None or not changes_behaviour(texts[file], code):
            continue
        old, new = texts[file].splitlines(), code.splitlines()
        line = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
        chosen.append(
            Mutant(file, line + 1, name.removeprefix("core/"), old[line].strip(), new[line].strip(), code)
        )
    return chosen


def folder_of(file: str) -> str:
    """Name the folder of the core that a file is in."""
    return next(folder for folder in CORE if file.startswith(folder))


def tests_of(file: str, root: Path) -> list[list[str]]:
    """List the tests to run for a file in stages: those named like it, then all that are about its folder."""
    folder = folder_of(file)
    nearest = sorted((root / CORE[folder][0]).rglob(f"test_*{Path(file).stem}*.py"))
    stages = [[place] for place in CORE[folder]]
    return [[str(path.relative_to(root)) for path in nearest], *stages] if nearest else stages


def test_files(file: str) -> list[str]:
    """List all files of tests that may be run for a file of the core."""
    found = []
    for (place,) in tests_of(file, ROOT)[-len(CORE[folder_of(file)]) :]:
        paths = [ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("test_*.py")
        found += [path.relative_to(ROOT).as_posix() for path in paths]
    return found


class FailedTests:
    """A pytest plug-in that writes the ids of failed tests into a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pytest_runtest_logreport(self, report: object) -> None:
        """Note a test whose setup, call or teardown failed."""
        if report.failed:  # type: ignore[attr-defined]
            with self.path.open("a") as file:
                file.write(f"{report.nodeid}\n")  # type: ignore[attr-defined]


def run_tests(
    tree: Path, stages: list[list[str]], timeout: float, options: list[str], failed: Path | None = None
) -> tuple[str, float]:
    """Fork a process that runs the stages in `tree` until a test fails: killed, timeout or survived."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(tree)
        sys.path[:0] = [str(tree), str(tree / "tests")]
        log = os.open(tree / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        import pytest

        for stage in stages:
            plugins = [] if failed is None else [FailedTests(failed)]
            code = pytest.main(["-q", "-p", "no:cacheprovider", "-m", "not gpu", *options, *stage], plugins)
            if code not in (0, 5):
                os._exit(1)
        os._exit(0)
    while time.monotonic() - began < timeout:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            killed = os.waitstatus_to_exitcode(status) != 0
            return "killed" if killed else "survived", time.monotonic() - began
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout", time.monotonic() - began


def plant_tree(place: Path) -> Path:
    """A copy of what the tests need, to be broken."""
    for name in ("robustbench_sde", "tests", "benchmarks", "checkpoints", "docs", "examples", "reports"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "images"))
    for name in ("pyproject.toml", "README.md", "Makefile", "mkdocs.yml"):
        shutil.copy(ROOT / name, place / name)
    return place


def tree_of_this_worker(trees: list[Path]) -> Path:
    """The copy that belongs to the process which calls."""
    return trees[(current_process()._identity[0] - 1) % len(trees)]


def failing_tests(job: tuple[str, list[Path], float]) -> list[str]:
    """Run a file of tests on the code as it is, and list what fails: nothing of that can kill a mutant."""
    file, trees, timeout = job
    tree = tree_of_this_worker(trees)
    failed = tree / "failed.txt"
    failed.unlink(missing_ok=True)
    outcome, _ = run_tests(tree, [[file]], timeout, [], failed)
    found = failed.read_text().split("\n")[:-1] if failed.exists() else []
    return found if outcome == "survived" or found else [file]


def judge(job: tuple[Mutant, list[Path], float, float, list[str]]) -> dict[str, object]:
    """Break the tree of this worker, run its tests, and mend it."""
    mutant, trees, timeout, deadline, options = job
    about = {name: value for name, value in asdict(mutant).items() if name != "code"}
    if time.monotonic() > deadline:
        return about | {"outcome": "not run", "seconds": 0.0}
    tree = tree_of_this_worker(trees)
    target = tree / mutant.file
    honest = target.read_text()
    target.write_text(mutant.code)
    try:
        outcome, seconds = run_tests(tree, tests_of(mutant.file, tree), timeout, options)
    finally:
        target.write_text(honest)
    return about | {"outcome": outcome, "seconds": round(seconds, 1)}


def main(arguments: list[str] | None = None) -> int:
    """Print a line for every mutant that survives, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="part of a file's name")
    parser.add_argument("--again", type=Path, help="a file of --json: run the survivors in it once more")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no mutant after this time")
    options = parser.parse_args(arguments)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    chosen = mutants(options.sample, options.seed, options.only)
    if options.again is not None:
        survivors = [
            found for found in json.loads(options.again.read_text()) if found["outcome"] == "survived"
        ]
        alive = {(found["file"], found["before"], found["after"]) for found in survivors}
        chosen = [mutant for mutant in chosen if (mutant.file, mutant.before, mutant.after) in alive]
    for name in PRELOADED:
        __import__(name)
    known = yaml.safe_load((ROOT / "benchmarks" / "equivalent_mutants.yaml").read_text()) or []
    equivalent = {(entry["file"], entry["before"], entry["after"]) for entry in known}
    deadline, results = time.monotonic() + options.seconds, []
    with tempfile.TemporaryDirectory() as place:
        trees = [plant_tree(Path(place) / str(worker)) for worker in range(options.workers)]
        with get_context("fork").Pool(options.workers) as pool:
            files = sorted({file for mutant in chosen for file in test_files(mutant.file)})
            checks = [(file, trees, options.timeout) for file in files]
            failing = [test for found in pool.imap_unordered(failing_tests, checks) for test in found]
            for test in failing:
                print(f"fails without any change, and is left out: {test}", flush=True)
            quiet = ["-x", *(f"--deselect={test}" for test in failing)]
            jobs = [(mutant, trees, options.timeout, deadline, quiet) for mutant in chosen]
            for result in pool.imap(judge, jobs):
                key = (result["file"], result["before"], result["after"])
                if result["outcome"] == "survived" and key in equivalent:
                    result["outcome"] = "equivalent"
                results.append(result)
                if result["outcome"] == "survived":
                    print("{file}:{line}: {operator}\n  - {before}\n  + {after}".format(**result), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1))
    counts = {name: sum(result["outcome"] == name for result in results) for name in
              ("killed", "timeout", "survived", "equivalent", "not run")}  # fmt: skip
    caught = counts["killed"] + counts["timeout"]
    share = caught / max(1, caught + counts["survived"])
    print(f"{len(results)} mutants: {counts}; {share:.1%} of those that change behaviour are killed")
    return int(share < 0.9)


if __name__ == "__main__":
    sys.exit(main())
