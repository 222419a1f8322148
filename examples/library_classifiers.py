"""Random classifiers of torchbnn, blitz, bayesian-torch and laplace, as far as they are installed.

pip install torchbnn blitz-bayesian-pytorch bayesian-torch laplace-torch
python examples/library_classifiers.py
"""

import argparse
import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor, nn

import robustbench_sde as rb


def fit(net: nn.Module, images: Tensor, labels: Tensor, steps: int) -> nn.Module:
    """Train a network on all images at once."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net.eval()


def plain() -> nn.Module:
    """Make a network of two layers on images of 1x32x32."""
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def with_torchbnn() -> nn.Module:
    """Make its last layer Bayesian: one draw of the weights a pass."""
    import torchbnn

    return nn.Sequential(*plain()[:-1], torchbnn.BayesLinear(0, 0.1, 32, 10))


def with_blitz() -> nn.Module:
    """Make its last layer Bayesian: one draw of the weights a pass."""
    from blitz.modules import BayesianLinear

    return nn.Sequential(*plain()[:-1], BayesianLinear(32, 10))


def with_bayesian_torch() -> nn.Module:
    """Convert all layers in place; Flipout draws for every image of a pass."""
    from bayesian_torch.models.dnn_to_bnn import dnn_to_bnn

    net = plain()
    prior = {"prior_mu": 0.0, "prior_sigma": 1.0, "posterior_mu_init": 0.0, "posterior_rho_init": -3.0}
    dnn_to_bnn(net, prior | {"type": "Flipout", "moped_enable": False, "moped_delta": 0.5})
    return net


class LogProbabilities(nn.Module):
    """A Laplace approximation, which returns probabilities, as logits: their logarithm."""

    def __init__(self, laplace: Callable[..., Tensor], net: nn.Module) -> None:
        super().__init__()
        self.laplace, self.net = laplace, net

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 10) of images (B, 1, 32, 32)."""
        return self.laplace(images, link_approx="probit").clamp(1e-12).log()


def of_laplace(net: nn.Module, images: Tensor, labels: Tensor) -> nn.Module:
    """Fit a Laplace approximation of the last layer, through which gradients pass."""
    from laplace import Laplace
    from torch.utils.data import DataLoader, TensorDataset

    found = Laplace(net, "classification", subset_of_weights="last_layer", enable_backprop=True)
    found.fit(DataLoader(TensorDataset(images, labels), batch_size=256))
    return LogProbabilities(found, net).eval()


def main() -> None:
    """Print a row of accuracies for each library that is installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a minute instead of several")
    small = parser.parse_args().small
    data = rb.load_dataset("digits", images=20 if small else 100)
    train = rb.load_dataset("digits", split="train")
    images, labels = train.images / 255, train.labels
    makers = {"torchbnn": with_torchbnn, "blitz": with_blitz, "bayesian_torch": with_bayesian_torch}
    nets: dict[str, Callable[[], nn.Module]] = {
        name: lambda make=make: fit(make(), images, labels, 150) for name, make in makers.items()
    }
    nets["laplace"] = lambda: of_laplace(fit(plain(), images, labels, 150), images, labels)
    for name, make in nets.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name:<14} not installed")
            continue
        torch.manual_seed(0)
        model = rb.as_classifier(make(), data, name=name)
        rows = rb.attack(model, data, "pgd", eps=0.03, steps=3, score_draws=8, seed=0).summary
        clean, attacked = rows.iloc[0]["accuracy"], rows.iloc[-1]["accuracy"]
        print(f"{name:<14} noise: {model.noise:<7} clean {clean:.3f} pgd {attacked:.3f}")


if __name__ == "__main__":
    main()
