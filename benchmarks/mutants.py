"""Would the tests notice? Breaks one line of the core at a time, and runs the tests that execute it.

    python -m benchmarks.mutants [--workers 2] [--most 60] [--json FILE [--again]] [--observed FILE]

Every mutation is one of cosmic-ray's (operators, comparisons, numbers, conditions, loops), at a place
drawn at random among all places of the core: the places with the smallest hashes of file, line and operator,
so that a change elsewhere does not change the sample. A change of an annotation or docstring is no mutation.
First the tests of the core run on the code as it is, and coverage.py notes which test executes which line.
Then each mutant meets the tests that execute its line, the quickest first; where the line only runs while
a module is imported, those that execute a line of its function, class or module; where coverage.py sees none,
all tests of its folder. It never meets more of them than take `--most` seconds. A
mutant is killed if a test fails, or if the tests take a minute more than `--patience` times their usual
seconds; the others are printed with their line.
Those that change no behaviour stand in `benchmarks/equivalent_mutants.yaml`, each with the reason.
Exit status 1 where fewer than 90 % of the others are killed. What `--json FILE` holds already is not run
again, but for its survivors where `--again` is given. `--list` prints the sample and runs nothing.
"""

import argparse
import ast
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import accumulate
from multiprocessing import current_process, get_context
from multiprocessing.pool import Pool
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
#: Folders of the core, and the tests about each, the nearest first.
CORE: dict[str, list[str]] = {
    "robustbench_sde/sde/kernels": ["tests/sde/test_interpreted.py"],
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
    places: dict[tuple[str, int, int], list[tuple[str, int]]] = {}
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
                            places.setdefault((file, *start), []).append((name, occurrence))
                        occurrence += 1

    def rank(place: tuple[str, int, int], name: str = "") -> str:
        file, line, column = place
        text = texts[file].splitlines()[line - 1]
        return sha256(f"{seed}|{file}|{text.strip()}|{column}|{name}".encode()).hexdigest()

    chosen: list[Mutant] = []
    for place in sorted(places, key=lambda place: (rank(place), place)):
        if len(chosen) == sample:
            break
        name, occurrence = min(places[place], key=lambda found: rank(place, found[0]))
        file = place[0]
        code = mutate_code(texts[file].encode(), operators[name], occurrence)
        if code is None or not changes_behaviour(texts[file], code):
            continue
        old, new = texts[file].splitlines(), code.splitlines()
        line = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
        chosen.append(
            Mutant(file, line + 1, name.removeprefix("core/"), old[line].strip(), new[line].strip(), code)
        )
    return chosen


@dataclass
class Tests:
    """What is known of the tests on the code as it is."""

    #: seconds by the id of a test that passed
    seconds: dict[str, float]
    #: ids of tests that failed
    failed: set[str]
    #: for each file of the core and line: the ids of the tests that execute it
    lines: dict[str, dict[int, set[str]]]

    def add(self, other: "Tests") -> None:
        """Take in what was found about other tests."""
        self.seconds |= other.seconds
        self.failed |= other.failed
        for file, lines in other.lines.items():
            for line, tests in lines.items():
                self.lines.setdefault(file, {}).setdefault(line, set()).update(tests)


def folder_of(file: str) -> str:
    """Name the folder of the core that a file is in."""
    return next(folder for folder in CORE if file.startswith(folder))


def test_files(folder: str) -> list[str]:
    """List the files of tests about a folder of the core."""
    found = []
    for place in CORE[folder]:
        paths = [ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("test_*.py"))
        found += [path.relative_to(ROOT).as_posix() for path in paths]
    return found


def lines_of_statement(code: str, line: int) -> range:
    """Give the lines of the innermost statement that holds a line; only the head of a compound one."""
    best = range(line, line + 1)
    size = float("inf")
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.stmt) or not node.lineno <= line <= (node.end_lineno or node.lineno):
            continue
        body = getattr(node, "body", None)
        end = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
        lines = range(node.lineno, max(end, node.lineno + 1))
        if line in lines and len(lines) < size:
            best, size = lines, len(lines)
    return best


def lines_it_serves(code: str, line: int) -> range:
    """Give the lines of the function or class that a line belongs to, if it runs on import; else none.

    A default of a parameter serves its function, a field its class, and anything else the module.
    """
    best, size = range(1, code.count("\n") + 2), float("inf")
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        first = min([node.lineno, *(found.lineno for found in node.decorator_list)])
        end = node.end_lineno or node.lineno
        if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line <= end:
            return range(0)
        if first <= line <= end and end - first < size:
            best, size = range(first, end + 1), end - first
    return best


def tests_of(mutant: Mutant, tests: Tests, most: float) -> list[str]:
    """List the tests that execute the line of a mutant, the quickest first, up to `most` seconds."""
    known = tests.lines.get(mutant.file, {})
    code = (ROOT / mutant.file).read_text()
    lines = lines_it_serves(code, mutant.line) or lines_of_statement(code, mutant.line)
    found = {test for line in lines for test in known.get(line, ()) if test in tests.seconds}
    if not found:  # coverage.py does not see it run: kernels
        files = set(test_files(folder_of(mutant.file)))
        found = {test for test in tests.seconds if test.partition("::")[0] in files}
    order = sorted(found & tests.seconds.keys(), key=lambda test: (tests.seconds[test], test))
    ends = accumulate(tests.seconds[test] for test in order)
    return [test for test, end in zip(order, ends, strict=True) if end <= most] or order[:1]


class Watch:
    """A pytest plug-in that tells coverage.py which test runs, and notes seconds and failures."""

    def __init__(self, coverage: object) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Everything from here on belongs to this test."""
        self.coverage.switch_context(nodeid)  # type: ignore[attr-defined]

    def pytest_runtest_logreport(self, report: object) -> None:
        """Add the seconds of setup, call or teardown."""
        test = report.nodeid  # type: ignore[attr-defined]
        self.seconds[test] = self.seconds.get(test, 0.0) + report.duration  # type: ignore[attr-defined]
        if report.failed:  # type: ignore[attr-defined]
            self.failed.add(test)


def in_child(tree: Path, work: Callable[[], int], timeout: float) -> tuple[str, float]:
    """Fork a process that does `work` in `tree`; give "killed", "timeout" or "survived", and the seconds."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(tree)
        sys.path[:0] = [str(tree), str(tree / "tests"), str(tree / "tests" / "helpers")]
        os.environ["PYTHONPATH"] = str(tree)  # for processes that a test starts
        log = os.open(tree / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(work())
    while time.monotonic() - began < timeout:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            killed = os.waitstatus_to_exitcode(status) != 0
            return "killed" if killed else "survived", time.monotonic() - began
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout", time.monotonic() - began


QUIET = ["-q", "-p", "no:cacheprovider", "-m", "not gpu"]


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


#: Seconds by test, tests that failed, and for each file and line (as text) the tests that execute it.
Observed = tuple[dict[str, float], list[str], dict[str, dict[str, list[str]]]]


def observe(job: tuple[str, list[Path]]) -> Observed:
    """Run a file of tests on the code as it is: seconds, failures, and who executes which line."""
    file, trees = job
    tree = tree_of_this_worker(trees)
    result = tree / "observed.json"
    result.unlink(missing_ok=True)

    def work() -> int:
        import coverage
        import pytest

        cover = coverage.Coverage(data_file=None, source=[str(tree / folder) for folder in CORE])
        watch = Watch(cover)
        cover.start()
        pytest.main([*QUIET, file], [watch])
        cover.stop()
        data = cover.get_data()
        lines = {
            Path(path).relative_to(tree).as_posix(): {
                line: [test for test in tests if test]
                for line, tests in data.contexts_by_lineno(path).items()
            }
            for path in data.measured_files()
        }
        result.write_text(json.dumps([watch.seconds, sorted(watch.failed), lines]))
        return 0

    in_child(tree, work, 3600)
    if not result.exists():
        return {}, [file], {}
    found: Observed = json.loads(result.read_text())
    return found


def observe_all(files: list[str], pool: Pool, trees: list[Path], kept: Path | None) -> Tests:
    """Observe files of tests, but those in `kept` that have not changed since, like the core."""
    core = [path.read_bytes() for folder in CORE for path in sorted((ROOT / folder).rglob("*.py"))]
    marks = {file: sha256(b"".join([*core, (ROOT / file).read_bytes()])).hexdigest() for file in files}
    known = json.loads(kept.read_text()) if kept is not None and kept.exists() else {}
    tests, new = Tests({}, set(), {}), [file for file in files if marks[file] not in known]
    for file, (seconds, failed, lines) in zip(
        new, pool.imap(observe, [(file, trees) for file in new], chunksize=1), strict=True
    ):
        known[marks[file]] = seconds, failed, lines
        if kept is not None:
            kept.write_text(json.dumps(known))
    for file in files:
        seconds, failed, lines = known[marks[file]]
        passed = {test: value for test, value in seconds.items() if test not in failed}
        tests.add(Tests(passed, set(failed), {path: {int(line): set(found) for line, found in each.items()}
                                              for path, each in lines.items()}))  # fmt: skip
    return tests


def key_of(mutant: Mapping[str, object]) -> tuple[object, object, object]:
    """Return what tells a mutant from others."""
    return mutant["file"], mutant["before"], mutant["after"]


def judge(job: tuple[Mutant, list[str], float, list[Path], float]) -> dict[str, object]:
    """Break the tree of this worker, run the tests that execute the line, and mend it."""
    mutant, chosen, timeout, trees, deadline = job
    about = {name: value for name, value in asdict(mutant).items() if name != "code"} | {"tests": len(chosen)}
    if time.monotonic() > deadline:
        return about | {"outcome": "not run", "seconds": 0.0}
    tree = tree_of_this_worker(trees)

    def work() -> int:
        import pytest

        for stage in (chosen[:30], chosen[30:]):
            if stage and pytest.main([*QUIET, "-x", *stage]) not in (0, 5):
                return 1
        return 0

    target = tree / mutant.file
    honest = target.read_text()
    target.write_text(mutant.code)
    try:
        outcome, seconds = in_child(tree, work, timeout)
    finally:
        target.write_text(honest)
    return about | {"outcome": outcome, "seconds": round(seconds, 1)}


def main(arguments: list[str] | None = None) -> int:
    """Print a line for every mutant that survives, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--patience", type=float, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="part of a file's name")
    parser.add_argument("--most", type=float, default=60, help="seconds of tests a mutant")
    parser.add_argument(
        "--again", action="store_true", help="run the survivors in the file of --json once more"
    )
    parser.add_argument("--list", action="store_true", help="print the sample as JSON")
    parser.add_argument(
        "--observed", type=Path, help="keep here which test executes what, and take it from here"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no mutant after this time")
    options = parser.parse_args(arguments)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    chosen = mutants(options.sample, options.seed, options.only)
    if options.list:
        print(json.dumps([{**asdict(mutant), "code": ""} for mutant in chosen], indent=1))
        return 0
    listed = yaml.safe_load((ROOT / "benchmarks" / "equivalent_mutants.yaml").read_text()) or []
    equivalent = {(entry["file"], entry["before"], entry["after"]) for entry in listed}
    stored = {}
    if options.json is not None and options.json.exists():
        stored = {key_of(found): found for found in json.loads(options.json.read_text())}
    results: list[dict[str, object]] = []
    for mutant in list(chosen):
        found = stored.get(key := key_of(asdict(mutant)))
        if key in equivalent:
            found = {**asdict(mutant), "code": "", "outcome": "equivalent", "seconds": 0.0}
        if found is not None and not (options.again and found["outcome"] == "survived"):
            results.append(found)
            chosen.remove(mutant)
    for name in PRELOADED:
        __import__(name)
    deadline, asked = time.monotonic() + options.seconds, len(results) + len(chosen)
    with tempfile.TemporaryDirectory() as place:
        trees = [plant_tree(Path(place) / str(worker)) for worker in range(options.workers)]
        with get_context("fork").Pool(options.workers) as pool:
            files = sorted(
                {file for folder in {folder_of(m.file) for m in chosen} for file in test_files(folder)}
            )
            tests = observe_all(files, pool, trees, options.observed)
            for test in sorted(tests.failed):
                print(f"fails without any change, and is left out: {test}", flush=True)
            print(f"{len(tests.seconds)} tests take {sum(tests.seconds.values()):.0f} s", flush=True)
            jobs = []
            for mutant in chosen:
                about = tests_of(mutant, tests, options.most)
                usual = sum(tests.seconds[test] for test in about)
                jobs.append((mutant, about, 60 + options.patience * usual, trees, deadline))
            for result in pool.imap_unordered(judge, jobs):
                results.append(result)
                if result["outcome"] == "survived":
                    print(
                        "{file}:{line}: {operator}, {tests} tests\n  - {before}\n  + {after}".format(
                            **result
                        ),
                        flush=True,
                    )
                if options.json is not None:  # kept as it goes: a run takes more than an hour
                    options.json.write_text(json.dumps(results, indent=1))
                if len(results) % 20 == 0:
                    print(f"{len(results)} of {asked}", flush=True)
    counts = {name: sum(result["outcome"] == name for result in results) for name in
              ("killed", "timeout", "survived", "equivalent", "not run")}  # fmt: skip
    caught = counts["killed"] + counts["timeout"]
    share = caught / max(1, caught + counts["survived"])
    print(f"{len(results)} mutants: {counts}; {share:.1%} of those that change behaviour are killed")
    return int(share < 0.9)


if __name__ == "__main__":
    sys.exit(main())
