"""`sde-bench compare` and `sde-bench baseline`, called in this process."""

import json
from xml.etree import ElementTree

import pytest
from builders import save_digits_model
from regression.worlds import changed, make_cell, make_side, write_run


@pytest.fixture
def sde_bench(tmp_path, monkeypatch, program):
    """Run the program in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return program


@pytest.fixture
def runs(sde_bench, tmp_path):
    """Runs by the verdict that they get against `before`, and its baseline file `baseline.json`."""
    fog = {"perturbation": "fog", "norm": "", "eps": None, "severity": 3.0, "settings": "Fog()"}
    quiet = make_cell(changed(360, 200)[0], **fog)
    worlds = {
        "before": (360, 200, 0, 0),
        "ok": (360, 200, 2, 2),
        "regression": (360, 200, 30, 5),
        "improved": (360, 200, 5, 30),
        "inconclusive": (360, 200, 12, 5),
    }
    for name, world in worlds.items():
        write_run(tmp_path / name, make_side(make_cell(changed(*world)[1], checkpoint="a|<net>"), quiet))
    write_run(tmp_path / "incomparable", make_side(quiet))
    failed = make_cell([], checkpoint="a|<net>", sigma=None, noise="", status="failed: 100 % of\nthe memory")
    write_run(tmp_path / "invalid", make_side(failed, quiet))
    code, stdout, stderr = sde_bench("baseline", "save", "before", "baseline.json")
    assert code == 0, stderr
    assert "2 cells" in stdout
    return tmp_path


CODES = {"ok": 0, "improved": 0, "regression": 1, "incomparable": 2, "inconclusive": 3, "invalid": 4}


@pytest.mark.parametrize("baseline", ["before", "baseline.json"])
@pytest.mark.parametrize("name", CODES)
def test_verdict_and_exit_code(sde_bench, runs, name, baseline):
    """Verdict and exit code agree for a run folder and for a baseline file; the verdict is the first line."""
    code, stdout, stderr = sde_bench("compare", baseline, name)
    verdict = "incomparable" if name == "invalid" else name
    assert (code, stderr) == (CODES[name], "")
    counts = {"ok": "2 ok", "regression": "1 ok, 1 regressed"}.get(name, f"1 ok, 1 {verdict}")
    assert stdout.splitlines()[0] == f"verdict: {verdict} · {counts}"
    assert f"{baseline} -> {name}" in stdout
    if name == "regression":
        assert "regression a|<net> pgd linf eps=0.03: accuracy lost 6.9 (4 to 10.4) points, p =" in stdout
    if name == "inconclusive":
        assert "360 images find a loss of" in stdout


def test_changed_cells_come_first_and_the_others_are_one_line(sde_bench, runs):
    """The table has the changed cells alone; `--all` adds the others after them."""
    _, few, _ = sde_bench("compare", "baseline.json", "regression")
    assert "net fog 3" not in few
    assert few.splitlines()[-1] == "1 cell ok: --all shows them"
    _, whole, _ = sde_bench("compare", "baseline.json", "regression", "--all")
    assert whole.index("a|<net> pgd") < whole.index("net fog 3")
    assert "--all" not in whole


def test_a_run_with_fewer_images_gets_one_line_with_the_command(sde_bench, runs):
    """One line names both numbers and the command that mends it, on the terminal and in Markdown."""
    few = [make_cell(changed(20, 20)[0], checkpoint=f"net{index}") for index in range(3)]
    many = [make_cell(changed(360, 200)[0], checkpoint=f"net{index}") for index in range(3)]
    write_run(runs / "few", make_side(*few), command="sde-bench run smoke --images 20 --quiet")
    write_run(runs / "many", make_side(*many))
    mended = "the run has 20 images and the baseline 360: `sde-bench run smoke --quiet --images 360`"
    code, stdout, _ = sde_bench("compare", "many", "few")
    assert code == 3
    assert stdout.splitlines()[:2] == ["verdict: inconclusive · 3 inconclusive", mended]
    assert stdout.count("net") == 0, "no cell has a line of its own"
    assert mended in sde_bench("compare", "many", "few", "--markdown")[1]
    assert json.loads(sde_bench("compare", "many", "few", "--json")[1])["fewer_images"]["baseline"] == 360
    assert "fewer_images" in sde_bench("compare", "many", "many", "--json")[1]
    write_run(runs / "few", make_side(*few), command="sde-bench attack --images 20 --out few")
    assert "`sde-bench attack --out few --images 360 --force`" in sde_bench("compare", "many", "few")[1]


def test_too_few_images_say_how_many_unchanged_ones_suffice(sde_bench, runs):
    """The sentence gives both numbers of images: to find the loss, and to exclude it if nothing changes."""
    quiet = make_cell(changed(100, 50)[0])
    write_run(runs / "small", make_side(quiet))
    _, stdout, _ = sde_bench("compare", "small", "small")
    assert "one of 2 takes 394 (189 if none changes)" in stdout


def test_a_comment_and_a_badge_are_written(sde_bench, runs):
    """The comment is the Markdown after a mark; the badge has the keys that shields.io reads."""
    code, _, _ = sde_bench("compare", "baseline.json", "regression", "--comment", "c.md", "--badge", "b.json")
    assert code == 1
    comment = (runs / "c.md").read_text()
    assert comment.startswith(
        "<!-- sde-bench gate -->\n### Robustness: regression\n\n**1 ok, 1 regressed**\n"
    )
    shown, folded = comment.split("<details>")
    assert "a\\|&lt;net&gt; pgd" in shown
    assert "fog 3" not in shown
    assert "<summary>1 cell ok</summary>" in folded
    assert "| net fog 3 |" in folded
    assert json.loads((runs / "b.json").read_text()) == {
        "schemaVersion": 1,
        "label": "robustness",
        "message": "1 ok, 1 regressed",
        "color": "red",
        "isError": True,
    }


def test_a_baseline_stands_on_either_side(sde_bench, runs):
    """Two files, two folders or one of each."""
    assert sde_bench("baseline", "save", "regression", "worse.json")[0] == 0
    assert sde_bench("compare", "baseline.json", "worse.json")[0] == 1
    assert sde_bench("compare", "worse.json", "before")[0] == 0


def test_json_has_the_verdict_and_every_number(sde_bench, runs):
    """And nothing else on stdout."""
    code, stdout, _ = sde_bench("compare", "baseline.json", "regression", "--json")
    result = json.loads(stdout)
    assert (code, result["exit_code"], result["verdict"]) == (1, 1, "regression")
    assert [cell["verdict"] for cell in result["cells"]] == ["regression", "ok"]
    assert result["cells"][0]["changes"][0]["p_holm"] == 2 * result["cells"][0]["changes"][0]["p"]


def test_markdown_is_printed_outside_of_github(sde_bench, runs):
    """One row per cell; markup in names is shown, not obeyed."""
    code, stdout, _ = sde_bench("compare", "baseline.json", "regression", "--markdown")
    assert code == 1
    assert stdout.startswith("### Robustness: regression\n")
    (row,) = [line for line in stdout.splitlines() if line.startswith("| a\\|&lt;net&gt; pgd")]
    assert "| 55.6 -&gt; 48.6 | 6.9 (4 to 10.4) |" in row
    assert "::" not in stdout


def test_in_a_github_job_markdown_is_appended_and_findings_annotated(sde_bench, runs, monkeypatch):
    """The log has the table and one annotation for each cell that decides; no text can forge another."""
    page = runs / "summary.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    starts = {
        "regression": "::error title=robustness regression::a|<net> pgd linf eps=0.03: accuracy lost",
        "inconclusive": "::warning title=robustness inconclusive::a|<net> pgd",
        "invalid": "::error title=robustness incomparable::a|<net> pgd linf eps=0.03: the run's cell",
    }
    for name, start in starts.items():
        code, stdout, _ = sde_bench("compare", "baseline.json", name, "--markdown")
        assert code == CODES[name]
        (annotation,) = [line for line in stdout.splitlines() if line.startswith("::")]
        assert annotation.startswith(start)
        assert "verdict:" in stdout
    assert "failed: 100 %25 of the memory" in annotation
    assert page.read_text().startswith("before\n### Robustness: regression\n")
    assert page.read_text().count("### Robustness") == 3
    assert "::" not in sde_bench("compare", "baseline.json", "ok", "--markdown")[1]


def test_junit_has_a_case_per_cell(sde_bench, runs):
    """Counted as its readers do."""
    counts = {}
    for name in CODES:
        sde_bench("compare", "baseline.json", name, "--junit-xml", "out/junit.xml")
        suite = ElementTree.parse(runs / "out" / "junit.xml").getroot()
        assert [case.get("name") for case in suite] == [
            "a|<net> pgd linf eps=0.03",
            "fog 3".join(("net ", "")),
        ]
        counts[name] = tuple(int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped"))
        assert counts[name][1] == len(suite.findall("testcase/failure"))
        assert counts[name][2] == len(suite.findall("testcase/error"))
    assert counts == {
        "ok": (2, 0, 0, 0),
        "improved": (2, 0, 0, 0),
        "regression": (2, 1, 0, 0),
        "incomparable": (2, 0, 1, 0),
        "inconclusive": (2, 1, 0, 0),
        "invalid": (2, 0, 1, 0),
    }


def test_a_policy_decides_by_cell(sde_bench, runs):
    """A larger loss is tolerated, or the cell is not required; what is typed wins over the file's default."""
    (runs / "policy.yaml").write_text("cells: [{match: 'a|<net> *', max_drop: 0.15}]")
    assert sde_bench("compare", "before", "regression", "--policy", "policy.yaml")[0] == 0
    (runs / "policy.yaml").write_text("cells: [{match: 'a|<net> *', required: false}]")
    assert sde_bench("compare", "before", "incomparable", "--policy", "policy.yaml")[0] == 0
    sde_bench("compare", "before", "invalid", "--policy", "policy.yaml", "--junit-xml", "junit.xml")
    assert ElementTree.parse(runs / "junit.xml").getroot().get("skipped") == "1"
    assert sde_bench("compare", "before", "regression", "--policy", "policy.yaml")[0] == 1
    (runs / "policy.yaml").write_text("max_drop: 0.01")
    assert sde_bench("compare", "before", "ok", "--policy", "policy.yaml")[0] == 3
    assert sde_bench("compare", "before", "ok", "--policy", "policy.yaml", "--max-drop", 0.03)[0] == 0


WRONG = [
    (("compare", "nowhere.json", "before"), "nowhere.json does not exist"),
    (("compare", "before", "nowhere"), "nowhere does not exist"),
    (("compare", "before", "."), "not the folder of a run"),
    (("compare", "before", "text"), "text is not a baseline: it is not JSON"),
    (("compare", "before", "ok", "--max-drop", "2"), "max_drop"),
    (("compare", "before", "ok", "--alpha", "0"), "alpha"),
    (("compare", "before", "ok", "--policy", "nowhere.yaml"), "nowhere.yaml"),
    (("compare", "before", "ok", "--json", "--markdown"), "give one"),
    (("compare", "before", "ok", "--junit-xml", "text/junit.xml"), "cannot write"),
    (("compare", "before", "ok", "--comment", "text/comment.md"), "cannot write"),
    (("compare", "before", "ok", "--badge", "text/badge.json"), "cannot write"),
    (("gate", "init", "nowhere"), "unknown checkpoint 'nowhere'"),
    (("gate", "init", "--max-drop", "2"), "max_drop"),
    (("compare", "before"), "see `sde-bench compare --help`"),
    (("baseline", "save", "nowhere", "b.json"), "nowhere is not the folder of a run"),
    (("baseline", "save", "before", "text/b.json"), "cannot write"),
    (("baseline", "keep"), "see `sde-bench baseline --help`"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, tuple) else ""
)
def test_wrong_input_is_one_line_and_exit_2(sde_bench, runs, arguments, message):
    """Wrong input gives one line on stderr, no traceback, and exit code 2."""
    (runs / "text").write_text("no baseline")
    code, stdout, stderr = sde_bench(*arguments)
    assert (code, stderr.count("\n")) == (2, 1), (stdout, stderr)
    assert message in stderr


def test_the_documentation_shows_the_workflow_of_this_project(request):
    """docs/ci.md has it whole."""
    root = request.config.rootpath
    workflow = (root / ".github" / "workflows" / "robustness.yml").read_text()
    assert workflow.split("\n", 1)[1] in (root / "docs" / "ci.md").read_text()


def test_from_checkpoint_to_verdict(sde_bench, tmp_path):
    """Attack, save, attack with another seed, compare: what CI does, with the files that it writes."""
    model = save_digits_model(tmp_path / "checkpoints" / "tiny.safetensors", "additive")
    attack = ("attack", model, "--images", 40, "--steps", 2, "--eot-draws", 2, "--score-draws", 4, "--quiet")
    for seed in (0, 1):
        code, _, stderr = sde_bench(*attack, "--seed", seed, "--out", f"run{seed}")
        assert code == 0, stderr
    assert sde_bench("baseline", "save", "run0", "baseline.json")[0] == 0
    code, stdout, stderr = sde_bench("compare", "baseline.json", "run1", "--max-drop", "0.9")
    assert (code, stderr) == (0, "")
    assert "seeds differ (0 and 1)" in stdout
    cells = json.loads(sde_bench("compare", "baseline.json", "run0", "--json")[1])["cells"]
    assert [cell["name"] for cell in cells] == ["tiny clean", "tiny pgd linf eps=0.03"]
    assert all(change["drop"]["estimate"] == 0 for cell in cells for change in cell["changes"])
    assert all(len(cell["changes"]) == 2 for cell in cells)
