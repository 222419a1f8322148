"""Results in notebooks: one line as text, the terminal's table as HTML, figures, and the example notebook."""

import ast
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import make_data, make_model, save_digits_model
from documents import ROOT
from rich.console import Console

import robustbench_sde as rb
from robustbench_sde.errors import BenchError
from robustbench_sde.reporting import progress as drawn
from robustbench_sde.reporting.notebook import html_of_printed
from robustbench_sde.reporting.notebook_progress import NotebookBoard
from robustbench_sde.reporting.terminal import make_console, print_summary

NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
SMALL: dict[str, Any] = {"steps": 2, "eot_draws": 2, "score_draws": 4}


class Cells(HTMLParser):
    """Collect the texts of the cells of a table, and every tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: list[str] = []
        self._open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self._open = tag in ("td", "th")
        self.cells += [""] * self._open

    def handle_endtag(self, tag: str) -> None:
        self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.cells[-1] += data


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a tiny checkpoint for the embedded digits."""
    save_digits_model(tmp_path / "checkpoints" / "tiny.safetensors", "additive")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown_things() -> dict[str, Any]:
    """Return one object of every type that notebooks show."""
    data = rb.load_dataset("digits", images=12)
    stored = rb.attack("tiny", data, norm="l2", eps=["0.1", "8/255"], **SMALL, out="reports/stored")
    stored.save_baseline("base.json")
    save_digits_model(Path("checkpoints/other.safetensors"), "none")
    return {
        "Result": stored,
        "ImageDataset": data,
        "Comparison": rb.compare("base.json", "stored"),
        "Classifier": rb.load_checkpoint("tiny"),
        "Versus": rb.versus("other", "tiny", data, norm="l2", eps=0.1, **SMALL, out=None),
        "AuditReport": rb.audit("tiny", data, steps=2, eot_draws=1, score_draws=1),
        "Certificates": rb.certify("tiny", data, radius=[0.1], draws=100),
        "Stability": rb.stability("tiny", data, paths=2, **SMALL),
    }


def test_everything_shows_itself(place: Path):
    """Every type has one line of text that begins with its name, and HTML without a script or a colour."""
    for name, thing in shown_things().items():
        text, shown = repr(thing), thing._repr_html_()
        assert text.startswith(f"<{name}"), text
        assert "\n" not in text
        assert len(text) < 400
        assert str(thing) == text
        cells = Cells(shown)
        assert "table" in cells.tags
        assert "script" not in cells.tags
        assert not re.search(r"(?<!-)(?<!current)color:(?!inherit|color-mix)|#[0-9a-f]{3}\b|rgb\(", shown), (
            name
        )


def test_html_of_a_result_has_the_cells_of_the_terminal(place: Path, capsys: pytest.CaptureFixture[str]):
    """Every text of the terminal's widest table is a cell, in the same order."""
    result = rb.attack("tiny", rb.load_dataset("digits", images=12), norm="linf", eps="8/255", **SMALL)
    cells = [cell for cell in Cells(result._repr_html_()).cells if cell]
    print_summary(result.summary, folder=None)
    words = [line for line in capsys.readouterr().out.splitlines()[1:] if line.strip(" ─")]
    said = [part.strip() for line in words for part in re.split(r"\s{2,}", line.strip()) if part]
    assert cells == said
    assert "pgd linf 0.03137 (8/255)" in cells


def test_html_is_escaped(place: Path):
    """A name with markup in it is shown as text."""
    data, model = make_data(6), make_model()
    model.name = "<img src=x onerror=alert(1)>&"
    result = rb.score(model, data, score_draws=1)
    for shown in (result._repr_html_(), model._repr_html_()):
        assert "<img src=x" not in shown
        assert "&lt;img src=x" in shown


def test_a_printed_line_is_html_too():
    """Lines around a table stay, bold ones bold; nothing reaches stdout."""
    shown = html_of_printed(lambda: make_console().print("a < b", style="bold red"))
    assert shown == '<div style="font-weight:bold">a &lt; b</div>'


def test_names_of_functions_are_listed():
    """`dir` of the package has its functions and nothing else."""
    assert dir(rb) == sorted(rb.__all__)


def test_plot_has_a_panel_for_each_attack_and_bands(place: Path):
    """Budgets, distances and severities are drawn with a band for each checkpoint, in a figure with a PNG."""
    data = rb.load_dataset("digits", images=12)
    attacks = {"pgd": SMALL | {"norm": "linf"}, "cw": {"steps": 3, "binary_search_steps": 1, "eot_draws": 1}}
    attacks = {name: {k: v for k, v in own.items() if k != "score_draws"} for name, own in attacks.items()}
    result = rb.attack("tiny", data, attacks, norm="linf", eps=["8/255"], score_draws=4)
    figure = result.plot()
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_xlabel()][:2] == ["pgd", "cw"]
    budgets, distances = figure.axes[:2]
    assert budgets.lines[0].get_xdata().tolist() == pytest.approx([0.0, 8 / 255])
    assert len(budgets.collections) == len(distances.collections) == 1
    assert figure._repr_png_().startswith(b"\x89PNG")
    foggy = rb.score("tiny", data, corruptions="fog", severities="1,5", score_draws=1)
    (axes,) = foggy.plot().axes
    assert axes.get_xlabel() == "severity"
    with pytest.raises(BenchError, match="nothing to plot"):
        rb.score("tiny", data, score_draws=1).plot()


def test_gallery_shows_before_after_and_ten_times_the_difference(place: Path):
    """Labels stand above, predictions between, and ten times the difference below; a folder keeps all."""
    data = rb.load_dataset("digits", images=12)
    asked = {"norm": "linf", "eps": 0.02, **SMALL}
    for result in (rb.attack("tiny", data, **asked), rb.attack("tiny", data, **asked, out="run")):
        figure = result.gallery(count=3)
        assert len(figure.axes) == 9
        before, after, difference = (figure.axes[place].images[0].get_array() for place in (0, 3, 6))
        np.testing.assert_allclose(difference - 0.5, 10 * (after - before), atol=1e-5)
        assert abs(difference - 0.5).max() == pytest.approx(0.2, abs=1e-5)
        records = result.records
        assert [figure.axes[place].get_title() for place in range(3)] == list(map(str, records["label"][:3]))
        predicted = [figure.axes[place].get_title().removesuffix(" (wrong)") for place in (3, 4, 5)]
        assert predicted == list(map(str, records["prediction"][:3]))
    with pytest.raises(BenchError, match="`count` is 0"):
        result.gallery(count=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda data, **more: rb.attack("tiny", data, eps=0.1, **SMALL, **more),
        lambda data, **more: rb.score("tiny", data, corruptions="fog", severities=1, score_draws=1, **more),
        lambda data, **more: rb.audit("tiny", data, steps=1, eot_draws=1, score_draws=1, **more),
        lambda data, **more: rb.certify("tiny", data, radius=[0.1], draws=50, **more),
        lambda data, **more: rb.stability("tiny", data, paths=2, **SMALL, **more),
        lambda data, **more: rb.versus("tiny", "other", data, eps=0.1, **SMALL, out=None, **more),
        lambda data, **more: rb.run("mine.yaml", "tiny", data, **more),
        lambda data, **more: rb.train(data, "t.safetensors", epochs=1, steps=1, force=True, **more),
    ],
    ids=["attack", "score", "audit", "certify", "stability", "versus", "run", "train"],
)
def test_progress_is_drawn_if_asked_for(
    call: Any, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """`progress=True` draws lines or bars on stderr; without it nothing is drawn."""
    save_digits_model(Path("checkpoints/other.safetensors"), "none")
    Path("mine.yaml").write_text("dataset: digits\nscore_draws: 1\nperturbations:\n  - {corruption: fog}\n")
    monkeypatch.setattr(drawn, "_INTERVAL", -1.0)  # a pipe gets a line at every step
    data = rb.load_dataset("digits", images=10)
    call(data, progress=True)
    assert "done" in capsys.readouterr().err
    call(data)
    assert capsys.readouterr().err == ""


class Handle:
    """A display of IPython that keeps what it shows."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def update(self, thing: Any) -> None:
        self.shown.append(thing)


def test_bars_in_a_notebook_are_escaped_and_go_away():
    """Descriptions are text; at the end nothing is left."""
    board, handle = NotebookBoard(), Handle()
    board._handle = handle
    first, second = board.add(), board.add()
    first.start("<b>net</b>", 4)
    second.start("images", 10)
    second.advance(5, note="half")
    board.draw(now=True)
    shown = handle.shown[-1]
    assert 'max="4" value="0"' in shown._repr_html_()
    assert "&lt;b&gt;net" in shown._repr_html_()
    assert "5/10 images" in repr(shown)
    assert "half" in repr(shown)
    board.clear()
    assert (handle.shown[-1]._repr_html_(), repr(handle.shown[-1])) == ("", "")


def code_cells() -> list[str]:
    """Return the code cells of the example notebook."""
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def stored_outputs() -> list[dict[str, Any]]:
    """Return the result of each code cell as the notebook stores it."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    return [
        next(output for output in cell["outputs"] if output["output_type"] == "execute_result")["data"]
        for cell in cells
    ]


def skeleton(text: str) -> str:
    """Return a text without its numbers, which depend on the version of torch and the machine."""
    return re.sub(r"\s+", " ", re.sub(r"[+-]?\d[\d.,e-]*", "0", text)).strip()


def test_the_example_notebook_runs_and_its_outputs_are_those_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each cell runs from top to bottom and shows what is stored, apart from the digits of numbers."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for source, stored in zip(code_cells(), stored_outputs(), strict=True):
        *body, last = ast.parse(source).body
        assert isinstance(last, ast.Expr)
        exec(compile(ast.Module(body, []), str(NOTEBOOK), "exec"), names)
        shown = eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)
        if "image/png" in stored:
            assert shown._repr_png_().startswith(b"\x89PNG")
            continue
        assert skeleton(shown._repr_html_()[:200]) == skeleton("".join(stored["text/html"])[:200])
        if type(shown).__module__.startswith("robustbench_sde"):
            now, then = Cells(shown._repr_html_()).cells, Cells("".join(stored["text/html"])).cells
            assert [skeleton(cell) for cell in now] == [skeleton(cell) for cell in then]


def test_the_example_notebook_runs_in_a_kernel(tmp_path: Path):
    """Jupyter runs it: progress is displayed, tables are HTML, and figures are pictures."""
    pytest.importorskip("ipykernel")
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, 4)
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = [set(output.get("data", {})) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in kind for kind in kinds) == 3
    assert sum("text/html" in kind for kind in kinds) >= 5
    assert not [o for cell in notebook.cells for o in cell.get("outputs", []) if o["output_type"] == "error"]


def test_the_example_notebook_is_typed(tmp_path: Path):
    """`mypy --strict` has nothing to say about its code."""
    pytest.importorskip("mypy", reason="needs the extra dev")
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join(code_cells()) + "\n")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", ROOT / "pyproject.toml",
         "--cache-dir", ROOT / ".mypy_cache", script],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_a_console_of_a_notebook_leaves_no_column_out():
    """The width of the terminal does not matter."""
    widths: list[int] = []
    html_of_printed(lambda: widths.append(make_console().width))
    assert widths[0] > Console().width
