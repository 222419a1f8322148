"""`sde-bench corrupt` and `sde-bench preview`, called in this process."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from builders import make_model
from PIL import Image

from robustbench_sde.data import load_dataset
from robustbench_sde.models.checkpoint import save_checkpoint
from robustbench_sde.models.header import CheckpointHeader, DatasetRef
from robustbench_sde.storage.schema import CORRUPTIONS, SUMMARY


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two small untrained checkpoints of the digits' shape."""
    folder = tmp_path_factory.mktemp("place")
    data = load_dataset("digits")
    dataset = DatasetRef(name="digits", fingerprint=data.fingerprint, class_names=data.class_names)
    for kind in ("none", "additive"):
        model = make_model(kind, height=32, width=32, classes=10, stem_strides=(4, 2))
        header = CheckpointHeader(model=model.spec, dataset=dataset)
        save_checkpoint(folder / "checkpoints" / f"tiny-{kind}.safetensors", model, header)
    return folder


@pytest.fixture
def sde_bench(place, monkeypatch, program):
    """Run the program in `place`; returns exit code, stdout and stderr."""
    monkeypatch.chdir(place)
    return program


CORRUPT = ("corrupt", "--images", 12, "--score-draws", 3, "--quiet")


def test_corrupt_writes_tables_and_a_figure(sde_bench, tmp_path):
    """Clean and every corruption at every severity, for each checkpoint; the means; the files of the run."""
    out = tmp_path / "run"
    code, stdout, stderr = sde_bench(
        *CORRUPT, "--corruptions", "fog,pixelate,gaussian:0.1", "--severity", "1,4-5", "--out", out,
        "--reference", "tiny-none",
    )  # fmt: skip
    assert code == 0, stderr
    for text in ("severity 4", "gaussian:0.1", "ECE", "Brier", "mCE over tiny-none", "single draw"):
        assert text in stdout
    summary = pd.read_parquet(out / "summary.parquet")
    assert list(summary.columns) == [column.name for column in SUMMARY]
    names = ["clean", *["fog"] * 3, *["pixelate"] * 3, "gaussian:0.1"]
    assert summary["perturbation"].tolist() == names * 2
    assert summary["severity"][1:7].tolist() == [1, 4, 5] * 2
    assert np.isnan(summary["severity"][7])
    assert summary[["ece", "brier"]].notna().all(axis=None)
    table = pd.read_csv(out / "corruptions.csv")
    assert list(table.columns) == [column.name for column in CORRUPTIONS]
    whole = table[(table["corruption"] == "mean") & table["severity"].isna()]
    graded = summary[summary["severity"].notna()].groupby("checkpoint")["accuracy"].mean()
    for row in whole.to_dict("records"):
        assert row["accuracy"] == pytest.approx(graded[row["checkpoint"]])
    assert (whole["cells"] == 6).all()
    assert (out / "figures" / "corruptions.svg").read_text().startswith("<?xml")
    with Image.open(out / "figures" / "corruptions.png") as figure:
        assert figure.format == "PNG"


def test_csv_is_one_table(sde_bench, tmp_path):
    """All rows of all checkpoints are under one heading, and say whose they are."""
    command = (*CORRUPT, "--corruptions", "fog,pixelate", "--severity", "1,4", "-o", "csv")
    code, stdout, error = sde_bench(*command, "--out", tmp_path / "run", "--reference", "tiny-none")
    assert code == 0, error
    rows = pd.read_csv(io.StringIO(stdout))
    table = pd.read_csv(tmp_path / "run" / "corruptions.csv")
    assert rows[["checkpoint", "corruption"]].equals(table[["checkpoint", "corruption"]])
    assert rows["error"].tolist() == [float(f"{100 * (1 - share):.1f}") for share in table["accuracy"]]
    assert set(rows["severity"]) == {"clean", "1", "4", "all"}
    assert "mCE over tiny-none" in rows.columns


def test_an_mce_without_a_denominator_is_told(sde_bench, tmp_path):
    """A reference without an error leaves mCE empty, and one line says why."""
    command = ("corrupt", "digits-ode", "--images", 6, "--quiet", "--corruptions", "brightness")
    code, stdout, _ = sde_bench(*command, "--reference", "digits-ode", "--out", tmp_path / "run")
    assert code == 0
    assert "mCE divides by errors: it is empty where digits-ode makes none at a corruption" in stdout


def test_the_same_command_reuses_what_is_stored(sde_bench, tmp_path):
    """A second run computes nothing and gives the same rows; a run that lost a cell computes that one."""
    command = (*CORRUPT, "tiny-additive", "--corruptions", "fog", "--severity", "2-3", "--out", tmp_path)
    first, again = (sde_bench(*command, "--json") for _ in range(2))
    assert json.loads(first[1]) == json.loads(again[1])
    figure = (tmp_path / "figures" / "corruptions.svg").read_bytes()
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.glob("records/*.parquet")}
    assert len(stored) == 3
    lost = next(tmp_path.glob("records/*fog_3*"))
    lost.unlink()
    code, stdout, _ = sde_bench(*command)
    assert (code, "2 of 3 cells stored already" in stdout) == (0, True)
    assert {path for path, time in stored.items() if path.stat().st_mtime_ns != time} == {lost}
    assert (tmp_path / "figures" / "corruptions.svg").read_bytes() == figure


def test_official_images_are_scored_beside_the_clean_ones(sde_bench, tmp_path):
    """A fake of mnist-c made from the digits, paired with them by --dataset."""
    data = load_dataset("digits")
    folder = tmp_path / "c" / "zigzag"
    folder.mkdir(parents=True)
    np.save(folder / "test_images.npy", data.images.permute(0, 2, 3, 1).numpy())
    np.save(folder / "test_labels.npy", data.labels.numpy())
    options = ("tiny-none", "--official", f"mnist-c:{tmp_path / 'c'}", "--dataset", "digits")
    code, stdout, stderr = sde_bench(*CORRUPT, *options, "--json", "--out", tmp_path / "run")
    assert code == 0, stderr
    clean, zigzag, mean = json.loads(stdout)
    assert [row["corruption"] for row in (clean, zigzag, mean)] == ["clean", "zigzag", "mean"]
    assert zigzag["accuracy"] == clean["accuracy"]
    assert zigzag["relative_error"] == 0
    assert not (tmp_path / "run" / "figures").exists()


def test_an_invalid_cell_exits_4_and_has_no_mean(sde_bench, place, tmp_path):
    """Weights that overflow: the other checkpoint keeps its rows."""
    model = make_model("none", height=32, width=32, classes=10, stem_strides=(4, 2))
    model.head.linear.weight.fill_(3e38)
    header = CheckpointHeader(
        model=model.spec, dataset=DatasetRef(name="digits", fingerprint="", class_names=tuple("0123456789"))
    )
    save_checkpoint(tmp_path / "wild.safetensors", model, header)
    command = (*CORRUPT, tmp_path / "wild.safetensors", "tiny-none", "--corruptions", "fog", "--severity", 1)
    code, stdout, _ = sde_bench(*command, "--out", tmp_path / "run")
    assert code == 4
    assert "not finite" in stdout
    table = pd.read_csv(tmp_path / "run" / "corruptions.csv").set_index("checkpoint")
    assert table.loc["wild", "accuracy"].isna().all()
    assert table.loc["tiny-none", "accuracy"].notna().all()


WRONG = [
    (("corrupt", "--corruptions", "fgo"), "did you mean 'fog'"),
    (("corrupt", "--corruptions", "wether"), "did you mean 'weather'"),
    (("corrupt", "--corruptions", ""), "unknown corruption"),
    (("corrupt", "--corruptions", "gaussian"), "gaussian:SIGMA"),
    (("corrupt", "--corruptions", "gaussian:x"), "gaussian:SIGMA"),
    (("corrupt", "--severity", "6"), "write 3, 1-5 or 1,3,5"),
    (("corrupt", "--severity", "5-1"), "write 3, 1-5 or 1,3,5"),
    (("corrupt", "--severity", "1,,2"), "write 3, 1-5 or 1,3,5"),
    (("corrupt", "--family", "cifra"), "'cifra' is not one of 'cifar'"),
    (("corrupt", "--frost-dir", "nowhere"), "lacks frost photographs"),
    (("corrupt", "--reference", "tiny-nne"), "did you mean 'tiny-none'"),
    (("corrupt", "tiny-nne"), "did you mean 'tiny-none'"),
    (("corrupt", "--official", "cifar-c:."), "did you mean 'cifar10-c'"),
    (("corrupt", "--official", "cifar10-c:nowhere"), "no such folder"),
    (("corrupt", "--official", "cifar10-c:."), "holds no corruption"),
    (("corrupt", "--dataset", "cifar10-c:."), "--official"),
    (("corrupt", "--dataset", "cifar10.1:nowhere"), "nowhere has no"),
    (("corrupt", "--dataset", "cifar10.1"), "cifar10.1:PATH"),
    (("corrupt", "--rule", "votes"), "'votes' is not one of"),
    (("corrupt", "--out", "/proc/nowhere"), "cannot write"),
    (("preview", "digts"), "did you mean 'digits'"),
    (("preview", "--corruption", "fgo"), "did you mean 'fog'"),
    (("preview", "--corruption", "fog", "--attack", "pgd"), "give one"),
    (("preview", "--attack", "pgd"), "--checkpoint"),
    (("preview", "--attack", "pdg", "--checkpoint", "tiny-none"), "did you mean 'pgd'"),
    (("preview", "--out", "x.jpg"), ".png"),
    (("preview", "--attack", "pgd", "--checkpoint", "tiny-none", "--smoothing", "0.1,0.2"), "one number"),
    (("preview", "--images", "0"), "at least 1"),
    (("preview", "--frost-dir", "nowhere", "--corruption", "frost"), "nowhere"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_wrong_input_is_one_line_and_exit_2(sde_bench, place, arguments, message):
    """Wrong input gives one line on stderr, no traceback, and exit code 2."""
    code, stdout, stderr = sde_bench(*arguments, "--quiet")
    assert code == 2, (stdout, stderr)
    assert stderr.count("\n") == 1, stderr
    assert message in stderr


PREVIEWS = [
    (("--corruption", "fog", "--severity", "1,5", "--images", 3), (3, 3)),
    (("--corruption", "fog,snow,frost", "--severity", "2", "--images", 2), (4, 2)),
    (("--corruption", "blur", "--images", 2), (5, 6)),
    (("--corruption", "rotation:20,gaussian:0.1", "--images", 1), (2, 6)),
    (("--corruption", "rotation:20", "--images", 2), (2, 2)),
    (("--attack", "pgd", "--checkpoint", "tiny-additive", "--eps", "0.1,8/255", "--images", 2), (2, 5)),
]


@pytest.mark.parametrize(
    ("options", "grid"), PREVIEWS, ids=lambda value: " ".join(map(str, value)) if len(value) > 2 else ""
)
def test_preview_writes_a_contact_sheet(sde_bench, tmp_path, options, grid):
    """A PNG of so many rows and columns of enlarged images, with labels."""
    rows, columns = grid
    code, stdout, stderr = sde_bench("preview", "digits", *options, "--out", tmp_path / "sheet.png")
    assert code == 0, stderr
    assert f"{rows} x {columns} images" in stdout
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > columns * 96
        assert rows * 96 < sheet.height < (rows + 1) * 110
        assert len(np.unique(np.asarray(sheet))) > 50


def test_a_preview_says_with_json_what_it_shows(sde_bench, tmp_path):
    """Path, rows and columns; nothing else is on stdout."""
    path = tmp_path / "sheet.png"
    command = ("preview", "digits", "--corruption", "fog", "--severity", "1-2", "--images", 3)
    code, stdout, _ = sde_bench(*command, "--json", "--out", path)
    found = json.loads(stdout)
    assert (code, found["path"], len(found["rows"]), len(found["columns"])) == (0, str(path), 3, 3)


def test_a_preview_attacks_through_the_noise_on_the_image(sde_bench, tmp_path):
    """Noise on the image changes what the attack does, because its gradients go through it."""
    attack = ("preview", "--attack", "pgd", "--checkpoint", "tiny-none", "--images", 2, "--score-draws", 2)
    sheets = []
    for name, smoothing in (("plain.png", ()), ("smoothed.png", ("--smoothing", "0.5"))):
        code, _, stderr = sde_bench(*attack, *smoothing, "--out", tmp_path / name)
        assert code == 0, stderr
        sheets.append((tmp_path / name).read_bytes())
    assert sheets[0] != sheets[1]


def test_corruptions_are_listed(sde_bench):
    """All 19 and the plain ones, also as JSON."""
    code, stdout, _ = sde_bench("list", "corruptions", "--json")
    assert code == 0
    listed = json.loads(stdout)
    assert len(listed) == 23
    assert "extra" in listed["saturate"]
