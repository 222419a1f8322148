"""Paired draws against independent ones: variances at equal draws, and draws for the same error of a margin.

    python -m benchmarks.pairs [--images 24] [--pairs 32] [--eps 0.03]

For each random checkpoint of the digits, on clean images and after a pgd of 5 steps: the variance of the mean
probability vector and of the gradient of its loss over 8 draws, and the squared standard error of the margin,
each as a ratio of pairs to independent draws (below 1: pairs are better), summed over images. An interval
over noise has the same width with that share of the draws.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.models.probabilities import log_mean, log_probabilities, mean_error, split_label
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.losses import cross_entropy
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.sde.draws import Draws, Stream

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
#: Draws of a gradient, and gradients whose variance is taken.
GRADIENT_DRAWS, GRADIENTS = 8, 12


def gradients(
    model: RandomClassifier, images: Tensor, labels: Tensor, ids: Tensor, *, paired: bool
) -> Tensor:
    """Return gradients of the loss of the mean probability, each over fresh draws: (n, B, C, H, W)."""
    found = []
    for turn in range(GRADIENTS):
        first = turn * GRADIENT_DRAWS
        draws = (
            Draws(1, Stream.ATTACK, range(first, first + GRADIENT_DRAWS))
            if paired
            else Draws.independent(1, Stream.ATTACK, first, GRADIENT_DRAWS)
        )
        x = images.clone().requires_grad_()
        loss = cross_entropy(log_mean(model.logits(x, ids, draws).log_softmax(-1)), labels).sum()
        found.append(torch.autograd.grad(loss, x)[0])
    return torch.stack(found)


def ratios(model: RandomClassifier, images: Tensor, labels: Tensor, ids: Tensor, pairs: int) -> list[float]:
    """Return the three ratios of pairs to independent draws: probabilities, gradients, margins."""
    draws = Draws(0, Stream.SCORE, range(2 * pairs))
    probs = log_probabilities(model, images, ids, draws, rows=256).exp().double()
    alone = probs[0::2].var(0).sum() / 2  # the even draws are independent of each other
    together = probs.unflatten(0, (pairs, 2)).mean(1).var(0).sum()
    _, _, rival = split_label(probs.mean(0), labels)
    index = torch.stack((labels, rival), 1).expand(len(probs), -1, -1)
    at = probs.gather(2, index)
    margin = at[..., 0] - at[..., 1]
    error = mean_error(margin).square().sum()
    independent = margin[0::2].var(0).sum() / (2 * pairs)
    of_gradients = [
        gradients(model, images, labels, ids, paired=paired).flatten(2).var(0).sum()
        for paired in (True, False)
    ]
    return [float(together / alone), float(of_gradients[0] / of_gradients[1]), float(error / independent)]


def main() -> None:
    """Print a row for each checkpoint, clean and attacked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--eps", type=float, default=0.03)
    options = parser.parse_args()
    data = rb.load_dataset("digits", split="test", images=options.images)
    print(
        "| checkpoint | images | mean probability | gradient, 8 draws | draws for one width |\n"
        "|---|---|---|---|---|"
    )
    for name in ("additive", "multiplicative", "dropout"):
        model = rb.load_checkpoint(CHECKPOINTS / f"digits-{name}.safetensors")
        attack = make_attack("pgd", eps=options.eps, steps=5)
        clean = to_float(data.images)
        attacked = attack(model, clean, data.labels, data.ids).images
        for what, images in (("clean", clean), (f"pgd {options.eps:g}", attacked)):
            found = ratios(model, images, data.labels, data.ids, options.pairs)
            print(f"| digits-{name} | {what} | {' | '.join(f'{ratio:.2f}' for ratio in found)} |", flush=True)


if __name__ == "__main__":
    main()
