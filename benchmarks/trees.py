"""Run a program in another source tree of this package, in a process of its own: before against after."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

#: (images, CPU seconds, forward and backward passes an image)
Made = tuple[Tensor, float, float, float]

#: Program that attacks; it imports nothing that an earlier tree may not have.
_ATTACK = """
import json, sys, time, torch
import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.perturbations.attacks.registry import make_attack
asked = json.loads(sys.argv[1])
torch.set_num_threads(asked["threads"])
model = rb.load_checkpoint(asked["checkpoint"])
data = rb.load_dataset(asked["dataset"], images=asked["images"])
attack = make_attack(asked["name"], **asked["parameters"])
started = time.process_time()
made = attack(model, to_float(data.images), data.labels, data.ids)
seconds = time.process_time() - started
torch.save(made.images, asked["file"])
passes = [float(each.double().mean()) for each in (made.forward_passes, made.backward_passes)]
print(json.dumps([seconds, *passes]))
"""


def run_in(tree: Path, program: str, asked: Mapping[str, Any]) -> Any:
    """Run a Python program that imports the package of `tree`; return what its last line says, as JSON.

    Args:
        tree: folder that holds `robustbench_sde/`.
        program: source text; it finds `asked`, as JSON, in `sys.argv[1]`.
        asked: arguments of the program.

    Raises:
        CalledProcessError: the program fails.
    """
    answer = subprocess.run(
        [sys.executable, "-c", program, json.dumps(asked)],
        env=os.environ | {"PYTHONPATH": str(tree.resolve())},
        cwd=tree,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def attack_in(
    tree: Path,
    name: str,
    checkpoint: Path,
    parameters: Mapping[str, Any],
    *,
    dataset: str,
    images: int,
    threads: int,
) -> Made:
    """Run an attack of a source tree on the first images of a data set, in a process of its own.

    Args:
        tree: folder that holds `robustbench_sde/`.
        name: of the attack, with `parameters`.
        checkpoint: file of the network.
        dataset, images: the data, and how many of them.
        threads: of torch.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.pt"
        asked: dict[str, Any] = {"name": name, "parameters": dict(parameters), "dataset": dataset}
        asked |= {"checkpoint": str(checkpoint.resolve()), "images": images, "threads": threads}
        asked |= {"file": str(file)}
        seconds, forward, backward = run_in(tree, _ATTACK, asked)
        return torch.load(file, weights_only=True), seconds, forward, backward
