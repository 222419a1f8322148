"""Tables, files and the run folder."""

import json

import pandas as pd
import pytest
from builders import make_data, make_model

from robustbench_sde.errors import BenchError, ExitCode, unknown_name
from robustbench_sde.evaluation.cell import evaluate
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.runs.words import markdown
from robustbench_sde.storage.files import atomic_write, parse_scalar, read_yaml
from robustbench_sde.storage.provenance import command_line
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import RECORDS, SUMMARY, documentation, table


@pytest.fixture(scope="module")
def cell():
    return evaluate(make_model(), make_data(5), Clean(), ScoreSettings(draws=4))


def test_the_documentation_of_the_tables_is_current(request):
    """docs/tables.md is what `make tables` writes."""
    assert (request.config.rootpath / "docs" / "tables.md").read_text() == documentation()


def test_a_cell_survives_the_disk(tmp_path, cell):
    """Records and row come back as they were written, typed."""
    folder = RunFolder(tmp_path / "run")
    folder.write_cell("k1", "tiny clean", cell.row, cell.records)
    pd.testing.assert_frame_equal(folder.read_records("k1"), cell.records)
    stored = folder.read_cell("k1")
    assert stored is not None
    assert stored.row["accuracy"] == cell.row["accuracy"]
    pd.testing.assert_frame_equal(stored.records, cell.records)
    assert folder.read_cell("k2") is None
    summary = folder.write_summary([stored.row])
    assert list(summary.columns) == [column.name for column in SUMMARY]
    pd.testing.assert_frame_equal(folder.read_summary(), summary)


def test_a_run_without_tables_is_called_unfinished(tmp_path, cell):
    """Cells without a manifest are a run that goes on; a folder without either is no run."""
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(BenchError, match="cannot read"):
        folder.read_manifest()
    folder.write_cell("k1", "tiny clean", cell.row, cell.records)
    with pytest.raises(BenchError, match="is not finished; the command that began it goes on with it"):
        folder.read_manifest()


def test_tables_refuse_missing_unknown_and_mistyped_columns(cell):
    """A table has exactly its columns."""
    with pytest.raises(BenchError, match=r"lacks \['margin'\]"):
        table(cell.records.drop(columns="margin"), RECORDS)
    with pytest.raises(BenchError, match=r"unknown \['extra'\]"):
        table(cell.records.assign(extra=1), RECORDS)
    with pytest.raises(BenchError, match="wrong type"):
        table(cell.records.assign(label="seven"), RECORDS)


def test_labels_cannot_leave_the_records_folder(tmp_path, cell):
    """A label with separators or dots becomes a plain file name."""
    folder = RunFolder(tmp_path / "run")
    folder.write_cell("k", "../../etc/x y", cell.row, cell.records)
    assert [path.parent.name for path in tmp_path.rglob("*.parquet")] == ["records"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    """Whatever happens while writing, the name holds the old content or the new one."""
    path = tmp_path / "file"
    path.write_text("old")

    def write_half():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_have_the_permissions_that_the_user_chose(tmp_path):
    """A writer that narrows the mode of its file does not decide: the umask does."""
    with atomic_write(tmp_path / "narrow") as temporary:
        temporary.write_text("x")
        temporary.chmod(0o600)
    (tmp_path / "plain").touch()
    assert (tmp_path / "narrow").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_failed_write_is_one_sentence(tmp_path):
    """A folder in the place of a file is an input error that names it."""
    (tmp_path / "taken").mkdir()

    def write():
        with atomic_write(tmp_path / "taken") as temporary:
            temporary.write_text("x")

    with pytest.raises(BenchError, match=r"cannot write .*taken"):
        write()


@pytest.mark.parametrize("text", ["- a", "a: [", "!!python/object/apply:os.system ['true']", "a: b: c"])
def test_yaml_that_is_no_mapping_is_one_sentence(tmp_path, text):
    """Lists, broken text and tags are refused in one line."""
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(BenchError) as caught:
        read_yaml(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)
    with pytest.raises(BenchError):
        parse_scalar("[")


def test_markdown_escapes_and_rounds():
    """Pipes are escaped, NaN is empty, floats have four digits."""
    text = markdown(pd.DataFrame({"name": ["a|b"], "x": [0.123456], "y": [float("nan")]}))
    assert text.splitlines()[2] == "| a\\|b | 0.1235 |  |"


def test_unknown_names_suggest_the_nearest():
    """A near name is suggested; otherwise all are listed."""
    assert "did you mean 'pgd'?" in str(unknown_name("attack", "pdg", ["pgd", "cw"]))
    assert "known: cw, pgd" in str(unknown_name("attack", "zzz", ["pgd", "cw"]))


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/usr/bin/sde-bench", "sde-bench -x 1"),
        ("/lib/robustbench_sde/__main__.py", "sde-bench -x 1"),
        ("/lib/pytest/__main__.py", "python -m pytest -x 1"),
        ("/home/me/study.py", "python study.py -x 1"),
    ],
)
def test_a_manifest_names_the_program_that_was_started(monkeypatch, program, command):
    """A run that pytest or a script has made is not said to come from a command of ours."""
    monkeypatch.setattr("sys.argv", [program, "-x", "1"])
    assert command_line() == command


def test_exit_codes_are_the_documented_ones():
    """The numbers are part of the interface."""
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "REGRESSION": 1,
        "INPUT_ERROR": 2,
        "INCONCLUSIVE": 3,
        "INVALID": 4,
        "CRASHED": 70,
        "INTERRUPTED": 130,
    }


def test_summary_rows_are_json(cell):
    """A row can be stored as JSON metadata."""
    assert json.loads(json.dumps(cell.row))["images"] == 5
