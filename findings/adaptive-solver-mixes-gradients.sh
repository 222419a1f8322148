#!/usr/bin/env bash
# torchdiffeq 0.2.5 with torch 2.14.1: with an adaptive solver, the gradient for one example of a batch holds
# a part of its neighbours' losses. The adjoint method, which is usually called the less exact one, does not
# mix them: there, the cosine to the gradient of the example alone is 1.00, and 0.23 without it.
#
# Why it matters: One step size is chosen for the whole batch from all errors, and autograd differentiates
# through that choice. An attack on a batch follows a wrong direction for images that are classified with
# confidence.
#
# Exits with 0 while this is so, and with 1 when it has changed. Python 3.11, CPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6 scipy==1.17.1 torchdiffeq==0.2.5
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch import nn
from torchdiffeq import odeint, odeint_adjoint

torch.manual_seed(1)


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 6))

    def forward(self, t, h):
        return 4 * self.layers(h)


field = Field()
state = torch.randn(5, 6, requires_grad=True)
times = torch.tensor([0.0, 1.0])


def share_of_others(solve, **how):
    """Largest derivative of example 0's output by the other examples, against that by example 0 itself."""
    end = solve(field, state, times, **how)[-1]
    (gradient,) = torch.autograd.grad(end[0].sum(), state)
    return float(gradient[1:].abs().max() / gradient[0].abs().max())


tolerances = {"method": "dopri5", "rtol": 1e-3, "atol": 1e-3}
through = share_of_others(odeint, **tolerances)
adjoint = share_of_others(odeint_adjoint, **tolerances)
fixed = share_of_others(odeint, method="rk4", options={"step_size": 0.1})
print(f"derivative by other examples: dopri5 {through:.1e}, dopri5 with the adjoint {adjoint:.1e}, rk4 {fixed:.1e}")
assert through > 1e-5 and adjoint == 0 and fixed == 0

# a classifier that is sure of example 0 and wrong about example 1: whose loss does the gradient of image 0 follow?
head = nn.Linear(6, 2, bias=False)
pair = torch.randn(2, 6)
with torch.no_grad():
    scores = head(odeint(field, pair, times, method="rk4", options={"step_size": 0.05})[-1])
    labels = scores.argmax(1)
    labels[1] = 1 - labels[1]
    head.weight *= 12 / (scores[0, 0] - scores[0, 1]).abs()


def gradient_of_example_0(solve, rows):
    images = pair[rows].clone().requires_grad_()
    end = solve(field, images, times, **tolerances)[-1]
    loss = nn.functional.cross_entropy(head(end), labels[rows], reduction="sum")
    return torch.autograd.grad(loss, images)[0][0]


alone = gradient_of_example_0(odeint, [0])
beside = gradient_of_example_0(odeint, [0, 1])
exact = gradient_of_example_0(odeint_adjoint, [0, 1])
cosines = [float(torch.cosine_similarity(alone, other, 0)) for other in (beside, exact)]
print(f"cosine to the gradient of example 0 alone: in a batch of two {cosines[0]:.2f}, with the adjoint {cosines[1]:.2f}")
assert cosines[0] < 0.9 < cosines[1]
PYTHON
# Output seen on 2026-11-27:
# derivative by other examples: dopri5 1.2e-04, dopri5 with the adjoint 0.0e+00, rk4 0.0e+00
# cosine to the gradient of example 0 alone: in a batch of two 0.23, with the adjoint 1.00
