"""Right robust accuracies: exact ones of a linear classifier, and a strong attack that shares no code."""

import torch
from torch import Tensor, nn

from robustbench_sde.data import ImageDataset, to_float


class Linear(nn.Module):
    """A linear classifier of images, by ridge regression on one-hot labels: no randomness at all."""

    def __init__(self, data: ImageDataset, ridge: float = 30.0, scale: float = 10.0) -> None:
        super().__init__()
        images = to_float(data.images).flatten(1).double()
        images = torch.cat([images, torch.ones(len(images), 1, dtype=torch.float64)], 1)
        wanted = nn.functional.one_hot(data.labels, data.classes).double() - 1 / data.classes
        gram = images.T @ images + ridge * torch.eye(images.shape[1], dtype=torch.float64)
        solution = scale * torch.linalg.solve(gram, images.T @ wanted)
        self.inner = nn.Linear(*solution[:-1].shape)
        self.inner.weight.data = solution[:-1].T.float().contiguous()
        self.inner.bias.data = solution[-1].float()

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, classes)."""
        return self.inner(images.flatten(1))


def stands_linear(net: Linear, images: Tensor, labels: Tensor, norm: str, eps: float) -> Tensor:
    """Say which images no perturbation can fool: (n,) bool, exact.

    The largest lead of a wrong class over a ball and [0, 1] is that of a linear function. Linf: each pixel
    for itself. L2: the point is clip(t w, -x, 1 - x) for the t of length eps (the Karush-Kuhn-Tucker
    conditions), found by bisection.
    """
    weight, bias = net.inner.weight.detach().double(), net.inner.bias.detach().double()
    x = images.flatten(1).double()
    logits = x @ weight.T + bias
    stands = torch.ones(len(x), dtype=torch.bool)
    for other in range(len(bias)):
        way = weight[other] - weight[labels]
        low, high = -x, 1 - x
        if norm == "linf":
            move = torch.where(way > 0, high.clamp_max(eps), low.clamp_min(-eps))
        else:
            move = _longest(way, low, high, eps)
        lead = logits[:, other] - logits.gather(1, labels[:, None])[:, 0] + (way * move).sum(1)
        stands &= (lead < 0) | (labels == other)
    return stands


def _longest(way: Tensor, low: Tensor, high: Tensor, eps: float) -> Tensor:
    small, large = torch.zeros(len(way), 1).double(), torch.full((len(way), 1), 1e9).double()
    for _ in range(200):
        middle = (small + large) / 2
        short = torch.clamp(middle * way, low, high).norm(dim=1, keepdim=True) <= eps
        small, large = torch.where(short, middle, small), torch.where(short, large, middle)
    return torch.clamp(small * way, low, high)


def stands_rounded(net: Linear, images: Tensor, labels: Tensor, eps: float, levels: int) -> Tensor:
    """Say which images no Linf perturbation can fool if pixels are rounded to `levels` + 1 values: exact."""
    weight, bias = net.inner.weight.detach().double(), net.inner.bias.detach().double()
    x = images.flatten(1)
    low, high = ((x + move).clamp(0, 1).mul(levels).round().double() / levels for move in (-eps, eps))
    stands = torch.ones(len(x), dtype=torch.bool)
    for other in range(len(bias)):
        way = weight[other] - weight[labels]
        lead = (way * torch.where(way > 0, high, low)).sum(1) + bias[other] - bias[labels]
        stands &= (lead < 0) | (labels == other)
    return stands


def stands_strong(
    judge: nn.Module, surrogate: nn.Module, images: Tensor, labels: Tensor, norm: str, eps: float, steps: int
) -> Tensor:
    """Say which images stand after signed or normalised gradient ascent towards every class: (n,) bool.

    Gradients are those of `surrogate`; every point on the way is shown to `judge`.
    """
    with torch.no_grad():
        stands = judge(images).argmax(1) == labels
        classes = judge(images[:1]).shape[1]
    for other in range(classes):
        rows = (stands & (labels != other)).nonzero()[:, 0]
        clean, right = images[rows], labels[rows]
        delta = torch.zeros_like(clean)
        for step in range(steps):
            if not len(rows):
                break
            x = (clean + delta).requires_grad_()
            logits = surrogate(x)
            lead = logits[:, other] - logits.gather(1, right[:, None])[:, 0]
            (gradient,) = torch.autograd.grad(lead.sum(), x)
            length = 2 * eps * (1 - step / steps) ** 2 + eps / 50
            flat = gradient.flatten(1)
            if norm == "linf":
                delta = (delta + length * gradient.sign()).clamp(-eps, eps)
            else:
                unit = (flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-30)).view_as(delta)
                delta = delta + length * unit
                size = delta.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, 1, 1, 1)
                delta = delta * (eps / size).clamp_max(1)
            delta = ((clean + delta).clamp(0, 1) - clean).detach()
            with torch.no_grad():
                fooled = judge(clean + delta).argmax(1) != right
            stands[rows[fooled]] = False
            rows, clean, right, delta = rows[~fooled], clean[~fooled], right[~fooled], delta[~fooled]
    return stands
