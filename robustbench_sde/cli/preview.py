"""Define `sde-bench preview`."""

import math
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any

import typer

import robustbench_sde as rb
from robustbench_sde.cli import complete, inputs, texts
from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError


def preview_command(
    context: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(
            help="Data set by name, image-folder:PATH, npz:FILE or huggingface:PATH.",
            autocompletion=complete.datasets,
        ),
    ] = "digits",
    corruptions: Annotated[
        list[str] | None,
        typer.Option(
            "--corruptions",
            "--corruption",
            metavar="NAMES",
            help="Corruptions: all, benchmark, noise, blur, weather, digital, or names, separated by "
            "commas or repeated.",
            rich_help_panel=o.CORRUPTION,
            autocompletion=complete.corruptions,
        ),
    ] = None,
    severity: o.Severity = None,
    family: o.Family = None,
    frost_dir: o.FrostDir = None,
    attack: Annotated[
        str | None,
        typer.Option(
            help="Attack by name; use it instead of --corruptions.",
            rich_help_panel=o.ATTACK,
            autocompletion=complete.attacks,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint to attack.", rich_help_panel=o.ATTACK, autocompletion=complete.checkpoints
        ),
    ] = None,
    norm: o.Norm = "linf",
    eps: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BUDGETS",
            help="Budgets for images in [0, 1], separated by commas or repeated.",
            show_default="0.03",
            rich_help_panel=o.ATTACK,
        ),
    ] = None,
    smoothing: o.Smoothing = None,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    resize: o.Resize = None,
    crop: o.Crop = None,
    interpolation: o.Interpolation = "bilinear",
    class_order: o.ClassOrder = None,
    images: o.Images = 8,
    device: o.Device = "auto",
    score_draws: o.ScoreDraws = 32,
    seed: o.Seed = 0,
    out: Annotated[Path, typer.Option(help="PNG file to write.", rich_help_panel="Output")] = Path(
        "preview.png"
    ),
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write a contact sheet of perturbed images.

    One corruption gives one row for each image and one column for each severity. Several corruptions give one
    row each; the columns are images if there is one severity, else severities, and each row shows another
    image. --attack shows the original, the adversarial image and the amplified difference, with the class
    before and after.

    [bold]Example:[/bold] sde-bench preview digits --corruption fog,frost,snow --severity 1-5 --out fog.png
    """
    from robustbench_sde.reporting.contact_sheet import write_contact_sheet
    from robustbench_sde.reporting.preview import attacked, corrupted
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.terminal import print_entries

    if out.suffix != ".png":
        raise BenchError(f"--out {out} must end in .png")
    if corruptions and attack:
        raise BenchError("--corruptions and --attack exclude each other; give one")
    if len(texts.parse_smoothing(smoothing) or ()) > 1:
        raise BenchError("--smoothing of a preview is one number")
    budgets, severities = texts.parse_eps(eps or "0.03", norm), texts.parse_severities(severity or "1-5")
    data = inputs.load_images(context)
    if attack is None:
        sheet = corrupted(
            data,
            ",".join(texts.parts(corruptions or "all")),
            severities,
            family=family,
            frost_dir=frost_dir,
            seed=seed,
        )
    elif checkpoint is None:
        raise BenchError("--attack needs --checkpoint: the model that is attacked")
    else:
        with progress_bars(quiet=quiet) as bars:
            result = rb.attack(
                checkpoint,
                data,
                {texts.spelled(attack, complete.known("attacks")): {}},
                norm=norm,
                eps=budgets,
                **inputs.shared(context),
                bars=bars,
            )
        rows = result.summary.to_dict("records")
        made = [place for place, row in enumerate(rows) if row["perturbation"] not in ("clean", "control")]
        sheet = attacked(
            data,
            [_title(rows[place]) for place in made],
            [result.images_of(place) for place in made],
            [result.records_of(place)["prediction"].tolist() for place in (0, *made)],
        )
    write_contact_sheet(out, sheet.tiles, rows=sheet.rows, columns=sheet.columns)
    if json:
        print_entries({"path": str(out), "rows": sheet.rows, "columns": sheet.columns}, as_json=True)
    elif not quiet:
        print(f"{out}: {len(sheet.rows)} x {len(sheet.columns)} images")


def _title(row: dict[Hashable, Any]) -> str:
    """Return a title like ``pgd linf 0.03`` from a row of the summary."""
    eps = "" if math.isnan(row["eps"]) else f" {row['eps']:g}"
    return f"{row['perturbation']} {row['norm']}{eps}"
