"""The program as a user runs it, in processes of its own."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pandas as pd
import pytest
from builders import make_model
from forked import finished as sde_bench
from forked import sde_bench as started

from robustbench_sde.cli import complete
from robustbench_sde.cli.list_ import catalogue
from robustbench_sde.data import load_dataset
from robustbench_sde.models.checkpoint import read_checkpoint, save_checkpoint
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.header import CheckpointHeader, DatasetRef
from robustbench_sde.shipped import CHECKPOINTS
from robustbench_sde.storage.schema import RECORDS, SUMMARY


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
    colour = make_model("none", channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, height=32, width=32, classes=10)
    header = CheckpointHeader(model=colour.spec, dataset=dataset.model_copy(update={"name": "cifar10"}))
    save_checkpoint(folder / "checkpoints" / "colour.safetensors", colour, header)
    return folder


ATTACK = ("attack", "--images", 20, "--steps", 3, "--eot-draws", 2, "--score-draws", 4, "--quiet")


def test_help_names_every_command_and_loads_nothing_heavy(tmp_path):
    """--help answers without importing torch or pandas."""
    code = (
        "import sys\nfrom robustbench_sde.cli.app import main\n"
        "sys.argv = ['sde-bench', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'matplotlib', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    for command in ("train", "attack", "corrupt", "preview", "list", "show"):
        assert command in finished.stdout


@pytest.mark.parametrize("command", ["train", "attack", "corrupt", "preview", "list", "show"])
def test_help_of_every_command_has_an_example(command, tmp_path):
    """Each --help ends with something to copy."""
    finished = sde_bench(command, "--help", cwd=tmp_path)
    assert finished.code == 0
    assert f"Example: sde-bench {command}" in " ".join(finished.stdout.split())


def test_attack_writes_a_table_and_a_run_folder(place, tmp_path):
    """Rows are clean, control and the attacks, for each checkpoint of the data set; the tables load typed."""
    finished = sde_bench(
        *ATTACK, "--attack", "pgd", "--eps", "0.02,8/255", "--out", tmp_path / "run", cwd=place
    )
    assert finished.code == 0, finished.stderr
    assert "8/255" in finished.stdout
    summary = pd.read_parquet(tmp_path / "run" / "summary.parquet")
    assert list(summary.columns) == [column.name for column in SUMMARY]
    assert summary["perturbation"].tolist() == ["clean", "control", "pgd", "pgd"] * 2
    assert set(summary["checkpoint"]) == {"tiny-none", "tiny-additive"}
    assert (summary["status"] == "ok").all()
    clean, control = summary.iloc[4], summary.iloc[5]
    for column in ("accuracy", "single_draw_accuracy", "noise_low", "undecided"):
        assert clean[column] == control[column]
    assert len(pd.read_csv(tmp_path / "run" / "summary.csv")) == 8
    assert (tmp_path / "run" / "summary.md").read_text().splitlines()[2].startswith("| checkpoint |")
    assert "fingerprint: sha256:" in (tmp_path / "run" / "manifest.yaml").read_text()
    records = pd.read_parquet(next((tmp_path / "run" / "records").glob("*pgd*.parquet")))
    assert list(records.columns) == [column.name for column in RECORDS]
    assert len(records) == 20


def test_repeated_options_add_up_and_case_does_not_matter(place, tmp_path):
    """--eps and --attack may be repeated or have commas; names ignore case."""
    finished = sde_bench(
        *ATTACK, "tiny-none", "--dataset", "DIGITS", "--norm", "Linf", "--attack", "PGD", "--attack",
        "noise,fmn", "--eps", "0.01", "--eps", "4/255,0.03", "--json", "--out", tmp_path / "run", cwd=place,
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    made = [(row["perturbation"], round(row["eps"], 4)) for row in json.loads(finished.stdout)[2:]]
    assert made == [(name, eps) for name in ("pgd", "noise", "fmn") for eps in (0.01, 0.0157, 0.03)]


def test_images_all_is_the_whole_split(place, tmp_path):
    """--images all takes every image of the split."""
    command = ("corrupt", "tiny-none", "--corruptions", "contrast", "--severity", "1", "--score-draws", 1)
    finished = sde_bench(*command, "--images", "all", "--quiet", "--out", tmp_path / "run", cwd=place)
    assert finished.code == 0, finished.stderr
    assert set(pd.read_parquet(tmp_path / "run" / "summary.parquet")["images"]) == {360}


def test_a_run_is_found_by_its_name(place):
    """`list runs` names the runs in reports/; show and report take such a name."""
    assert sde_bench(*ATTACK, "tiny-none", "--out", "reports/mine", cwd=place).code == 0
    (run,) = json.loads(sde_bench("list", "runs", "--json", cwd=place).stdout)
    assert (run["name"], run["state"], run["cells"]) == ("mine", "complete", 3)
    summary = pd.read_parquet(place / "reports" / "mine" / "summary.parquet")
    assert run["lowest"] == summary["accuracy"].min()
    assert run["command"].startswith("sde-bench attack")
    assert "run: complete" in sde_bench("show", "mine", cwd=place).stdout
    assert sde_bench("report", "mine", cwd=place).code == 0
    assert (place / "reports" / "mine" / "index.html").exists()


def test_stored_things_are_listed_and_shown_without_torch(place, tmp_path):
    """`list runs` and lists of names do not wait for torch; `show RUN` checks records, which takes it."""
    assert sde_bench(*ATTACK, "tiny-none", "--out", tmp_path / "run", cwd=place).code == 0
    code = (
        "import sys\nfrom robustbench_sde.cli.app import main\n"
        "sys.argv = ['sde-bench', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "assert 'torch' not in sys.modules"
    )
    for arguments in (
        ["list", "runs"],
        ["list", "attacks"],
        ["list", "suites"],
    ):
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=place
        )
        assert ended.returncode == 0, ended.stderr


def test_a_pipe_is_as_wide_as_columns_says(place, tmp_path, monkeypatch):
    """COLUMNS is honoured where there is no terminal."""
    assert sde_bench(*ATTACK, "tiny-none", "--out", tmp_path / "run", cwd=place).code == 0
    widths = []
    for columns in ("80", ""):
        monkeypatch.setenv("COLUMNS", columns)
        command = [sys.executable, "-m", "robustbench_sde", "show", str(tmp_path / "run")]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        table = shown.partition("tables:")[0]  # paths are never broken
        widths.append(max(len(line.rstrip()) for line in table.splitlines()))
    assert widths[0] <= 80 < widths[1]


def test_the_catalogue_is_that_of_the_registries():
    """`list` and completion read a file that `make tables` writes from the registries."""
    assert complete.catalogue() == catalogue()


@pytest.mark.parametrize(
    ("completer", "typed", "found"),
    [
        (complete.attacks, "pgd,AP", ["pgd,apgd-ce", "pgd,apgd-dlr", "pgd,apgd-targeted"]),
        (complete.corruptions, "fo", ["fog"]),
        (complete.datasets, "dig", ["digits"]),
        (complete.suites, "smo", ["smoke"]),
        (complete.studies, "bu", ["budget"]),
        (complete.checkpoints, "tiny", ["tiny-additive", "tiny-none"]),
    ],
)
def test_values_are_completed(place, monkeypatch, completer, typed, found):
    """Names of registries, suites and checkpoints are completed, the last of several, in any case."""
    monkeypatch.chdir(place)
    assert completer(typed) == found


def test_an_unfinished_training_is_no_default_and_says_so(place, tmp_path):
    """An interrupted training is left out unless it is named; list, show, manifest and page say it."""
    path = tmp_path / "checkpoints" / "half.safetensors"
    shutil.copytree(place / "checkpoints", tmp_path / "checkpoints")
    header, tensors = read_checkpoint(path.with_name("tiny-none.safetensors"))
    model = Classifier.from_weights(header.model, tensors)
    save_checkpoint(path, model, header.model_copy(update={"training": {"epochs": 8, "epochs_done": 2}}))
    every = sde_bench(*ATTACK, "--json", cwd=tmp_path)
    assert {row["checkpoint"] for row in json.loads(every.stdout)} == {"tiny-none", "tiny-additive"}
    sentence = "2 of 8 epochs, training not finished"
    assert f"half.safetensors: {sentence}; name it" in every.stderr
    named = sde_bench(*ATTACK, "half", "--json", "--out", "reports/half", cwd=tmp_path)
    assert {row["checkpoint"] for row in json.loads(named.stdout)} == {"half"}
    assert f"half: {sentence}" in named.stderr
    assert f"half: {sentence}" in (tmp_path / "reports" / "half" / "manifest.yaml").read_text()
    assert sentence in sde_bench("list", "checkpoints", "--json", cwd=tmp_path).stdout
    assert sentence in sde_bench("show", "checkpoints/half.safetensors", cwd=tmp_path).stdout
    assert sde_bench("report", "half", cwd=tmp_path).code == 0
    assert f"half: {sentence}." in (tmp_path / "reports" / "half" / "index.html").read_text()


def test_a_checkpoint_made_for_certify_is_no_default_and_is_named(place, tmp_path):
    """`NAME-smoothed` is left out of an attack unless it is named, which one line says."""
    shutil.copytree(place / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "tiny-none.safetensors").rename(
        tmp_path / "checkpoints" / "tiny-smoothed.safetensors"
    )
    every = sde_bench(*ATTACK, "--json", cwd=tmp_path)
    assert {row["checkpoint"] for row in json.loads(every.stdout)} == {"tiny-additive"}
    assert "tiny-smoothed.safetensors: it is made for `certify`; name it to evaluate it\n" in every.stderr


def test_a_sigma_that_changes_nothing_is_told(place, tmp_path):
    """A network without noise has its row, and one line says that --sigma does not matter for it."""
    ended = sde_bench(*ATTACK, "--sigma", 0.3, "--out", tmp_path / "run", cwd=place)
    assert ended.stderr == "sde-bench: tiny-none has no noise: --sigma changes nothing about it\n"


def test_a_small_split_is_taken_whole_unless_a_number_is_asked_for(tmp_path):
    """The default of 200 images is no reason to refuse twelve; a number that was typed is."""
    images = np.zeros((12, 32, 32), np.uint8)
    np.savez(tmp_path / "few.npz", x_test=images, y_test=np.arange(12) % 10)
    command = ("attack", "digits-ode", "--dataset", "npz:few.npz", "--eps", 0.01, "--steps", 1, "--quiet")
    ended = sde_bench(*command, cwd=tmp_path)
    assert (ended.code, "12 images" in ended.stdout) == (0, True), ended.stderr
    assert "npz:few has 12 images in test: taking all, in place of 200\n" in ended.stderr
    asked = sde_bench(*command, "--images", 13, cwd=tmp_path)
    assert asked.code == 2
    assert "13 images asked for" in asked.stderr


def test_the_first_line_works_in_an_empty_folder(tmp_path):
    """Without checkpoints/ the shipped ones are taken, which one line says; a name finds one of them."""
    every = sde_bench(*ATTACK, "--json", cwd=tmp_path)
    assert every.code == 0, every.stderr
    names = ["digits-additive", "digits-dropout", "digits-multiplicative", "digits-ode"]
    assert list(dict.fromkeys(row["checkpoint"] for row in json.loads(every.stdout))) == names
    assert every.stderr.count("\n") == 1
    assert f"taking the shipped ones, {', '.join(names)}" in every.stderr
    named = sde_bench(*ATTACK, "digits-ode", "--json", cwd=tmp_path)
    assert json.loads(named.stdout) == [
        {**row, "seconds": ANY} for row in json.loads(every.stdout) if row["checkpoint"] == "digits-ode"
    ]


def test_the_shipped_checkpoints_are_those_of_the_repository():
    """The package holds the digits checkpoints of checkpoints/, byte for byte."""
    root = Path(__file__).parents[2] / "checkpoints"
    shipped = {path.name: path.read_bytes() for path in CHECKPOINTS.glob("*")}
    assert shipped == {path.name: path.read_bytes() for path in root.glob("digits-*.safetensors")}


def test_json_is_json(place, tmp_path):
    """--json prints the summary rows and nothing else."""
    finished = sde_bench(*ATTACK, "tiny-none", "--json", "--out", tmp_path / "run", cwd=place)
    rows = json.loads(finished.stdout)
    assert [row["perturbation"] for row in rows] == ["clean", "control", "pgd"]


def test_the_same_command_reuses_what_is_stored(place, tmp_path):
    """A second run computes nothing and shows the same table; another seed is other work."""
    command = (*ATTACK, "tiny-additive", "--out", tmp_path / "run", "--json")
    first, second = (sde_bench(*command, cwd=place) for _ in range(2))
    assert json.loads(first.stdout) == json.loads(second.stdout)
    other = sde_bench(*command, "--seed", 1, "--force", cwd=place)
    assert json.loads(other.stdout)[2]["cell"] != json.loads(first.stdout)[2]["cell"]


def test_the_paper_attack_takes_one_draw_a_gradient(place, tmp_path):
    """Attacks have their own --eot-draws where none are asked for, as in Python and in suites."""
    finished = sde_bench(
        "attack", "tiny-additive", "--attack", "liu2020,pgd", "--norm", "l2", "--eps", 0.1, "--steps", 1,
        "--images", 4, "--json", "--quiet", "--out", tmp_path / "run", cwd=place,
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    assert [row["eot_draws"] for row in json.loads(finished.stdout)[2:]] == [1, 8]


def test_minimal_norm_attacks_report_distances(place, tmp_path):
    """cw at --norm linf looks for the smallest L2 change and reports quartiles."""
    finished = sde_bench(
        *ATTACK, "tiny-none", "--attack", "pgd,cw", "--set", "cw.steps=5", "--set",
        "cw.binary_search_steps=2", "--json", "--out", tmp_path / "run", cwd=place,
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    row = json.loads(finished.stdout)[-1]
    assert (row["perturbation"], row["norm"], row["eps"]) == ("cw", "l2", None)
    assert row["distance_q25"] is not None


def test_an_invalid_evaluation_exits_4_and_keeps_the_other_rows(place, tmp_path):
    """Weights that overflow make the cell invalid; it is said, and the exit code is 4."""
    import torch

    model = make_model("none", height=32, width=32, classes=10, stem_strides=(4, 2))
    model.head.linear.weight.fill_(3e38)
    header = CheckpointHeader(
        model=model.spec, dataset=DatasetRef(name="digits", fingerprint="", class_names=tuple("0123456789"))
    )
    save_checkpoint(tmp_path / "wild.safetensors", model, header)
    assert torch.isfinite(model.head.linear.weight).all()
    command = (*ATTACK, tmp_path / "wild.safetensors", "tiny-none", "--out", tmp_path / "run")
    finished = sde_bench(*command, cwd=place)
    assert finished.code == 4
    assert "not finite" in finished.stdout
    summary = pd.read_parquet(tmp_path / "run" / "summary.parquet")
    assert (summary[summary["checkpoint"] == "tiny-none"]["status"] == "ok").all()


WRONG = [
    (("attack", "--dataset", "digts"), "did you mean 'digits'"),
    (("attack", "checkpoints/tiny-nne.safetensors"), "did you mean"),
    (("attack", "tiny-nne"), "did you mean 'tiny-none'"),
    (("attack", "tiny-nne", "--dataset", "image-folder:nowhere"), "did you mean 'tiny-none'"),
    (("corrupt", "--normalize"), "see `sde-bench corrupt --help`"),
    (("attack", "--attack", "pdg"), "did you mean 'pgd'"),
    (("attack", "--attack", ","), "names no attack"),
    (("attack", "--dataset", "cifar10", "--data-dir", "nowhere"), "--download"),
    (("attack", "--dataset", "image-folder:nowhere"), "nowhere"),
    (("attack", "truncated.safetensors"), "not a whole safetensors"),
    (("attack", "text.safetensors"), "not a whole safetensors"),
    (("attack", "colour"), "3x32x32"),
    (("attack", "--eps", "-0.1"), "eps"),
    (("attack", "--eps", "1.5"), "eps"),
    (("attack", "--eps", "8/0"), "eps"),
    (("attack", "--eps", "nan"), "eps"),
    (("attack", "--images", "0"), "at least 1"),
    (("attack", "--images", "100000"), "360"),
    (("attack", "--steps", "0"), "steps"),
    (("attack", "--sigma", "nan"), "sigma"),
    (("attack", "--sigma", "-1"), "sigma"),
    (("attack", "--norm", "l3"), "norm"),
    (("attack", "--rule", "votes"), "'votes' is not one of 'mean-prob', 'vote', 'single'"),
    (("attack", "--seed", "1", "--seed", "2"), "'--seed': it is given 2 times and takes one value"),
    (("audit", "tiny-none", "--eps", "0.01,0.02"), "this command takes one budget"),
    (("attack", "--checkpoint", "tiny-none"), "sde-bench attack NAME"),
    (("attack", "--eps", "8"), "did you mean 8/255?"),
    (("attack", "--eps", "0,03"), "did you mean 0.03?"),
    (("attack", "--eps", ","), "eps '' is not a number"),
    (("attack", "weights.pt"), "--model FILE.py:FUNCTION --weights weights.pt"),
    (("corrupt", "--severity", ","), "write 3, 1-5 or 1,3,5"),
    (("study", "stability"), "`sde-bench stability`"),
    (("report", "nowhere"), "sde-bench list runs"),
    (("attack", "--device", "gpu"), "device"),
    (("attack", "--set", "pgd.stpes=3"), "did you mean 'steps'"),
    (("attack", "--set", "cw.steps=3"), "not in --attack"),
    (("attack", "--set", "pgd.eps=eight"), "pgd: eps is 'eight'; it must be a number"),
    (("attack", "--set", "pgd.step_size=abc"), "step_size is 'abc'; it must be a number"),
    (("attack", "--set", "pgd.confirm=-1"), "`confirm` is -1; it must be at least 1"),
    (("attack", "--attack", "cw", "--set", "cw.binary_search_steps=0"), "it must be at least 1"),
    (("attack", "--out", "/proc/nowhere"), "cannot write"),
    (("attack", "--out", "text.safetensors"), "is a file; a run needs a folder"),
    (("train", "--noise", "additve"), "did you mean 'additive'"),
    (("train", "--sigma", "nan", "--noise", "additive"), "sigma"),
    (("train", "--steps", "0"), "steps"),
    (("train", "--preset", "digit"), "did you mean 'digits'"),
    (("train", "--config", "nowhere.yaml"), "nowhere.yaml"),
    (("train", "--config", "wrong.yaml"), "did you mean 'epochs'"),
    (("train", "--out", "model.pt"), ".safetensors"),
    (("train", "--out", "text.safetensors"), "exists"),
    (("train", "--resume", "--out", "new.safetensors"), "leave --resume out to begin"),
    (("attack", "--target", "12"), "--target is 12; the model has classes 0 to 9"),
    (("list", "attack"), "did you mean 'attacks'"),
    (("show", "nowhere"), "does not exist"),
    (("show", "smoek"), "did you mean 'smoke'"),
    (("import", "nowhere.pth"), "nowhere.pth does not exist"),
    (("show", "checkpoints"), "not the folder of a run"),
    (("attack", "--seed", "99999999999999999999"), "--seed is 99999999999999999999"),
    (("train", "--seed", "-99999999999999999999"), "seed"),
    (("run", "smoke", "--images", "0", "--quiet"), "--images must be at least 1, not 0"),
    (("run", "smoke", "--address", "auto", "--quiet"), "--address does nothing without --engine ray"),
    (("run", "all.yaml", "--shard-images", "8"), "--shard-images does nothing without --engine ray"),
    (("train", "--config", "nofile.yaml"), "nofile.yaml does not exist"),
    (("train", "--epochs", "x"), "a whole number; see `sde-bench train --help`"),
    (("train", "--lr", "x"), "a number; see `sde-bench train --help`"),
    (("train", "--epochs", "0"), "--epochs: must be at least 1"),
    (("train", "--noise", "dropout", "--keep", "0.5", "--sigma", "0.5"), "--sigma is 0.5, and --noise or"),
    (("train", "--noise", "additive:0.3", "--sigma", "0.5"), "says another; give one"),
    (("audit", "tiny-none", "--smoothing", "0.1,0.2"), "with one value of --smoothing"),
    (("audit", "tiny-none", "--score-draws", "0"), "--score-draws is 0"),
    (("import", "weights.pt", "--noise", "multipl"), "did you mean 'multiplicative'"),
    (("import", "weights.pt", "--preset", "odnet"), "did you mean 'odenet'"),
    (("import", "weights.pt", "--dataset", "digits"), "is damaged, or something else"),
    (("study", "clean", "tiny-none", "--image-size", "0", "--quiet"), "--image-size"),
    (("study", "clean", "tiny-none", "--images", "0", "--quiet"), "--images must be at least 1, not 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_wrong_input_is_one_line_and_exit_2(place, arguments, message):
    """Wrong input gives one line on stderr, no traceback, and exit code 2."""
    whole = (place / "checkpoints" / "tiny-none.safetensors").read_bytes()
    (place / "truncated.safetensors").write_bytes(whole[:-50])
    (place / "text.safetensors").write_text("hello")
    (place / "weights.pt").write_text("hello")
    (place / "wrong.yaml").write_text("epoch: 3\n")
    finished = sde_bench(
        *arguments, *(("--quiet",) if arguments[0] in ("attack", "train") else ()), cwd=place
    )
    assert finished.code == 2, (finished.stdout, finished.stderr)
    assert finished.stderr.count("\n") == 1, finished.stderr
    assert message in finished.stderr
    assert not list(place.glob("checkpoints/*.tmp"))


def wait_for(condition, process, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_exits_130_and_resumes(tmp_path, sent):
    """Ctrl-C leaves a usable checkpoint; --resume finishes the training."""
    options = ("train", "--epochs", 4, "--steps", 1, "--batch-size", 256, "--quiet", "--out", "m.safetensors")
    command = [sys.executable, "-m", "robustbench_sde", *map(str, options)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    wait_for((tmp_path / "m.safetensors").exists, process)
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr.count("\n") == 1
    assert sde_bench("show", "m.safetensors", cwd=tmp_path).code == 0
    resumed = sde_bench(*options, "--resume", "--json", cwd=tmp_path)
    assert resumed.code == 0, resumed.stderr
    found = json.loads(resumed.stdout)
    assert (found["path"], found["training"]["epochs_done"]) == ("m.safetensors", 4)
    again = sde_bench(*options, "--resume", cwd=tmp_path)
    assert again.code == 2
    assert "is complete" in again.stderr
    assert "--force trains it anew" in again.stderr


def test_a_killed_attack_goes_on_where_it_stopped(place, tmp_path):
    """SIGKILL after the first stored cell; the same command ends in the table of an undisturbed run."""
    options = [
        "attack", "--images", "60", "--steps", "10", "--eps", "0.02,0.04,0.06", "--json", "--quiet",
    ]  # fmt: skip
    whole = sde_bench(*options, "--out", tmp_path / "whole", cwd=place)
    out = tmp_path / "killed"
    process = started(*options, "--out", out, cwd=place)
    until = time.monotonic() + 60
    while len(list(out.glob("records/*.parquet"))) < 2:
        assert process.is_alive(), (place / "stderr.txt").read_text()
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    stored = {path: path.stat().st_mtime_ns for path in out.glob("records/*.parquet")}
    resumed = sde_bench(*options, "--out", out, cwd=place)

    def rows(text):
        return [{k: v for k, v in row.items() if k != "seconds"} for row in json.loads(text)]

    assert rows(resumed.stdout) == rows(whole.stdout)
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in stored.items())
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp") and path.stat().st_size]


def test_a_damaged_cell_is_named(place, tmp_path):
    """A corrupted Parquet file is one line that says which file to delete."""
    command = (*ATTACK, "tiny-none", "--out", tmp_path / "run")
    sde_bench(*command, cwd=place)
    victim = next((tmp_path / "run" / "records").glob("*clean*"))
    victim.write_bytes(victim.read_bytes()[:100])
    finished = sde_bench(*command, cwd=place)
    assert finished.code == 2
    assert str(victim) in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_train_reads_a_configuration_file_and_the_command_line_wins(tmp_path):
    """Options of --config hold unless they are typed."""
    (tmp_path / "c.yaml").write_text("noise: additive\nsigma: 0.3\nepochs: 9\nsteps: 1\nbatch_size: 512\n")
    finished = sde_bench(
        "train", "--config", "c.yaml", "--epochs", 1, "--quiet", "--out", "m.safetensors", cwd=tmp_path
    )
    assert finished.code == 0, finished.stderr
    shown = json.loads(sde_bench("show", "m.safetensors", "--json", cwd=tmp_path).stdout)
    assert shown["training"]["epochs"] == 1
    (term,) = shown["model"]["noise"]
    assert (term["kind"], term["sigma"]) == ("additive", 0.3)


@pytest.mark.parametrize(
    "kind", ["attacks", "checkpoints", "corruptions", "datasets", "noise", "presets", "rules"]
)
def test_lists_are_readable_by_people_and_scripts(place, kind):
    """Each kind lists something, also as JSON."""
    assert sde_bench("list", kind, cwd=place).stdout.strip()
    assert json.loads(sde_bench("list", kind, "--json", cwd=place).stdout)


def test_version_is_the_package_version(tmp_path):
    """--version prints it."""
    from robustbench_sde import __version__

    assert sde_bench("--version", cwd=tmp_path).stdout.strip() == f"sde-bench {__version__}"


@pytest.mark.parametrize(("kind", "way"), [("runs", "sde-bench attack"), ("models", "plug-ins")])
def test_a_list_of_nothing_says_so(tmp_path, kind, way):
    """And how there can be something; what is printed for programs stays empty."""
    finished = sde_bench("list", kind, "--json", cwd=tmp_path)
    assert (finished.code, len(json.loads(finished.stdout))) == (0, 0)
    assert finished.stderr.startswith(f"sde-bench: there are no {kind} here")
    assert way in finished.stderr


def test_a_fault_of_the_program_has_a_code_of_its_own(monkeypatch, program):
    """A crash is no regression, which has Python's own code for crashes: 1. The traceback is there."""

    def fault(**_):
        raise ZeroDivisionError("somewhere")

    monkeypatch.setattr("robustbench_sde.cli.app.program", lambda: fault)
    code, _, err = program("compare")
    assert code == 70
    assert "Traceback" in err
    assert "ZeroDivisionError: somewhere" in err
    assert err.splitlines()[-1].startswith("sde-bench: this is an error in sde-bench")
