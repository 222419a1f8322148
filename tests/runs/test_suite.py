"""Suite files: what is accepted, what is refused and where, and which cells they stand for."""

import math

import pytest
from builders import make_data, save_digits_model

from robustbench_sde.errors import BenchError
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.runs.estimate import Passes, passes_of, seconds_by_cell, seconds_with
from robustbench_sde.runs.plan import Plan, duration
from robustbench_sde.runs.suite.suite import Suite
from robustbench_sde.runs.work import Work
from robustbench_sde.shipped import SUITES, shipped_files
from robustbench_sde.storage.run_folder import RunFolder

PGD = "perturbations: [{attack: pgd, eps: 0.1}]\n"


@pytest.fixture(scope="module")
def digits_models(tmp_path_factory):
    """An SDE and an ODE."""
    folder = tmp_path_factory.mktemp("models")
    return {kind: save_digits_model(folder / f"{kind}.safetensors", kind) for kind in ("additive", "none")}


def read(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text)
    return Suite.read(str(tmp_path / "s.yaml"))


def rows(cells):
    """Return the values that tell cells apart: the perturbation's columns, sigma, draws, rule, seed."""
    found = []
    for cell in cells:
        described = cell.perturbation.describe()
        level = described["eps"] if described["norm"] else described["severity"]
        level = None if math.isnan(level) else round(level, 6)
        settings = cell.settings
        found.append(
            (
                described["perturbation"],
                level,
                cell.source.sigma,
                settings.draws,
                settings.rule,
                settings.seed,
            )
        )
    return found


REFUSED = [
    ("smoothing: [0.25, 0]\n" + PGD, "line 1: smoothing"),
    ("imges: 3\n" + PGD, "line 1: unknown key 'imges'; did you mean 'images'?"),
    ("images: 3\nperturbations:\n- attack: pgd\n  eps: 0.1\n  stpes: 3\n",
     "line 5: unknown key 'stpes'; did you mean 'steps'?"),
    ("perturbations:\n  - corruption: fog\n    severty: 1\n",
     "line 3: unknown key 'severty'; did you mean 'severity'?"),
    ("perturbations:\n  - attack: pdg\n    eps: 1\n", "line 2: unknown attack 'pdg'; did you mean 'pgd'?"),
    ("rules: [mean-prob, vot]\n" + PGD, "line 1: unknown rules.1 'vot'; did you mean 'vote'?"),
    ("perturbations:\n  - steps: 3\n", "line 2: an entry has one of the keys"),
    ("perturbations:\n  - attack: pgd\n    corruption: fog\n", "line 2: an entry has one of the keys"),
    ("images: 3\n", "perturbations is missing"),
    ("solver: [euler, huen]\n" + PGD, "line 1: solver: unknown solver 'huen'; did you mean 'heun'?"),
    ("solver_steps: [0]\n" + PGD, "line 1: solver_steps"),
    ("solver_steps: [few]\n" + PGD, "line 1: solver_steps: it must be a whole number"),
    ("images: 0\n" + PGD, "line 1: images"),
    ("images: many\n" + PGD, "line 1: images"),
    ("seeds: [0, 0]\n" + PGD, "line 1: seeds: a value is there twice"),
    ("seeds: [5..1]\n" + PGD, "line 1: seeds: the range '5..1' goes down"),
    ("seeds: [0..99999999]\n" + PGD, "longer than 10000"),
    ("seeds: [0.5]\n" + PGD, "line 1: seeds: it must be a whole number"),
    ("seeds: [99999999999999999999]\n" + PGD, "line 1: seeds"),
    ("score_draws: [0]\n" + PGD, "line 1: score_draws"),
    ("solver: [{a: 1}]\n" + PGD, "line 1: solver: unknown solver"),
    ("sigma: [-1]\n" + PGD, "line 1: sigma"),
    ("sigma: [.nan]\n" + PGD, "line 1: sigma"),
    ("perturbations:\n- attack: pgd\n  eps: [0.1, 8/0]\n", "line 3: eps.1: must be a number"),
    ("images: 3\nimages: 4\n" + PGD, "line 2: 'images' is there twice"),
    ("images: 3\n? [a, b]\n: 4\n" + PGD, "line 2: a key must be a word"),
    ("images: &a 3\nseeds: *a\n" + PGD, "line 1: anchors and aliases are not allowed"),
    ("images: !!python/object/apply:os.getpid []\n" + PGD, "is not YAML"),
    ("images: [\n", "is not YAML"),
    ("- a\n", "must hold `key: value` lines"),
    ("1: 2\n", "must hold `key: value` lines"),
    ("description: " + "x" * 1_000_000 + "\n" + PGD, "more than 1 MB"),
    ("description: " + "[" * 100_000, "line 1: nested more than 20 deep"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=lambda value: value[:40])
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, message):
    """One line: the file, the line in it, the key, and the nearest name."""
    with pytest.raises(BenchError) as caught:
        read(tmp_path, text)
    assert "s.yaml" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


LATER = [
    ("perturbations:\n  - attack: pgd\n    eps: -0.1\n", "line 2: `eps` is -0.1"),
    ("perturbations:\n  - {corruption: fog}\n  - attack: pgd\n", "line 3: pgd needs budgets"),
    ("perturbations:\n  - {attack: square, eps: 0.1, share: wide}\n", "line 2: square: share is 'wide'"),
    ("perturbations:\n  - {attack: pgd, eps: 0.1, step_size: [0.01, 0.02]}\n",
     "line 2: pgd: step_size is [0.01, 0.02]; it must be a number"),
    ("perturbations:\n  - {corruption: fgo}\n", "line 2: unknown corruption 'fgo'; did you mean 'fog'?"),
    ("perturbations:\n  - {corruption: fog, severity: 6}\n", "line 2: `severity` is 6"),
    ("perturbations:\n  - {corruption: fog, official: cifar10-c:nowhere}\n", "line 2: "),
    ("perturbations:\n  - {attack: pgd, eps: 0.1}\n  - {attack: pgd, eps: 0.1, steps: 3}\n",
     "tables could not tell"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), LATER, ids=lambda value: value[:60])
def test_values_that_an_attack_refuses_are_said_with_their_line(
    tmp_path, digits, digits_models, text, message
):
    """A value that is refused late still names its line."""
    with pytest.raises(BenchError, match=r"s\.yaml") as caught:
        read(tmp_path, text).cells([digits_models["none"]], digits)
    assert message in str(caught.value)


def test_a_suite_that_does_not_exist_names_the_nearest(tmp_path):
    """A typing error in a name, and a file that is not there."""
    with pytest.raises(BenchError, match="unknown suite 'smoek'; did you mean 'smoke'"):
        Suite.read("smoek")
    with pytest.raises(BenchError, match="cannot read"):
        Suite.read(str(tmp_path / "none.yaml"))


def test_shipped_suites_are_sound(digits, digits_models):
    """Each has a description, and expands to cells that differ; their data is not needed for that."""
    assert {"smoke", "digits", "cifar10"} <= shipped_files(SUITES).keys()
    for name in shipped_files(SUITES):
        suite = Suite.read(name)
        assert suite.spec.description
        cells = suite.cells(list(digits_models.values()), digits)
        assert len({cell.key(digits) for cell in cells}) == len(cells) > 2


def test_every_checkpoint_gets_its_clean_and_control_rows(tmp_path, digits, digits_models):
    """eps 0 is the control; fractions and ranges are read; corruptions alone have no control."""
    suite = read(
        tmp_path,
        "perturbations:\n  - {attack: pgd, eps: [0, 8/255, 1e-3]}\n  - {corruption: fog, severity: [1..3]}\n",
    )
    cells = suite.cells([digits_models["additive"]], digits)
    assert rows(cells) == [
        (name, level, None, 32, "mean-prob", 0)
        for name, level in [
            ("clean", None), ("control", 0), ("pgd", 0.031373), ("pgd", 0.001),
            ("fog", 1), ("fog", 2), ("fog", 3),
        ]
    ]  # fmt: skip
    assert [type(cell.perturbation) for cell in cells[:2]] == [Clean, Control]
    corrupted = read(tmp_path, "perturbations: [{corruption: fog, severity: 2}]").cells(
        [digits_models["none"]], digits
    )
    assert [row[0] for row in rows(corrupted)] == ["clean", "fog"]


def test_grids_are_products_and_an_entry_replaces_those_of_the_suite(tmp_path, digits, digits_models):
    """Seeds x sigma x draws x rules, each with its clean row; scorings of the same images are neighbours."""
    suite = read(
        tmp_path,
        "seeds: [0, 7]\nscore_draws: [4]\nrules: [mean-prob, vote]\nperturbations:\n"
        "  - {attack: pgd, eps: 0.1, score_draws: [1, 4], sigma: [trained, 0.5]}\n"
        "  - {corruption: fog, severity: 2}\n",
    )
    found = rows(suite.cells([digits_models["additive"]], digits))
    seven = [row for row in found if row[5] == 7]
    assert [(*row[:5], 0) for row in seven] == [row for row in found if row[5] == 0]
    expected = [
        (name, level, sigma, draws, rule, 0)
        for sigma in (None, 0.5)
        for name, level, counts in [
            ("clean", None, (1, 4)), ("control", 0, (1, 4)), ("pgd", 0.1, (1, 4)), ("fog", 2, (4,)),
        ]
        for draws in counts
        for rule in ("mean-prob", "vote")
        if not (name == "fog" and sigma == 0.5)
    ]  # fmt: skip
    assert [row for row in found if row[5] == 0] == expected


def test_an_ode_is_not_run_for_every_noise_and_number_of_draws(tmp_path, digits, digits_models):
    """Grids that change nothing give one row, also where the trained noise is asked for by its number."""
    suite = read(
        tmp_path,
        "sigma: [trained, 0.8, 0]\nscore_draws: [2, 4]\nperturbations: [{corruption: fog, severity: 1}]\n",
    )
    assert len(suite.cells([digits_models["none"]], digits)) == 2
    noisy = rows(suite.cells([digits_models["additive"]], digits))
    assert [(row[2], row[3]) for row in noisy if row[0] == "clean"] == [(None, 2), (None, 4), (0.0, 2)]


def test_an_ode_has_one_clean_row_where_entries_have_draws_of_their_own(tmp_path, digits, digits_models):
    """More rows would be equal in all but their cell, and every one of them would count in the gate."""
    suite = read(
        tmp_path,
        "score_draws: 4\nperturbations:\n  - {attack: pgd, eps: 0.1}\n"
        "  - {attack: pgd, eps: 0.1, score_draws: [2, 8]}\n"
        "  - {corruption: fog, severity: 1, score_draws: 2}\n",
    )
    found = [row[0] for row in rows(suite.cells([digits_models["none"]], digits))]
    assert found == ["clean", "control", "pgd", "fog"]
    noisy = [row[0] for row in rows(suite.cells([digits_models["additive"]], digits))]
    assert [noisy.count(name) for name in ("clean", "control", "pgd", "fog")] == [3, 3, 3, 1]


def ways(cells):
    """Solver and steps of every cell, and what it is."""
    return [
        (cell.source.name, cell.source.solver, cell.source.solver_steps, str(cell.perturbation.label))
        for cell in cells
    ]


@pytest.mark.parametrize(("text", "images"), [("all", None), ("null", None), ("7", 7)])
def test_all_images_have_the_word_of_the_command_line(tmp_path, text, images):
    """`all` is the whole split, as in `--images all`."""
    assert read(tmp_path, f"images: {text}\nperturbations: []\n").spec.images == images


def test_no_perturbations_are_the_clean_images_alone(tmp_path, digits, digits_models):
    """Without perturbations a suite is the clean images under all its settings, without control."""
    suite = read(tmp_path, "sigma: [trained, 0]\nperturbations: []\n")
    assert [row[:3] for row in rows(suite.cells([digits_models["additive"]], digits))] == [
        ("clean", None, None),
        ("clean", None, 0.0),
    ]


def test_solvers_are_a_grid_and_those_that_do_not_take_the_noise_are_left_out(
    tmp_path, digits, digits_models
):
    """rk4 solves the ODE only; the trained solver and its steps asked for by name are the same work."""
    text = "solver: [trained, euler, heun, rk4]\nsolver_steps: [trained, 3, 6]\nperturbations: []\n"
    suite = read(tmp_path, text)
    found = ways(suite.cells(list(digits_models.values()), digits))
    expected = [("additive", solver, steps) for solver in (None, "heun") for steps in (None, 6)]
    expected += [("none", solver, steps) for solver in (None, "heun", "rk4") for steps in (None, 6)]
    assert found == [(*way, "clean") for way in expected]
    models = [cell.source.load("cpu") for cell in suite.cells([digits_models["none"]], digits)]
    assert [(m.solver, m.steps) for m in models[-2:]] == [("rk4", 3), ("rk4", 6)]
    with pytest.raises(BenchError, match="line 1: no solver here takes the noise of"):
        read(tmp_path, "solver: rk4\n" + PGD).cells([digits_models["additive"]], digits)


def test_an_attack_on_another_solver_is_made_where_that_takes_the_noise(tmp_path, digits, digits_models):
    """Rows of the tables tell the solver of the attack by the name, that of the defence by its columns."""
    suite = read(
        tmp_path,
        "solver: [euler, heun]\nperturbations:\n"
        "  - {attack: other-solver, on_solver: heun, eps: 0.1}\n"
        "  - {attack: other-solver, on_solver: rk4, on_steps: 6, eps: 0.1, solver: trained}\n",
    )
    attacks = [way for way in ways(suite.cells(list(digits_models.values()), digits)) if ":" in way[3]]
    assert attacks == [
        ("additive", None, None, "other-solver:heun"),
        ("additive", "heun", None, "other-solver:heun"),
        ("none", None, None, "other-solver:heun"),
        ("none", None, None, "other-solver:rk4/6"),
        ("none", "heun", None, "other-solver:heun"),
    ]


def test_a_checkpoint_for_other_images_is_refused_before_any_work(tmp_path, digits_models):
    """The shapes of both are said."""
    suite = read(tmp_path, PGD)
    with pytest.raises(BenchError, match=r"1x32x32 .*those of random are 1x12x12"):
        suite.cells([digits_models["none"]], make_data())


def test_globs_are_written_out_in_order_and_must_match(tmp_path, monkeypatch):
    """States of unfinished trainings are no checkpoints; a name stays a name."""
    monkeypatch.chdir(tmp_path)
    for name in ("b", "a", "a.state"):
        (tmp_path / f"{name}.safetensors").touch()
    suite = read(tmp_path, "checkpoints: ['*.safetensors', a.safetensors, digits-ode]\n" + PGD)
    assert [str(path) for path in suite.checkpoints()] == ["a.safetensors", "b.safetensors", "digits-ode"]
    with pytest.raises(BenchError, match=r"line 1: no file matches 'x\*'"):
        read(tmp_path, "checkpoints: 'x*'\n" + PGD).checkpoints()


def test_the_plan_counts_passes_and_says_what_is_stored(tmp_path, digits, digits_models):
    """Twice the steps are twice the passes; nothing to run takes no time."""
    cells = read(tmp_path, "images: 10\nperturbations: [{attack: pgd, eps: [0.1], steps: 10}]\n").cells(
        list(digits_models.values()), digits.subset(10)
    )
    pgd = [cell for cell in cells if cell.perturbation.describe()["perturbation"] == "pgd"]
    models = [cell.source.load(Compute()) for cell in pgd]
    found = [passes_of(cell.perturbation, model) for cell, model in zip(pgd, models, strict=True)]
    assert found == [Passes(0, 10 * 8), Passes(0, 10)]
    assert passes_of(make_attack("noise", eps=0.1, restarts=3), models[0]) == Passes(3 * 32)
    square = make_attack("square", eps=0.1, steps=50, eot_draws=4)
    assert passes_of(square, models[0]) == Passes(2 * 50 * 4)  # incumbent and challenger
    assert seconds_by_cell(Work.of([], digits), Compute()) == {}
    work = dict.fromkeys(cells, 100.0)  # two groups of each checkpoint: clean and control, pgd
    alone, two, many = (seconds_with(workers, work, 10, 256) for workers in (1, 2, 99))
    assert 600 < alone < 620
    assert 300 < two < 320
    assert 200 < many < 220  # a group is not cut further: it has less than one batch
    plan = Plan.of(
        Work.of(cells, digits.subset(10)), RunFolder(tmp_path / "run"), compute=Compute(), cache=True
    )
    assert str(plan).startswith("6 cells: 6 to run, about ")
    assert not (tmp_path / "run").exists()
    assert [row["state"] for row in plan.rows()] == ["to run"] * 6
    assert [duration(s) for s in (0.2, 89, 700, 9000)] == ["1 s", "89 s", "12 min", "2.5 h"]


def test_smoothing_is_a_grid_and_an_entry_replaces_that_of_the_suite(tmp_path, digits, digits_models):
    """Each value makes a classifier of its own with clean and control rows; the suite's can be replaced."""
    suite = read(
        tmp_path,
        "smoothing: [none, 0.25]\nperturbations:\n- {attack: pgd, eps: 0.1}\n"
        "- {corruption: fog, severity: 1, smoothing: 1/8}\n",
    )

    def named(chosen):
        cells = chosen.cells([digits_models["none"]], digits)
        return {(cell.source.name, cell.perturbation.describe()["perturbation"]) for cell in cells}

    plain, smooth, other = "none", "none@0.25", "none@0.125"
    attacked = {(name, kind) for name in (plain, smooth) for kind in ("clean", "control", "pgd")}
    assert named(suite) == attacked | {(other, "clean"), (other, "fog")}
    assert {name for name, _ in named(suite.with_smoothing([0.5]))} == {"none@0.5"}
    with pytest.raises(BenchError, match="`smoothing` is 11"):
        suite.with_smoothing([11])
