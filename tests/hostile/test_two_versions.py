"""Two versions of the program in one folder: nothing is lost, and a line says which is which."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from builders import save_digits_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import robustbench_sde as rb
from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.runs import cells, room, run
from robustbench_sde.storage.records import digest_of

ASKED = {"eps": 0.1, "steps": 1, "score_draws": 1, "out": "run"}


@pytest.fixture(scope="module")
def made(tmp_path_factory, digits):
    """A checkpoint, and a run, certificates, a stability report and a baseline of it; only to be copied."""
    place = tmp_path_factory.mktemp("made")
    save_digits_model(place / "a.safetensors", "none")
    few = digits.subset(2)
    result = rb.attack(place / "a.safetensors", few, **ASKED | {"out": place / "run"})
    result.save_baseline(place / "baseline.json")
    rb.certify(place / "a.safetensors", few, draws=20, select_draws=2, out=place / "certified")
    rb.stability(place / "a.safetensors", few, **STABILITY | {"out": place / "stable"})
    return place


STABILITY = {"paths": 1, "steps": 1, "eot_draws": 1, "score_draws": 1, "out": "stable"}


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of it, the current folder."""
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "place"))
    return tmp_path / "place"


def contents(folder):
    """All files but the plan, which each call writes before it looks."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "planned.json"]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def with_numbers(monkeypatch, version):
    for module in (cells, room, run):
        monkeypatch.setattr(module, "NUMERIC_VERSION", version)


def test_other_numbers_are_another_run(place, digits, monkeypatch):
    """The line names both versions; `force` keeps the cells of both, and each version finds its own again."""
    few, own = digits.subset(2), cells.NUMERIC_VERSION
    before = contents(place / "run")
    with_numbers(monkeypatch, own + 1)
    with pytest.raises(
        BenchError, match=f"numbers of version {own}; this sde-bench computes version {own + 1}"
    ):
        rb.attack("a.safetensors", few, **ASKED)
    assert contents(place / "run") == before
    with pytest.warns(BenchWarning, match="its cells stay stored"):
        assert rb.attack("a.safetensors", few, force=True, **ASKED).reused == 0
    stored = {path: content for path, content in before.items() if path.parts[0] == "records"}
    assert stored.items() <= contents(place / "run").items()
    with_numbers(monkeypatch, own)
    with pytest.warns(BenchWarning, match="its cells stay stored"):
        assert rb.attack("a.safetensors", few, force=True, **ASKED).reused == 3


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_yaml(path, **changes):
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def later_plan(place):
    edit_json(place / "run" / "planned.json", format=2)
    edit_yaml(place / "run" / "manifest.yaml", format=2)


def later_manifest(place):
    edit_yaml(place / "run" / "manifest.yaml", format=2)


def later_row(place):
    """Let the row of each cell have a value more."""
    for path in (place / "run" / "records").iterdir():
        arrow = pq.read_table(path)
        row = json.loads(arrow.schema.metadata[b"sde-bench"]) | {"later": 1.5}
        pq.write_table(
            arrow.replace_schema_metadata({**arrow.schema.metadata, b"sde-bench": json.dumps(row)}), path
        )


def later_records(place):
    """Let the records of each cell have a column more, under the right digest."""
    for path in (place / "run" / "records").iterdir():
        arrow = pq.read_table(path)
        frame = arrow.to_pandas().assign(later=1.0)
        own = {key: value for key, value in arrow.schema.metadata.items() if key.startswith(b"sde-bench")}
        plain = pa.Table.from_pandas(frame, preserve_index=False)
        own[b"sde-bench-records"] = digest_of(frame).encode()
        pq.write_table(plain.replace_schema_metadata({**plain.schema.metadata, **own}), path)


def later_summary(place):
    path = place / "run" / "summary.parquet"
    arrow = pq.read_table(path)
    pq.write_table(arrow.append_column("later", pa.array([1.0] * arrow.num_rows)), path)


def later_certificates(place):
    """Let the facts about the certificates have one more."""
    for path in (place / "certified" / "certificates").glob("*.parquet"):
        arrow = pq.read_table(path)
        about = json.loads(arrow.schema.metadata[b"sde-bench"]) | {"later": 1}
        pq.write_table(
            arrow.replace_schema_metadata({**arrow.schema.metadata, b"sde-bench": json.dumps(about)}), path
        )


def later_report(place):
    """Let a stability report have a value more; its digest would be that of all."""
    path = next((place / "stable" / "stability").iterdir())
    report = json.loads(path.read_text())
    del report["digest"]
    path.write_text(json.dumps(report | {"later": 1}))


def earlier_report(place):
    path = next((place / "stable" / "stability").iterdir())
    report = json.loads(path.read_text())
    del report["digest"], report["largest"]
    path.write_text(json.dumps(report))


def later_baseline(place):
    edit_json(place / "baseline.json", format=2)


def later_checkpoint(place):
    path = place / "a.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    header = json.loads(metadata["sde-bench"]) | {"format": 2, "later": 1}
    save_file(load_file(path), path, metadata | {"sde-bench": json.dumps(header)})


def attack(data):
    return rb.attack("a.safetensors", data, **ASKED)


def certify(data):
    return rb.certify("a.safetensors", data, draws=20, select_draws=2, out="certified")


def stability(data):
    return rb.stability("a.safetensors", data, **STABILITY)


def compare(_):
    return rb.compare("baseline.json", "run")


LATER = "written by a later version of sde-bench, with later; use that version"
HELD = r"holds another run \(\d cells, made by a later version of sde-bench\); give `force`"
#: what the other version has written, what this one does, and what it says
OTHERS = [
    (later_plan, attack, HELD),
    (later_manifest, attack, HELD),
    (later_manifest, compare, "its format is 2, and this version reads format 1"),
    (later_records, attack, LATER),
    (later_records, compare, LATER),
    (later_row, compare, "stored by a later version, which also wrote later"),
    (later_summary, compare, LATER),
    (later_baseline, compare, "has format 2, and this version of sde-bench reads format 1"),
    (later_checkpoint, attack, "has format 2, and this version of sde-bench reads format 1"),
    (earlier_report, stability, r"damaged, or of another version \(.*largest"),
]


@pytest.mark.parametrize(
    ("wrote", "does", "says"), OTHERS, ids=[f"{wrote.__name__}-{does.__name__}" for wrote, does, _ in OTHERS]
)
def test_what_another_version_has_written_stays(place, digits, wrote, does, says):
    """One line names the version or the format, and no byte changes."""
    wrote(place)
    before = contents(place)
    with pytest.raises(BenchError, match=says) as error:
        does(digits.subset(2))
    assert "\n" not in str(error.value)
    assert contents(place) == before


def test_cells_with_more_values_are_made_again(place, digits):
    """Their numbers are the same, and the line says what the later version also wrote."""
    later_row(place)
    with pytest.warns(BenchWarning, match="3 cells stored by a later version, which also wrote later"):
        assert attack(digits.subset(2)).reused == 0


@pytest.mark.parametrize(
    ("wrote", "does", "folder"),
    [(later_certificates, certify, "certified/certificates"), (later_report, stability, "stable/stability")],
)
def test_reports_with_more_values_are_used_and_stay(place, digits, wrote, does, folder):
    """This version reads what it knows, and leaves what it does not know in the file."""
    wrote(place)
    before = contents(place / folder)
    assert does(digits.subset(2)).reused == 1
    assert contents(place / folder) == before
