"""Smallest L2 changes: CPU time, passes and distances of `cw`, `fmn` and foolbox's C&W on random networks.

    pip install -e '.[test,benchmarks]'
    python -m benchmarks.minimal [CHECKPOINT ...] [--images 20] [--draws 8] [--before FOLDER] [--threads 1]

Ours have their default steps and `--draws` draws a gradient. foolbox's L2CarliniWagnerAttack stands behind
its ExpectationOverTransformationWrapper with as many draws, with as many rounds and steps as `cw` may take,
and with the step size that suits so few steps; weights ask for no gradient. With `--before`, the attacks of
another source tree of this package run, too, each right after the one of this tree. Ours run in processes of
their own. Everybody's images are scored by us on the same 128
draws: a distance counts if they are fooled, and is infinite if not. Seconds are CPU time of the attack.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import foolbox as fb
import torch

import robustbench_sde as rb
from benchmarks.peers import CHECKPOINTS, OneDraw
from benchmarks.smallest import SCORE_DRAWS, distances
from benchmarks.trees import Made, attack_in
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.registry import make_attack

HEADER = """
| checkpoint | attack | CPU s | passes an image: forward / backward | stand, % | distance: quartiles | mean |
|---|---|---|---|---|---|---|"""


def ours(tree: Path, name: str, checkpoint: Path, options: argparse.Namespace) -> Made:
    """Run an attack of a source tree with its default steps."""
    data = {each: getattr(options, each) for each in ("dataset", "images", "threads")}
    return attack_in(tree, name, checkpoint, {"norm": "l2", "eot_draws": options.draws}, **data)


def foolbox(model: RandomClassifier, data: ImageDataset, draws: int) -> Made:
    """Run foolbox's C&W with the rounds and steps that `cw` has at most."""
    own = make_attack("cw")
    module = OneDraw(model).eval()
    plain: Any = fb.PyTorchModel(module, (0, 1))
    peer = fb.models.ExpectationOverTransformationWrapper(plain, n_steps=draws)
    attack = fb.attacks.L2CarliniWagnerAttack(
        binary_search_steps=own.gradients_per_step(model),
        steps=own.steps,
        stepsize=1e-2,
        initial_const=0.1,
        abort_early=False,
    )
    started = time.process_time()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = attack.run(peer, to_float(data.images), fb.Misclassification(data.labels))
    seconds = time.process_time() - started
    return images.detach(), seconds, float(module.calls), module.backward_passes / len(data)


def rows(checkpoint: Path, options: argparse.Namespace) -> Iterator[str]:
    """Give the Markdown rows of one checkpoint, each as soon as it is known."""
    model, data = rb.load_checkpoint(checkpoint), rb.load_dataset(options.dataset, images=options.images)
    here = Path(__file__).parents[1]
    trees = {"": here} | ({} if options.before is None else {" before": options.before})
    jobs: list[tuple[str, Callable[[], Made]]] = [
        (f"{name}{when}", partial(ours, tree, name, checkpoint, options))
        for name in ("cw", "fmn")
        for when, tree in trees.items()
    ]
    draws = options.draws if model.stochastic else 1
    jobs.append((f"foolbox C&W, EOT of {draws}", partial(foolbox, model, data, draws)))
    for name, job in jobs:
        images, seconds, forward, backward = job()
        found = distances(model, data, images)
        quartiles = found.quantile(torch.tensor([0.25, 0.5, 0.75]), interpolation="higher").tolist()
        cells = (
            *(model.name, name),
            f"{seconds:.1f}",
            f"{forward:.0f} / {backward:.0f}",
            f"{100 * found.isinf().float().mean():.0f}",
            " ".join(f"{quartile:.4f}" for quartile in quartiles),
            f"{found.mean():.4f}",
        )
        yield f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    """Print the table, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [f"digits-{kind}.safetensors" for kind in ("multiplicative", "additive", "dropout", "ode")]
    parser.add_argument("checkpoints", nargs="*", type=Path, default=[CHECKPOINTS / name for name in names])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--before", type=Path, help="another source tree of this package")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(f"{options.dataset}, {options.images} images, {options.draws} draws, {SCORE_DRAWS} score draws")
    print(HEADER, flush=True)
    for checkpoint in options.checkpoints:
        for row in rows(checkpoint, options):
            print(row, flush=True)


if __name__ == "__main__":
    main()
