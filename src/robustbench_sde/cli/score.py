"""`sde-bench score`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sde.cli import options as o
from robustbench_sde.cli.attack import run_name
from robustbench_sde.errors import BenchError, ExitCode

if TYPE_CHECKING:
    from robustbench_sde.results.images import PerturbedImages


def score_command(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            help=".npz, .npy or .safetensors with x (n, C, H, W) or (n, H, W, C), floats in [0, 1] or uint8; "
            "ids, their places in the split; y, their labels.",
        ),
    ],
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="What judges them; may be repeated. Default: all in checkpoints/ of the data set."),
    ] = None,
    norm: Annotated[
        str | None, typer.Option(help="linf or l2; default: what the file says.", rich_help_panel="Budget")
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            help="The budget that they keep, which is verified; default: what the file says.",
            rich_help_panel="Budget",
        ),
    ] = None,
    model: o.Model = None,
    weights: o.Weights = None,
    normalize: o.Normalize = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set of the originals; default: what the file says, or digits.", rich_help_panel="Data"
        ),
    ] = None,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    sigma: o.Sigma = None,
    noise: o.Noise = True,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    noise_backend: o.NoiseBackend = "host",
    score_draws: o.ScoreDraws = 32,
    rule: o.RuleOption = "mean-prob",
    seed: o.Seed = 0,
    batch_size: o.BatchSize = 256,
    out: o.Out = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Judge anybody's perturbed images: verify them, score them on fresh draws, and print the table.

    Files with `ids` are paired with their originals; without, they must be the whole split, its first n
    images, or the n that --images n takes, whichever is nearest.

    [bold]Example:[/bold] sde-bench score adversarial.npz --checkpoint digits-ode --norm linf --eps 8/255
    """
    from robustbench_sde.evaluation.scoring import ScoreSettings
    from robustbench_sde.models.compute import Compute
    from robustbench_sde.perturbations.base import Clean
    from robustbench_sde.perturbations.given import Given, images_of
    from robustbench_sde.perturbations.norms import parse_budget
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.terminal import print_json, print_summary
    from robustbench_sde.results.images import PerturbedImages
    from robustbench_sde.results.run_folder import RunFolder
    from robustbench_sde.suite.cells import Cell
    from robustbench_sde.suite.module_source import about_modules
    from robustbench_sde.suite.run import run_cells

    settings = ScoreSettings(score_draws, rule, seed, batch_size)  # type: ignore[arg-type]
    compute = Compute.of(device, noise_backend=noise_backend)
    claimed = None if eps is None else parse_budget(eps)
    files = {path: PerturbedImages.read(path) for path in images}
    whole = o.test_data(dataset or _dataset(files), data_dir, download, image_size, None)
    data, *others = (images_of(found, whole) for found in files.values())
    if any(other.ids.tolist() != data.ids.tolist() for other in others):
        raise BenchError("the files are of different images: score them one by one")
    given = [Given.read(found, data, name=path.stem, norm=norm, eps=claimed) for path, found in files.items()]
    sources = o.find_sources(
        checkpoint, model, weights, normalize, data,
        sigma=sigma, noise=noise, precision=precision, compute=compute,
    )  # fmt: skip
    cells = [Cell(source, made, settings) for source in sources for made in (Clean(), *given)]
    folder = RunFolder(out or Path("reports") / f"score-{run_name(data.name, [c.key(data) for c in cells])}")
    with progress_bars(quiet=quiet) as bars:
        run = run_cells(cells, data, folder, compute=compute, bars=bars, about=about_modules(sources))
    if json:
        print_json(run.summary)
    else:
        print_summary(run.summary, folder=str(folder.path), reused=run.reused)
    if (run.summary["status"] != "ok").any():
        raise typer.Exit(ExitCode.INVALID)


def _dataset(files: "dict[Path, PerturbedImages]") -> str:
    names = {str(found.about["dataset"]) for found in files.values() if "dataset" in found.about}
    if len(names) > 1:
        raise BenchError(
            f"the files are of different data sets, {', '.join(sorted(names))}: name one with --dataset"
        )
    return next(iter(names), "digits")
