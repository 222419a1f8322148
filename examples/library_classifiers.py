"""Random classifiers of six libraries, as far as they are installed, each scored by itself as well.

pip install torchbnn blitz-bayesian-pytorch bayesian-torch laplace-torch torch-uncertainty torchdyn
python examples/library_classifiers.py

For each library: what happens to its module as it comes, the one line that makes logits of it, and accuracies
of clean and of attacked images beside those that the library gives without sde-bench.
"""

import argparse
import importlib.util
import warnings
from collections.abc import Callable
from importlib import metadata

import torch
from torch import Tensor, nn

import robustbench_sde as rb
from robustbench_sde.errors import BenchError

#: passes of the library by itself, from which a mean probability is made
PASSES = 200
ESTIMATORS = 8


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


class WithLogits(nn.Module):
    """A module whose output a function turns into logits."""

    def __init__(self, net: nn.Module, logits: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.logits = net, logits

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 10) of images (B, 1, 32, 32)."""
        return self.logits(self.net(images))


def with_torch_uncertainty() -> nn.Module:
    """Put dropout before its last layer, which stays on: in eval mode eight estimators, stacked."""
    from torch_uncertainty.methods import mc_dropout

    net = nn.Sequential(*plain()[:-1], nn.Dropout(0.2), plain()[-1])
    return mc_dropout(net, num_estimators=ESTIMATORS)


def mean_of_estimators(stacked: Tensor) -> Tensor:
    """Return the logarithm of the mean probability over estimators: (estimators * B, 10) to (B, 10)."""
    return stacked.unflatten(0, (ESTIMATORS, -1)).softmax(-1).mean(0).log()


class Flow(nn.Module):
    """A neural ODE of torchdyn between two layers; `last` takes the last of its states."""

    def __init__(self, last: Callable[[tuple[Tensor, Tensor]], Tensor]) -> None:
        super().__init__()
        from torchdyn.core import NeuralODE

        torch.manual_seed(0)
        self.stem, self.head = nn.Sequential(*plain()[:-1]), plain()[-1]
        self.flow = NeuralODE(
            nn.Sequential(nn.Linear(32, 32), nn.Tanh()), solver="rk4", sensitivity="autograd"
        )
        self.last = last

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 10) of images (B, 1, 32, 32)."""
        return self.head(self.last(self.flow(self.stem(images))))


def of_laplace(net: nn.Module, images: Tensor, labels: Tensor) -> nn.Module:
    """Fit a Laplace approximation of the last layer, through which gradients pass."""
    from laplace import Laplace
    from torch.utils.data import DataLoader, TensorDataset

    found = Laplace(net, "classification", subset_of_weights="last_layer", enable_backprop=True)
    found.fit(DataLoader(TensorDataset(images, labels), batch_size=256))

    class Probabilities(nn.Module):
        """A Laplace approximation is no nn.Module."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Tensor) -> Tensor:
            return found(images, link_approx="probit")

    return Probabilities().eval()


def made(name: str, images: Tensor, labels: Tensor) -> tuple[nn.Module, nn.Module]:
    """Return the trained module of a library as it comes, and one that returns logits; mostly the same."""
    if name == "torch_uncertainty":
        raw = fit(with_torch_uncertainty(), images, labels, 150)
        return raw, WithLogits(raw, mean_of_estimators).eval()
    if name == "laplace":
        raw = of_laplace(fit(plain(), images, labels, 150), images, labels)
        return raw, WithLogits(raw, lambda probabilities: probabilities.clamp_min(1e-12).log()).eval()
    if name == "torchdyn":
        net = fit(Flow(lambda output: output[1][-1]), images, labels, 60)
        raw = Flow(lambda output: output)
        raw.load_state_dict(net.state_dict())
        return raw.eval(), net
    makers = {"torchbnn": with_torchbnn, "blitz": with_blitz, "bayesian_torch": with_bayesian_torch}
    net = fit(makers[name](), images, labels, 150)
    return net, net


def by_itself(net: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return margin of the label in the mean probability and its standard error, without sde-bench: (B,)."""
    torch.manual_seed(1)
    with torch.no_grad():
        draws = torch.stack([net(images).softmax(1) for _ in range(PASSES)])
    at_label = draws.gather(2, labels.expand(PASSES, -1)[..., None])[..., 0]
    rival = draws.mean(0).scatter(1, labels[:, None], -1).argmax(1)
    margins = at_label - draws.gather(2, rival.expand(PASSES, -1)[..., None])[..., 0]
    return margins.mean(0), margins.std(0) / PASSES**0.5


#: what pip calls each library
PACKAGES = {
    "torchbnn": "torchbnn",
    "blitz": "blitz-bayesian-pytorch",
    "bayesian_torch": "bayesian-torch",
    "laplace": "laplace-torch",
    "torch_uncertainty": "torch-uncertainty",
    "torchdyn": "torchdyn",
}


def main() -> None:
    """Print what is said to each module as it comes, and a row of accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a minute instead of several")
    parser.add_argument("--only", choices=PACKAGES, help="one library")
    options = parser.parse_args()
    small = options.small
    warnings.filterwarnings("ignore", category=UserWarning)
    data = rb.load_dataset("digits", images=20 if small else 100)
    train = rb.load_dataset("digits", split="train")
    for name, package in PACKAGES.items():
        if options.only not in (None, name):
            continue
        if importlib.util.find_spec(name) is None:
            print(f"{name:<17} not installed")
            continue
        raw, net = made(name, train.images / 255, train.labels)
        try:
            rb.as_classifier(raw, data, name=name)
        except BenchError as error:
            print(f"as it comes: {error}")
        model = rb.as_classifier(net, data, name=name)
        result = rb.attack(model, data, "pgd", eps=0.03, steps=3, seed=0)
        share = {}
        for row, records in ((0, result.records_of(0)), (len(result.summary) - 1, result.records)):
            images = data.images / 255 if row == 0 else result.images
            margin, error = by_itself(net, images, data.labels)
            differ = (margin > 0).numpy() != records["correct"].to_numpy()
            sure = (margin.abs() > 4 * error).numpy()
            if bool((differ & sure).any()):
                raise SystemExit(f"{name}: decisions differ from those of the library by itself")
            share[row] = float(records["correct"].mean()), float((margin > 0).double().mean())
        (clean, own), (attacked, own_attacked) = share.values()
        print(
            f"{name:<17} {metadata.version(package):<7} noise: {model.noise:<7} right {clean:.3f} (by itself "
            f"{own:.3f}), under pgd {attacked:.3f} ({own_attacked:.3f})"
        )


if __name__ == "__main__":
    main()
