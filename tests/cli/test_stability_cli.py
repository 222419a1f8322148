"""`sde-bench stability`, called in this process."""

import json

import pytest
from builders import save_digits_model

from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.evaluation.stability.analysis import StabilitySettings, perturbations_to_follow
from robustbench_sde.models.noise import NoiseSpec
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.stability import stability_key

SMALL = ("--images", 5, "--paths", 2, "--steps", 2, "--eot-draws", 2, "--score-draws", 2, "--quiet")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with small untrained checkpoints of the digits' shape."""
    folder = tmp_path_factory.mktemp("place")
    save_digits_model(folder / "checkpoints" / "plain.safetensors", "none")
    for shape in ("scalar", "independent"):
        term = NoiseSpec(kind="multiplicative", sigma=0.5, shape=shape)
        save_digits_model(folder / "checkpoints" / f"{shape}.safetensors", noise=(term,))
    return folder


@pytest.fixture
def sde_bench(place, monkeypatch, program):
    """Run the program in `place`; returns exit code, stdout and stderr."""
    monkeypatch.chdir(place)
    return program


def test_checkpoints_side_by_side(sde_bench, place):
    """All checkpoints of the data set: two tables, a sentence each, a report each, and one figure.

    The same command makes only what is missing, and prints the same.
    """
    code, stdout, _ = sde_bench("stability", *SMALL, "--out", "all", "--corruptions", "contrast,fog")
    assert code == 0
    assert "plain: sigma² > 2L says nothing here: there is no noise" in stdout
    assert "independent: sigma² > 2L says nothing here: each entry" in stdout
    assert "scalar: sigma² = 0.25, 2L = " in stdout
    for words in ("pgd linf 0.03 (7.65/255)", "contrast 3", "fog 3", "no claim"):
        assert words in stdout
    assert stdout.rstrip().endswith("reports and figure: all")
    (place / "all" / "stability" / "plain.json").unlink()
    code, again, _ = sde_bench("stability", *SMALL, "--out", "all", "--corruptions", "contrast,fog")
    assert "2 of 3 reports stored already" in again
    assert again.replace("2 of 3 reports stored already", "").split() == stdout.split()
    written = {str(path.relative_to(place / "all")) for path in (place / "all").rglob("*.*")}
    reports = {f"stability/{name}.json" for name in ("plain", "scalar", "independent")}
    assert written == reports | {"figures/stability.svg", "figures/stability.png"}


def test_json_is_what_the_files_hold(sde_bench, place):
    """--json prints the reports as a list.

    At sigma = 0.5 the condition fails. At 40 it is met, but three Euler steps of such noise drive apart what
    the equation would bring together: the program says so.
    """
    found = []
    for sigma in (0.5, 40):
        code, stdout, _ = sde_bench(
            "stability", "scalar", *SMALL, "--sigma", sigma, "--norm", "l2", "--json", "--out", sigma
        )
        assert code == 0
        (report,) = json.loads(stdout)
        stored = json.loads((place / str(sigma) / "stability" / "scalar.json").read_text())
        assert len(stored.pop("digest")) == 64
        assert report == stored
        assert report["perturbations"][1]["eps"] == 0.5
        found.append(report["condition"]["agreement"])
    assert found == ["silent", "contradicts"]


def test_a_report_is_known_by_all_that_decides_it(place, digits):
    """Paths, seed, noise and perturbations make it another one; batch sizes do not."""
    path = place / "checkpoints" / "scalar.safetensors"
    data = digits.subset(5)

    asked = {"steps": 2, "eot_draws": 1, "corruptions": "fog", "severities": (3,), "family": None}

    def key(paths=2, eps=0.03, sigma=None, **score):
        settings = StabilitySettings(paths, ScoreSettings(**score))
        followed = perturbations_to_follow("linf", eps, **asked)
        return stability_key(Source.of(path, data, sigma=sigma), data, followed, settings)

    others = {key(paths=3), key(eps=0.02), key(sigma=0.1), key(seed=1), key(draws=8)}
    assert len(others | {key()}) == 6
    assert key(rows=7) == key()


def test_a_damaged_report_is_named(sde_bench, place):
    """It is not overwritten in silence."""
    path = place / "broken" / "stability" / "plain.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    code, _, stderr = sde_bench("stability", "plain", *SMALL, "--out", "broken")
    assert code == 2
    assert "broken/stability/plain.json is damaged" in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--paths", 0), "--paths is 0; it must be at least 1"),
        (("--eps", "-1"), "--eps is -1"),
        (("--norm", "l3"), "l3"),
        (("--corruptions", "fogg"), "did you mean 'fog'"),
        (("plane",), "did you mean 'plain'"),
        (("--images", 0), "--images must be at least 1"),
    ],
)
def test_wrong_input_is_one_line(sde_bench, arguments, message):
    """Exit code 2 and a sentence."""
    code, stdout, stderr = sde_bench("stability", *arguments)
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert stderr.count("\n") == 1
