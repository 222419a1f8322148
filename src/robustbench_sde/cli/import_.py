"""`sde-bench import`."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError


def import_command(
    file: Annotated[
        Path, typer.Argument(help="Weights that another code has saved: .pth, .pt or .safetensors.")
    ],
    preset: Annotated[
        str, typer.Option(help="Whose they are: liu2020, or odenet (torchdiffeq's MNIST example).")
    ] = "liu2020",
    noise: Annotated[
        str, typer.Option(help="What it was trained with: none, additive, multiplicative, or jump (dropout).")
    ] = "none",
    sigma: Annotated[
        float | None, typer.Option(help="Its scale, compared with the file's; default: the file's.")
    ] = None,
    dataset: o.Dataset = "cifar10",
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing checkpoint.")] = False,
    out: o.Out = None,
) -> None:
    """Take over a network that another code has trained: convert its weights into a checkpoint.

    [bold]Example:[/bold] sde-bench import sde_cifar10_1.0.pth --noise multiplicative --sigma 1.0
    """
    from robustbench_sde.models.importing import import_checkpoint

    path = out or Path("checkpoints") / f"{file.stem}.safetensors"
    if path.suffix != ".safetensors":
        raise BenchError(f"--out {path} must end in .safetensors")
    if path.exists() and not force:
        raise BenchError(f"{path} exists; give --force to overwrite it, or another --out")
    data = o.test_data(dataset, data_dir, download, image_size, None)
    header = import_checkpoint(file, path, data, preset=preset, noise=noise, sigma=sigma)
    term = " + ".join(f"{term.kind} sigma {term.sigma:g}" for term in header.model.noise) or "no noise"
    solved = f"{header.model.steps} steps of {header.model.solver}"
    typer.echo(
        f"{path}: {header.model.preset} for {data.name}, {term}, {header.model.blocks} flows, {solved}"
    )
