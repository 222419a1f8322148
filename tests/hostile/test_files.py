"""Files that are damaged or made to harm: one clear line, bounded memory and time, nothing executed."""

import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from builders import save_digits_model
from forked import Limits, finished
from hostile.makers import (
    archive,
    bomb_pickle,
    bomb_plain,
    bomb_tar,
    bomb_zip,
    cast,
    cifar,
    claims,
    claims_npz,
    enormous,
    folder,
    halved_jpeg,
    loop,
    named,
    npz,
    numbers,
    objects,
    objects_npz,
    raw_tensors,
    spec,
    tensors,
    text,
    weight,
    zip_bomb,
)
from PIL import Image

TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
SHOW, ATTACK = ("show", "FILE"), ("attack", "FILE", "--images", 4, "--score-draws", 1, "--quiet")
IMPORT = ("import", "FILE", "--noise", "additive", "--dataset", "digits", "--out", "out.safetensors")
DATA = ("attack", "sound.safetensors", "--images", 4, "--score-draws", 1, "--quiet", "--dataset")

#: name of the file, what is in it, the command that is to read it, a part of the line that it gives
#: endings of weights of others, which an attack does not try to read as a checkpoint
NOT_OURS = dict.fromkeys((".pt", ".pth"), "is not a checkpoint of sde-bench")
FOREIGN, OWN = "is not a file of tensors that torch can read safely", "is not a whole safetensors file"
BOMBS = [
    (".pt", bomb_zip), (".pth", bomb_pickle), (".pkl", bomb_plain), (".tar", bomb_tar), (".npz", objects_npz),
    (".npy", objects), (".safetensors", bomb_zip), (".safetensors", bomb_plain),
]  # fmt: skip
CHECKPOINTS = [
    *((f"bomb{ending}", bomb, ATTACK, NOT_OURS.get(ending, OWN)) for ending, bomb in BOMBS),
    *((f"bomb{ending}", bomb, IMPORT, FOREIGN) for ending, bomb in BOMBS[:-2]),
    *((f"bomb{ending}", bomb, IMPORT, OWN) for ending, bomb in BOMBS[-2:]),
    ("zip-bomb.pt", zip_bomb, IMPORT, FOREIGN),
    ("numbers.pt", lambda path: torch.save([1, 2], path), IMPORT, "not a state dict"),
    ("empty.safetensors", lambda path: path.touch(), SHOW, OWN),
    ("folder.safetensors", lambda path: path.mkdir(), ATTACK, "does not exist"),
    ("pipe.safetensors", os.mkfifo, ATTACK, "does not exist"),
    ("huge.safetensors", raw_tensors({}, length=1 << 60), SHOW, OWN),
    ("long.safetensors", raw_tensors(b" " * (101 << 20)), SHOW, OWN),
    ("deep.safetensors", raw_tensors(b'{"__metadata__":' * 100_000), SHOW, OWN),
    ("overlap.safetensors", raw_tensors({"a": TENSOR, "b": TENSOR}, bytes(8)), SHOW, "is not a whole"),
    ("outside.safetensors", raw_tensors({"a": TENSOR | {"data_offsets": [0, 1 << 40]}}, bytes(8)), SHOW,
     OWN),
    ("overflow.safetensors", raw_tensors({"a": TENSOR | {"shape": [1 << 40, 1 << 40]}}, bytes(8)), SHOW,
     OWN),
    ("foreign.safetensors", raw_tensors({"a": TENSOR}, bytes(8)), SHOW, "without an sde-bench header"),
    ("metadata.safetensors", raw_tensors({"__metadata__": {"sde-bench": 3}}), SHOW, "is not a whole"),
    ("words.safetensors", tensors(lambda *_: "not JSON"), SHOW, "the header is not JSON"),
    ("nested.safetensors", tensors(lambda *_: "[" * 100_000), SHOW, "the header is not JSON"),
    ("list.safetensors", tensors(lambda *_: "[]"), SHOW, "header"),
    ("number.safetensors", tensors(lambda *_: "9" * 10_000), SHOW, "header"),
    ("megabytes.safetensors", tensors(lambda *_: '"' + "x" * 2_000_000 + '"'), SHOW, "characters, more than"),
    ("classes.safetensors", tensors(lambda w, h: h["dataset"].update(class_names=["x" * 300])), SHOW, "200"),
    ("keys.safetensors", tensors(lambda w, h: h.update({"a\nb\x1b": 1})), SHOW, "header: a b?: Extra inputs"),
    ("channels.safetensors", spec(channels=10**9), ATTACK, "channels"),
    ("features.safetensors", spec(features=10**9), ATTACK, "features"),
    ("wide.safetensors", spec(features=4096, blocks=16), ATTACK, "tensor"),
    ("tall.safetensors", spec(height=10**9), ATTACK, "height"),
    ("many.safetensors", spec(classes=10**5), ATTACK, "tensor"),
    ("steps.safetensors", spec(steps=10**9), ATTACK, "steps"),
    ("strides.safetensors", spec(stem_strides=[2] * 1000), ATTACK, "stem_strides"),
    ("zero.safetensors", spec(std=[0.0]), ATTACK, "std"),
    ("mean.safetensors", spec(mean=[1e400]), ATTACK, "mean"),
    ("sigma.safetensors", spec(noise=[{"kind": "additive", "sigma": -1}]), ATTACK, "sigma"),
    ("kind.safetensors", spec(noise=[{"kind": "__import__('os')"}]), ATTACK, "kind"),
    ("solver.safetensors", spec(solver="os.system"), ATTACK, "solver"),
    ("nan.safetensors", weight(float("nan")), ATTACK, "holds NaN or infinity"),
    ("inf.safetensors", weight(float("inf")), ATTACK, "holds NaN or infinity"),
    ("whole.safetensors", cast(torch.int32), ATTACK, "weights are float32, float16 or bfloat16"),
    ("double.safetensors", cast(torch.float64), ATTACK, "weights are float32, float16 or bfloat16"),
    ("bool.safetensors", cast(torch.bool), ATTACK, "weights are float32, float16 or bfloat16"),
    ("lines\n.safetensors", tensors(lambda *_: None), ATTACK, "has control characters; rename it"),
    ("clear\x1b[2J.safetensors", tensors(lambda *_: None), ATTACK, "has control characters; rename it"),
    ("clear\x1b[2J.json", raw_tensors({}), SHOW, "clear?[2J.json"),
]  # fmt: skip

X, Y = np.zeros((4, 32, 32), np.uint8), np.array([0, 1, 0, 1])
SCORE = ("score", "FILE", "--checkpoint", "sound.safetensors", "--norm", "linf", "--eps", 0.1, "--quiet")
NPZ, FOLDER, CIFAR = ((*DATA, f"{kind}:FILE") for kind in ("npz", "image-folder", "cifar10.1"))
DATASETS = [
    ("set", cifar(objects), CIFAR, "is not a whole .npy file"),
    ("set", cifar(archive), CIFAR, "is an archive of arrays"),
    ("set", cifar(numbers(np.zeros((4, 2)))), CIFAR, "it must be uint8"),
    ("set", cifar(claims((4, 32, 32, 3))), CIFAR, "is not a whole .npy file"),
    ("set", cifar(claims((10**12, 32, 32, 3))), CIFAR, "is not a whole .npy file"),
    ("set", cifar(numbers(X), numbers(np.full(4, 10))), CIFAR, "label 10 is out of range"),
    ("set", cifar(numbers(X), objects), CIFAR, "is not a whole .npy file"),
    ("objects.npz", objects_npz, NPZ, "holds Python objects"),
    ("labels.npz", npz(x=X, y=Y + 10**12), NPZ, "the label 1000000000001"),
    ("below.npz", npz(x=X, y=Y - 1), NPZ, "labels count from 0"),
    ("nan.npz", npz(x=np.full(X.shape, np.nan), y=Y), NPZ, "they must be in [0, 1]"),
    ("inf.npz", npz(x=np.full(X.shape, np.inf), y=Y), NPZ, "they must be in [0, 1]"),
    ("claims.npz", claims_npz, NPZ, "is not a whole .npz archive"),
    ("scored.npy", objects, SCORE, "no images can be read from it"),
    ("scored.npz", objects_npz, SCORE, "no images can be read from it"),
    ("scored.safetensors", bomb_zip, SCORE, "no images can be read from it"),
    ("one.npz", named(numbers(X), "one.npy"), SCORE, "it is no archive of arrays: rename it"),
    ("several.npy", npz(x=X), SCORE, "it is an archive of arrays: rename it"),
    ("bf16.safetensors", raw_tensors({"x": TENSOR | {"dtype": "BF16", "shape": [4]}}, bytes(8)), SCORE,
     "no images can be read from it"),
    *((f"claim{row}.npz", npz(x=X[:, None], ids=Y * 0 + range(4), about=np.array(json.dumps({"eps": eps}))),
       SCORE[:4] + SCORE[-1:], message)
      for row, (eps, message) in enumerate((("abc", "eps is _abc_; it must be a number"), ([1], "number"),
                                            (10**400, "number")))),
    ("scored.npy", claims((10**12, 1, 32, 32)), SCORE, "no images can be read from it"),
    ("scored.npz", npz(x=X, about=np.array("[" * 100_000)), SCORE, "no images can be read from it"),
    ("names.npz", npz(x=X, y=Y, class_names=np.array(["a", "\x1b[2J"])), NPZ,
     "has control characters"),
    ("cut.npz", lambda path: (npz(x=X, y=Y)(path), path.write_bytes(path.read_bytes()[:-90])),
     NPZ, "is not a whole .npz archive"),
    ("folder", folder(bad_jpg=halved_jpeg), FOLDER, "cannot read image"),
    ("folder", folder(big_png=enormous), FOLDER, "cannot read image"),
    ("folder", folder(bad_png=lambda path: path.write_text("no image")), FOLDER,
     "cannot read image"),
    ("folder", folder(empty_png=lambda path: path.touch()), FOLDER, "cannot read image"),
    ("folder", folder(pipe_png=os.mkfifo), FOLDER, "it is no file"),
    ("folder", folder(loop_png=loop), FOLDER, "cannot read image"),
    ("folder", folder(other_png=lambda path: Image.new("L", (8, 8)).save(path)), FOLDER,
     "give --image-size"),
    ("folder", folder(classes=("a",)), FOLDER, "at least 2 classes"),
    ("folder", folder(classes=("a", "b\x1b[2J")), FOLDER, "has control characters"),
    ("folder", lambda root: (root / "test" / "a").mkdir(parents=True), FOLDER,
     "no image in"),
    ("folder", lambda root: (root / "test").mkdir(parents=True), FOLDER, "no class folder"),
    ("folder", lambda root: (root.mkdir(), loop(root / "test")), FOLDER, "no folder"),
]  # fmt: skip


ALIASES = "a: &a [x]\n" + "".join(f"{n}: &{n} [{', '.join(['*a'] * 9)}]\n" for n in "bcdefghi")
TAG = "images: !!python/object/apply:os.mkdir [canary]\n"
READERS = (("run", "FILE"), ("train", "--config", "FILE"), ("compare", "was", "is", "--policy", "FILE"))
YAML = [
    (f"{name}.yaml", text(content), command, message)
    for command in READERS
    for name, content, message in (
        ("aliases", ALIASES, "anchors and aliases are not allowed"),
        ("tag", TAG, "is not YAML"),
        ("large", "a: " + "x" * 10_000_000, "has more than 1 MB"),
        ("deep", "a: " + "[" * 100_000, "nested more than 20 deep"),
        ("flow", "a: " + "{b: " * 100_000, "nested more than 20 deep"),
        ("date", "images: 2024-99-99\n", "is not YAML"),
        ("list", "- 1\n", "must hold `key: value` lines"),
        ("control", "a: \x00\n", "is not YAML"),
    )
]
YAML += [
    ("endless.yaml", lambda path: path.symlink_to("/dev/zero"), ("run", "FILE"), "has more than 1 MB"),
    ("latin.yaml", lambda path: path.write_bytes(b"a: \xff\n"), ("run", "FILE"), "is not YAML"),
]

ARGUMENTS = [
    ("x", text(""), ("run", "smoke", "--name", name, "--images", 1, "--quiet"), "no path")
    for name in ("../../x", "/tmp/x", "a\nb", "a/b", "..", "", "\x1b[2J", "x" * 200)
]
ARGUMENTS += [
    ("x", text(""), ("attack", "--set", f"pgd.steps={value}"), message)
    for value, message in (
        ("[" * 100_000, "is not a value"),
        ("2024-99-99", "is not a value"),
        ("!!python/object/apply:os.mkdir [canary]", "is not a value"),
        ("{a: 1}", "is not a number, a truth value or a text"),
        ("9" * 5000, "is not a value"),
    )
]

CASES = [*CHECKPOINTS, *DATASETS, *YAML, *ARGUMENTS]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound checkpoint of the digits' shape."""
    return save_digits_model(tmp_path_factory.mktemp("sound") / "sound.safetensors", "additive")


@pytest.mark.parametrize(
    ("name", "write", "command", "message"),
    CASES,
    ids=[f"{command[0]}-{name.encode('unicode_escape').decode()}-{row}"
         for row, (name, _, command, _) in enumerate(CASES)],
)  # fmt: skip
def test_one_line_and_nothing_else_happens(tmp_path, sound, name, write, command, message):
    """Exit 2 within a gigabyte and twenty seconds; nothing is executed, nothing written."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "sound.safetensors").symlink_to(sound)
    write(place / name)
    before = sorted(tmp_path.rglob("*"))
    arguments = [str(part).replace("FILE", name) for part in command]
    ended = finished(*arguments, cwd=place, before=Limits())
    assert ended.code == 2, (ended.stdout[-2000:], ended.stderr[-2000:])
    assert ended.stderr.count("\n") == 1, ended.stderr[-2000:]
    assert message in ended.stderr
    assert len(ended.stderr) < 2000
    assert ended.stderr[:-1].isprintable()
    outputs = {place / "stdout.txt", place / "stderr.txt"}
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in outputs] == before


def test_half_precision_is_taken(tmp_path, sound):
    """Weights in float16 or bfloat16 become float32."""
    for dtype in (torch.float16, torch.bfloat16):
        cast(dtype)(tmp_path / "half.safetensors")
        command = [str(part).replace("FILE", "half.safetensors") for part in ATTACK]
        ended = finished(*command, "--attack", "noise", cwd=tmp_path, before=Limits())
        assert ended.code == 0, ended.stderr


def test_a_small_file_that_claims_millions_of_rows_is_not_read(tmp_path, sound):
    """Parquet packs equal values: ten million rows are a few kilobytes."""
    run = tmp_path / "reports" / "run"
    run.mkdir(parents=True)
    zeros = pa.array(np.zeros(10_000_000))
    pq.write_table(pa.table({f"c{number}": zeros for number in range(3)}), run / "summary.parquet")
    assert (run / "summary.parquet").stat().st_size < 200_000
    for arguments in (("show", run), ("report", run), ("compare", run, run)):
        ended = finished(*arguments, cwd=tmp_path, before=Limits(memory=1 << 28))
        assert (ended.code, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert "10000000 rows are more than" in ended.stderr


def test_markup_in_a_name_is_text(tmp_path):
    """Names with what rich, HTML, LaTeX and Markdown obey come out of every command as they are."""
    name = "[red]:a:<b>|$x_1$&%.safetensors"
    save_digits_model(tmp_path / name, "none")
    attack = ("attack", name, "--attack", "noise", "--images", 4, "--score-draws", 1)
    for arguments in (
        (*attack, "--out", "reports/run"),
        ("show", "reports/run"),
        ("report", "reports/run"),
        ("compare", "reports/run", "reports/run", "--max-drop", 0.99),
        ("compare", "reports/run", "reports/run", "--max-drop", 0.99, "--markdown", "--junit-xml", "j.xml"),
    ):
        ended = finished(*arguments, cwd=tmp_path)
        assert ended.code == 0, ended.stderr
        if arguments[0] in ("attack", "show"):
            assert "[red]:a:<b>|$x_1$&%" in ended.stdout
    assert "&lt;b&gt;" in (tmp_path / "reports" / "run" / "index.html").read_text()
    assert pd.read_parquet(tmp_path / "reports" / "run" / "summary.parquet")["checkpoint"][0] in name
