"""Every command that writes, small; and all that a folder holds afterwards, but wall times."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.numpy
import torch
import yaml
from builders import save_digits_model
from forked import sde_bench
from PIL import Image
from safetensors import safe_open

from robustbench_sde.data import ImageDataset
from robustbench_sde.evaluation.audit.report import AuditReport
from robustbench_sde.evaluation.stability.report import StabilityReport

SUITE = """
checkpoints: [a.safetensors, b.safetensors]
dataset: npz:digits.npz
images: 4
score_draws: 2
perturbations:
  - {attack: pgd, eps: 0.1, steps: 2, eot_draws: 2}
  - {corruption: fog, severity: [1, 3]}
"""
SMALL = ("--dataset", "npz:digits.npz", "--score-draws", 2, "--quiet")
ATTACK = (
    "attack", "a.safetensors", "--images", 4, "--steps", 2, "--eps", "0.02,0.1", "--eot-draws", 2, *SMALL,
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A command, and the sentence that an interruption of it ends in."""

    command: tuple[object, ...]
    goes_on: str
    #: what it is gone on with if it has left `begun`
    resume: tuple[str, ...] = ()
    #: file whose presence means that `resume` is needed
    begun: str = ""
    #: exit code of the undisturbed command
    ends: int = 0

    def __str__(self):
        return str(self.command[0])


SAME = "the same command continues where this one stopped"
OVER = "no file is left incomplete; the same command starts again"
JOBS = [
    Job(
        ("train", "--dataset", "npz:digits.npz", "--steps", 1, "--epochs", 3, "--batch-size", 16,
         "--out", "new/m.safetensors", "--quiet"),
        f"the same command with --resume continues|{OVER}", ("--resume",), "new/m.state.safetensors",
    ),
    Job((*ATTACK, "--out", "new/run"), SAME),
    Job(("corrupt", "a.safetensors", "--images", 3, "--corruptions", "fog,brightness", "--severity", "1,3",
         "--out", "new/run", *SMALL), SAME),
    Job(("run", "tiny.yaml", "--no-cache", "--quiet"), SAME),
    Job(("report", "finished", "--out", "new/page"), OVER),
    Job(("audit", "a.safetensors", "--images", 10, "--steps", 2, "--eot-draws", 1, "--out", "new/run",
         *SMALL), OVER, ends=3),  # ten images are too few to tell
    Job(("stability", "a.safetensors", "b.safetensors", "--images", 2, "--paths", 2, "--steps", 2,
         "--eot-draws", 1, "--out", "new/run", *SMALL), SAME),
    Job(("score", "given.npz", "--checkpoint", "a.safetensors", "--norm", "linf", "--eps", 0.1,
         "--out", "new/run", *SMALL), SAME),
    Job(("certify", "a.safetensors", "--images", 3, "--draws", 40, "--select-draws", 4, "--dataset",
         "npz:digits.npz", "--quiet", "--out", "new/run"), SAME),
    Job(("study", "clean", "a.safetensors", "b.safetensors", "--images", 3, "--dataset", "npz:digits.npz",
         "--quiet"), SAME),
    Job(("versus", "b.safetensors", "a.safetensors", "--images", 4, "--steps", 2, "--eot-draws", 2,
         "--eps", 0.1, "--out", "new/run", *SMALL), SAME),
    Job(("preview", "npz:digits.npz", "--corruption", "fog", "--severity", "1-3", "--images", 2,
         "--out", "new/p.png", "--quiet"), OVER),
    Job(("import", "released.pth", "--dataset", "npz:digits.npz", "--noise", "additive",
         "--out", "new/i.safetensors"), OVER, ("--force",), "new/i.safetensors"),
    Job(("baseline", "save", "finished", "new/baseline.json"), OVER),
    Job(("compare", "finished", "finished", "--junit-xml", "new/j.xml", "--comment", "new/c.md",
         "--badge", "new/b.json"), OVER, ends=3),  # four images are too few to tell
    Job(("gate", "init", "a.safetensors", "--dataset", "npz:digits.npz", "--images", 4, "--eps", 0.1,
         "--max-drop", 0.5, "--install", "x", "--quiet"), OVER, ("--force",), "robustness/baseline.json"),
    Job(("show", "finished"), OVER),
    Job(("list", "attacks"), OVER),
]  # fmt: skip


def make_place(place: Path, digits: ImageDataset) -> Path:
    """Make the files that the jobs need: two checkpoints, a few images, a suite and a finished run."""
    save_digits_model(place / "a.safetensors", "additive", steps=2)
    save_digits_model(place / "b.safetensors", "none", steps=2)
    few = digits.subset(40)
    x, y = few.images.numpy(), few.labels.numpy()
    np.savez(place / "digits.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez(place / "given.npz", x=(x[:4] / 255 * 0.95 + 0.025).astype(np.float32))
    torch.save(released_state(), place / "released.pth")
    (place / "tiny.yaml").write_text(SUITE)
    process = sde_bench(*ATTACK, "--out", "finished", cwd=place)
    process.join()
    assert process.exitcode == 0, (place / "stderr.txt").read_text()
    return place


def released_state() -> dict[str, torch.Tensor]:
    """Weights of a small network under the names of the paper's code."""
    flow = "multiscale_flows.flows.0"
    shapes = {
        "downsampling_layers.0": (2, 1, 3, 3),
        "downsampling_layers.1": (2,),
        "downsampling_layers.3": (4, 2, 3, 3),
        "downsampling_layers.4": (4,),
        "downsampling_layers.6": (8, 4, 4, 4),
        **{f"{flow}.flow_fn.norm{index}": (8,) for index in (1, 2, 3, 4)},
        f"{flow}.flow_fn.conv1._layer": (8, 72, 3, 3),
        **{f"{flow}.flow_fn.conv{index}": (8, 8, 3, 3) for index in (2, 3)},
        "fc_layers.0": (8,),
        "fc_layers.4": (10, 8),
    }
    state = {f"{name}.weight": torch.full(shape, 0.1) for name, shape in shapes.items()}
    state |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    return state | {f"{flow}.diffusion.sigma": torch.tensor(1.0)}


READERS = {
    ".parquet": lambda path: without_time(pd.read_parquet(path)).to_dict(),
    ".csv": lambda path: without_time(pd.read_csv(path)).to_csv(),
    ".json": lambda path: report(path),
    ".xml": lambda path: closed(path, "</testsuite>"),
    ".yml": lambda path: path.read_text(),
    ".pth": lambda path: path.read_bytes(),
    ".yaml": lambda path: {**yaml.safe_load(path.read_text()), "command": ""},
    ".safetensors": lambda path: tensors(path),
    ".png": lambda path: Image.open(path).tobytes(),
    ".svg": lambda path: closed(path, "</svg>"),
    ".html": lambda path: closed(path, "</html>"),
    ".tex": lambda path: path.read_text(),
    ".npz": lambda path: path.read_bytes(),
    ".txt": lambda path: "",
    ".md": lambda path: "" if path.parent.name != "page" else path.read_text(),  # of a run: with wall times
    "": lambda path: "",
}


def contents(place):
    """All files by name, read by what reads them; without wall times, and what a killed process wrote."""
    paths = [path for path in place.rglob("*") if path.is_file() and not path.name.startswith(".")]
    paths = [path for path in paths if path != place / "begun"]  # left by `forked.once_begun`
    return {str(path.relative_to(place)): repr(READERS[path.suffix](path)) for path in paths}


def without_time(frame):
    return frame.drop(columns="seconds", errors="ignore")


def hidden(place):
    """Files and folders that no user should find."""
    return [path for path in place.rglob(".*") if path.name not in (".gitignore", ".github")]


def report(path):
    """Values of a JSON file without times; a report also has to be one."""
    text = path.read_text()
    if path.parent.name in ("audits", "stability"):
        kind = StabilityReport if "one_sided" in text else AuditReport
        return {**vars(kind.from_json(text)), "seconds": 0}
    return {**json.loads(text), "command": "", "made": "", "seconds": 0, "digest": ""}


def tensors(path):
    """Weights bit by bit; of the header all but wall times, and of a state nothing else."""
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
    header = json.loads(metadata.get("sde-bench", '{"training": {}}'))
    header["training"].pop("seconds", None)
    header["training"].get("history", {}).pop("seconds", None)
    weights = {name: array.tobytes() for name, array in sorted(safetensors.numpy.load_file(path).items())}
    return header, weights


def closed(path, end):
    text = path.read_text()
    assert text.rstrip().endswith(end), path
    return text
