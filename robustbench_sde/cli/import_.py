"""Define `sde-bench import`."""

from pathlib import Path
from typing import Annotated

import typer

import robustbench_sde as rb
from robustbench_sde.cli import inputs
from robustbench_sde.cli import options as o


def import_command(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="File of weights that other code has saved: .pth, .pt or .safetensors.")
    ],
    preset: Annotated[
        str, typer.Option(help="Family of the network: liu2020, or odenet (torchdiffeq's MNIST example).")
    ] = "liu2020",
    noise: Annotated[
        str,
        typer.Option(
            help="Noise with which the network was trained: none, or a kind of sde-bench list noise."
        ),
    ] = "none",
    sigma: Annotated[
        float | None, typer.Option(help="Noise scale, checked against the file; default: read from the file.")
    ] = None,
    dataset: o.Dataset = "cifar10",
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    resize: o.Resize = None,
    crop: o.Crop = None,
    interpolation: o.Interpolation = "bilinear",
    class_order: o.ClassOrder = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing checkpoint.")] = False,
    out: o.OutCheckpoint = None,
    json: o.Json = False,
) -> None:
    """Convert the weights of a network that other code has trained into a checkpoint.

    [bold]Example:[/bold] sde-bench import sde_cifar10_1.0.pth --noise multiplicative --sigma 1.0
    """
    from robustbench_sde.models.importing import check_import
    from robustbench_sde.reporting.terminal import print_entries

    check_import(file, preset, noise)  # before the data set is fetched or asked for
    data = inputs.load_images(context, whole=True)
    made = rb.import_checkpoint(file, data, out, preset=preset, noise=noise, sigma=sigma, force=force)
    if json:
        print_entries({"path": str(made.path), **made.header.model_dump(mode="json")}, as_json=True)
        return
    model = made.header.model
    term = " + ".join(f"{term.kind} sigma {term.sigma:g}" for term in model.noise) or "no noise"
    solved = f"{model.steps} steps of {model.solver}"
    typer.echo(f"{made.path}: {model.preset} for {data.name}, {term}, {model.blocks} flows, {solved}")
