"""Forward passes and gradients, as ratios to their convolutions alone."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import torch

from benchmarks.gpu.networks import (
    DRAWS,
    Convolutions,
    gradient_of,
    images_for,
    network,
    plain_pass,
    victim,
)
from benchmarks.gpu.noise import there
from benchmarks.gpu.timing import launches, replayed, seconds
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.compute import Compute

#: presets, each with the rows of a pass (images x draws): first those that take little time
SMALL = (("cifar", 256), ("digits", 256), ("cifar", 1024), ("digits", 1024))
LARGE = (("cifar", 4096), ("digits", 4096), ("liu2020", 256))

_CHOICES = {field.name for field in fields(Compute)}
GRAPHS, LAYOUTS = "graphs" in _CHOICES, "channels_last" in _CHOICES


def variants(model: Classifier, rows: int) -> Iterator[tuple[str, str, Classifier]]:
    """(name, precision, network) of each way to compute."""

    def computed(backend: str, **more: Any) -> Classifier:
        return model.with_compute(Compute("cuda", backend, **more))  # type: ignore[arg-type]

    eager = {"graphs": False} if GRAPHS else {}
    for name, backend in there().items():
        if name != "kernel" and (rows > 1024 or model.spec.features > 64):
            continue  # seconds a pass
        yield f"eager, noise by {name}", "fp32", computed(backend, **eager)
    if GRAPHS:
        yield "graphs", "fp32", computed("auto")
        for precision in ("tf32", "bf16"):
            yield "graphs", precision, computed("auto").with_precision(precision)
            if LAYOUTS:
                usual = computed("auto", channels_last=False).with_precision(precision)
                yield "graphs, states in NCHW", precision, usual
    else:
        yield "eager, noise by torch", "bf16", computed("device").with_precision("bf16")


def _flags(precision: str) -> torch.dtype:
    """Set what torch's own convolutions do; versions without `tf32` leave it to torch, which takes TF32."""
    torch.backends.cudnn.allow_tf32 = precision == "tf32" or not GRAPHS
    return torch.bfloat16 if precision == "bf16" else torch.float32


def convolutions(preset: str, rows: int) -> dict[str, tuple[float, float]]:
    """Seconds of the convolutions alone, (forward, with gradient), by precision: the faster memory layout."""
    model = network(preset)
    images = images_for(model, rows)
    best = {}
    for precision in ("fp32", "tf32", "bf16"):
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        for name, layout in (("", torch.contiguous_format), (" channels_last", torch.channels_last)):
            alone = Convolutions(model, images, layout, dtype)
            best[precision + name] = (replayed(alone.forward), replayed(alone.gradient))
    torch.backends.cudnn.allow_tf32 = True
    return best


def table(sizes: tuple[tuple[str, int], ...]) -> Iterator[dict[str, Any]]:
    """Rows of the table for presets and rows of a pass, each as soon as it is known."""
    for preset, rows in sizes:
        alone = convolutions(preset, rows)
        for name, (forward, gradient) in alone.items():
            yield _row(preset, rows, "the convolutions alone", name, forward, gradient, (forward, gradient))
        model = network(preset)
        images = images_for(model, rows)
        if preset != "liu2020":
            fp32 = alone["fp32" if GRAPHS else "tf32"]
            torch.backends.cudnn.allow_tf32 = not GRAPHS
            with torch.no_grad():
                forward = seconds(lambda: plain_pass(model, images))  # noqa: B023
            gradient = seconds(lambda: gradient_of(lambda x: plain_pass(model, x), images))  # noqa: B023
            torch.backends.cudnn.allow_tf32 = True
            yield _row(
                preset,
                rows,
                "a user's loop, torch.randn",
                "fp32" if GRAPHS else "tf32",
                forward,
                gradient,
                fp32,
            )
        for name, precision, network_ in variants(model, rows):
            asked = victim(network_, images)
            work: tuple[Callable[[], object], Callable[[], object]] = (
                lambda asked=asked: asked.look(images, 0),  # type: ignore[misc]  # noqa: B023
                lambda asked=asked: asked.gradient(images, 0),  # type: ignore[misc]  # noqa: B023
            )
            base = alone[precision if GRAPHS or precision == "bf16" else "tf32"]
            found = _row(preset, rows, name, precision, seconds(work[0]), seconds(work[1]), base)
            if rows == 1024:
                found["launches of a gradient"] = launches(work[1])
            yield found
        torch.cuda.empty_cache()


def compiled(rows: int = 1024) -> Iterator[dict[str, Any]]:
    """Rows of the table for drifts that torch compiles."""
    for preset in ("cifar", "digits"):
        alone = convolutions(preset, rows)
        model = network(preset).with_compute(Compute("cuda", "device", compile=True))
        images = images_for(model, rows)
        asked = victim(model, images)
        for step in range(2):
            asked.gradient(images, step)
        torch.backends.cudnn.allow_tf32 = not GRAPHS
        forward = seconds(lambda: asked.look(images, 0))  # noqa: B023
        gradient = seconds(lambda: asked.gradient(images, 0))  # noqa: B023
        torch.backends.cudnn.allow_tf32 = True
        yield _row(preset, rows, "--compile", "fp32", forward, gradient, alone["fp32"])


def _row(
    preset: str,
    rows: int,
    how: str,
    precision: str,
    forward: float,
    gradient: float,
    alone: tuple[float, float],
) -> dict[str, Any]:
    return {
        "preset": preset,
        "rows": rows,
        "how": how,
        "precision": precision,
        "forward ms": 1e3 * forward,
        "forward / convolutions": forward / alone[0],
        "gradient ms": 1e3 * gradient,
        "gradient / convolutions": gradient / alone[1],
        "images x draws a second": rows / forward,
        "gradients a second": rows / gradient,
        "draws": DRAWS,
    }
