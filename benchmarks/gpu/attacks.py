"""Attack cells, scoring and corruptions: images a second, against a user's loop, foolbox and the CPU."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.networks import DRAWS, network, plain_pass
from benchmarks.gpu.timing import seconds
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.evaluation.scoring import ScoreSettings, score_records
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.corruptions import CORRUPTIONS, corrupt

EPS, STEPS = 2 / 255, 20
#: rows of a pass
ROWS = 4096


def random_data(count: int) -> ImageDataset:
    """Random images of CIFAR's size, keyed."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return ImageDataset.whole("random", "test", images, labels, tuple("0123456789"))


def cell(model: Classifier, data: ImageDataset, rows: int = ROWS) -> float:
    """Seconds of PGD-20 with 8 draws a gradient on all images, which never leave the batch."""
    attack = make_attack("pgd", eps=EPS, steps=STEPS, eot_draws=DRAWS, settle=False)
    images = to_float(data.images).to(model.device)
    began = time.perf_counter()
    for start in range(0, len(data), rows // DRAWS):
        piece = slice(start, start + rows // DRAWS)
        attack(model, images[piece], data.labels[piece].to(model.device), data.ids[piece], rows=rows)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


class _Plain(nn.Module):
    """The log of the mean probability over draws of torch.randn, as a user's loop has it."""

    def __init__(self, model: Classifier, draws: int) -> None:
        super().__init__()
        self.model, self.draws = model, draws

    def forward(self, images: Tensor) -> Tensor:
        return plain_pass(self.model, images, self.draws).softmax(-1).mean(0).log()


def by_hand(model: Classifier, data: ImageDataset) -> float:
    """Seconds of the same PGD written by hand: folded draws, torch.randn in every step."""
    net = _Plain(model, DRAWS)
    began = time.perf_counter()
    for start in range(0, len(data), ROWS // DRAWS):
        piece = slice(start, start + ROWS // DRAWS)
        clean, labels = to_float(data.images[piece]).cuda(), data.labels[piece].cuda()
        x = clean.clone()
        for _ in range(STEPS):
            x = x.detach().requires_grad_()
            loss = nn.functional.nll_loss(net(x), labels, reduction="sum")
            (slope,) = torch.autograd.grad(loss, x)
            x = (x + EPS / 4 * slope.sign()).clamp(clean - EPS, clean + EPS).clamp(0, 1)
    torch.cuda.synchronize()
    return time.perf_counter() - began


def foolbox_eot(model: Classifier, data: ImageDataset) -> float:
    """Seconds of foolbox's LinfPGD behind its ExpectationOverTransformationWrapper, one draw a pass."""
    import foolbox

    wrapped = foolbox.models.ExpectationOverTransformationWrapper(
        foolbox.PyTorchModel(_Plain(model, 1), bounds=(0, 1), device="cuda"), n_steps=DRAWS
    )
    attack = foolbox.attacks.LinfPGD(steps=STEPS)
    began = time.perf_counter()
    for start in range(0, len(data), ROWS // DRAWS):
        piece = slice(start, start + ROWS // DRAWS)
        attack(wrapped, to_float(data.images[piece]).cuda(), data.labels[piece].cuda(), epsilons=EPS)
    torch.cuda.synchronize()
    return time.perf_counter() - began


def torchsde_pass(model: Classifier, images: Tensor) -> Tensor:
    """A pass by torchsde's Euler with folded draws: logits (draws, B, classes)."""
    from torchsde import sdeint

    spec = model.spec
    h0 = model.stem((images - model.mean) / model.std).repeat(DRAWS, 1, 1, 1)

    class Equation(nn.Module):
        sde_type, noise_type = "ito", "diagonal"

        def f(self, t: Tensor, y: Tensor) -> Tensor:
            return model.flows[0](float(t), y.view_as(h0)).flatten(1)

        def g(self, t: Tensor, y: Tensor) -> Tensor:
            return spec.sigma * y

    times = torch.tensor([0.0, spec.horizon], device=images.device)
    dt = spec.horizon / spec.steps
    end = sdeint(Equation(), h0.flatten(1), times, dt=dt, method="euler")[1]
    logits: Tensor = model.head(end.view_as(h0))
    return logits.unflatten(0, (DRAWS, len(images)))


def cells(images: int = 10_000) -> Iterator[dict[str, Any]]:
    """Rows of the table: the attack cell of each way to compute."""
    model = network("cifar")
    data = random_data(images)
    part = data.subset(2048)
    ways: dict[str, tuple[ImageDataset, Callable[[ImageDataset], float]]] = {}
    for precision in ("fp32", "tf32", "bf16"):
        ours = model.with_compute(Compute("cuda")).with_precision(precision)  # type: ignore[arg-type]
        ways[f"pgd, {precision}"] = data, lambda given, ours=ours: cell(ours, given)  # type: ignore[misc]
    ways["a user's loop, torch.randn, torch's own TF32"] = part, lambda given: by_hand(model, given)
    ways["foolbox LinfPGD, EOT wrapper, torch's own TF32"] = part, lambda given: foolbox_eot(model, given)
    for name, (given, work) in ways.items():
        work(given.subset(ROWS // DRAWS))
        yield _rate(name, len(given), work(given))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        few = data.subset(64)
        cpu = network("cifar", "cpu")
        cell(cpu, few.subset(8), 256)
        yield _rate(f"pgd, two threads of the host ({os.cpu_count()} cores)", len(few), cell(cpu, few, 256))
    finally:
        torch.set_num_threads(threads)


def _rate(name: str, images: int, taken: float) -> dict[str, Any]:
    return {
        "PGD-20, 8 draws, cifar preset": name,
        "images": images,
        "seconds": taken,
        "images a second": images / taken,
        "gradients a second": images * STEPS * DRAWS / taken,
    }


def scoring(images: int = 2048, draws: int = 32) -> Iterator[dict[str, Any]]:
    """Rows of the table: images x draws a second, scored to records."""
    data = random_data(images)
    for preset in ("digits", "cifar"):
        for precision in ("fp32", "tf32", "bf16"):
            model = network(preset).with_precision(precision)  # type: ignore[arg-type]
            model = model.with_compute(Compute("cuda"))
            given = data if preset == "cifar" else _grey(data)
            settings = ScoreSettings(draws, rows=ROWS)
            floats = to_float(given.images)
            taken = seconds(lambda: score_records(model, given, floats, settings), most=3)  # noqa: B023
            yield {
                "preset": preset,
                "precision": precision,
                "images x draws a second": images * draws / taken,
            }
    model = network("cifar")
    batch = to_float(data.images[: 1024 // DRAWS]).cuda()
    for name, work in (
        ("torchsde, folded draws, torch's own TF32", torchsde_pass),
        ("a user's loop, torch.randn, torch's own TF32", plain_pass),
    ):
        with torch.no_grad():
            taken = seconds(lambda: work(model, batch))  # noqa: B023
        yield {"preset": "cifar", "precision": name, "images x draws a second": 1024 / taken}


def _grey(data: ImageDataset) -> ImageDataset:
    return ImageDataset.whole("random", "test", data.images[:, :1], data.labels, data.class_names)


def corruptions(batch: int = 1024) -> Iterator[dict[str, Any]]:
    """Rows of the table: corrupted images a second, severity 3, on the GPU and on its host."""
    images = to_float(random_data(batch).images)
    here = images.cuda()
    for name in CORRUPTIONS:
        taken = seconds(lambda: corrupt(here, name, 3), budget=0.1, most=5)  # noqa: B023
        began = time.perf_counter()
        corrupt(images[:128], name, 3)
        host = time.perf_counter() - began
        yield {"corruption": name, "images a second": batch / taken, "on the host's CPU": 128 / host}
