"""`sde-bench stability`."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sde.cli import options as o

_PERTURBATION = "Perturbations"


def stability_command(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(help="Checkpoints; default: all in checkpoints/ trained on the data set."),
    ] = None,
    paths: Annotated[int, typer.Option(help="Brownian paths for each image.", rich_help_panel="Scoring")] = 8,
    norm: Annotated[
        str,
        typer.Option(
            help="Of the random and the attacked images: linf or l2.", rich_help_panel=_PERTURBATION
        ),
    ] = "linf",
    eps: Annotated[
        str | None,
        typer.Option(
            help="Their budget: 0.03 or 8/255; default: 0.03 (linf), 0.5 (l2).", rich_help_panel=_PERTURBATION
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of pgd.", rich_help_panel=_PERTURBATION)] = 20,
    eot_draws: Annotated[
        int,
        typer.Option(help="Fresh draws averaged in every gradient of pgd.", rich_help_panel=_PERTURBATION),
    ] = 8,
    corruptions: o.Corruptions = "gaussian_blur",
    severity: o.Severity = "3",
    family: o.Family = None,
    dataset: o.Dataset = "digits",
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    images: o.Images = 20,
    sigma: o.Sigma = None,
    noise: o.Noise = True,
    device: o.Device = "auto",
    noise_backend: o.NoiseBackend = "host",
    score_draws: o.ScoreDraws = 32,
    rule: o.RuleOption = "mean-prob",
    seed: o.Seed = 0,
    batch_size: o.BatchSize = 256,
    out: o.Out = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """How fast do neighbouring states of a flow part, and does the theory of noise and stability say so?

    The top Lyapunov exponent and the drift's Lipschitz constant along the paths of real images, the condition
    sigma² > 2L where it applies, and how random, attacked and corrupted images move through the flow on the
    Brownian path of their clean selves. Writes stability/CHECKPOINT.json and a figure into the folder --out.

    [bold]Example:[/bold] sde-bench stability digits-ode digits-multiplicative --images 50
    """
    from robustbench_sde.cli.attack import run_name
    from robustbench_sde.evaluation.scoring import ScoreSettings
    from robustbench_sde.evaluation.stability.analysis import StabilitySettings, followed
    from robustbench_sde.models.compute import Compute
    from robustbench_sde.perturbations.norms import parse_budget
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.stability import print_stability, stability_figure
    from robustbench_sde.results.run_folder import RunFolder
    from robustbench_sde.results.stability import to_json
    from robustbench_sde.suite.cells import Source
    from robustbench_sde.suite.corruption import check_names
    from robustbench_sde.suite.stability import run_stability, stability_key

    perturbations = followed(
        norm,
        None if eps is None else parse_budget(eps),
        steps=steps,
        eot_draws=eot_draws,
        corruptions=corruptions,
        severities=o.parse_severities(severity),
        family=family,
    )
    score = ScoreSettings(score_draws, rule, seed, batch_size)  # type: ignore[arg-type]
    settings = StabilitySettings(paths, score)
    compute = Compute.of(device, noise_backend=noise_backend)
    data = o.test_data(dataset, data_dir, download, image_size, images)
    found = o.find_checkpoints(checkpoints, data.name)
    check_names(found)
    sources = [Source.of(path, data, sigma=sigma, noise=noise) for path in found]
    keys = [stability_key(source, data, perturbations, settings) for source in sources]
    folder = RunFolder(out or Path("reports") / f"stability-{run_name(data.name, keys)}")
    with progress_bars(quiet=quiet) as bars:
        reports, reused = run_stability(
            sources, data, perturbations, settings, folder, compute=compute, bars=bars
        )
    stability_figure(reports, folder)
    if json:
        print(to_json(reports))
    else:
        print_stability(reports, folder=str(folder.path), reused=reused)
