"""`sde-bench audit`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError, ExitCode

_ATTACK = "Attack"


def audit_command(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A file, or the name of one in checkpoints/; or give --model.")
    ] = None,
    norm: Annotated[str, typer.Option(help="linf or l2.", rich_help_panel=_ATTACK)] = "linf",
    eps: Annotated[
        str | None,
        typer.Option(
            help="The budget whose number is audited: 0.03 or 8/255; default: 0.03 (linf), 0.5 (l2).",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of that number's pgd.", rich_help_panel=_ATTACK)] = 20,
    eot_draws: Annotated[
        int, typer.Option(help="Fresh draws averaged in every gradient.", rich_help_panel=_ATTACK)
    ] = 8,
    model: o.Model = None,
    weights: o.Weights = None,
    normalize: o.Normalize = None,
    dataset: o.Dataset = "digits",
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    images: o.Images = 50,
    sigma: o.Sigma = None,
    noise: o.Noise = True,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    noise_backend: o.NoiseBackend = "host",
    memory_limit: o.MemoryLimit = None,
    compile_: o.Compile = False,
    score_draws: o.ScoreDraws = 32,
    rule: o.RuleOption = "mean-prob",
    seed: o.Seed = 0,
    batch_size: o.BatchSize = 256,
    out: o.Out = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Can the robustness number of a checkpoint be trusted? Looks for masked gradients and broken controls.

    Every rule is a line: pass, warn, fail or skip, with its numbers. Writes audits/CHECKPOINT.json into the
    run folder --out. Exit code 4 when a rule fails.

    [bold]Example:[/bold] sde-bench audit digits-ode --eps 8/255
    """
    from robustbench_sde.evaluation.audit.audit import audit
    from robustbench_sde.evaluation.audit.lab import AuditSettings
    from robustbench_sde.evaluation.scoring import ScoreSettings
    from robustbench_sde.models.compute import Compute
    from robustbench_sde.models.memory import keep_freed_memory, rows_that_fit
    from robustbench_sde.perturbations.norms import parse_budget
    from robustbench_sde.reporting.audit import print_audit
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.results.audits import Verdict, write_audit

    budget = parse_budget(eps) if eps is not None else 0.5 if norm == "l2" else 0.03
    score = ScoreSettings(score_draws, rule, seed, batch_size)  # type: ignore[arg-type]
    settings = AuditSettings(norm, budget, steps, eot_draws, score)
    compute = Compute.of(device, noise_backend=noise_backend, memory_limit=memory_limit, compile=compile_)
    data = o.test_data(dataset, data_dir, download, image_size, images)
    if (checkpoint is None) == (model is None):
        raise BenchError("an audit is of one classifier: name a checkpoint or give --model")
    named = None if checkpoint is None else [checkpoint]
    (source,) = o.find_sources(
        named, model, weights, normalize, data,
        sigma=sigma, noise=noise, precision=precision, compute=compute,
    )  # fmt: skip
    folder = out or Path("reports") / f"audit-{source.path.stem}"
    keep_freed_memory()
    classifier = source.load(compute)
    rows = min(batch_size, rows_that_fit(classifier, compute.memory_limit) or batch_size)
    settings = replace(settings, score=replace(score, rows=rows))
    with progress_bars(quiet=quiet) as bars:
        report = audit(classifier, data, settings, sha256=source.sha256, bars=bars)
    written = write_audit(folder, report)
    if json:
        print(report.to_json())
    else:
        print_audit(report, path=str(written))
    if report.verdict == Verdict.FAIL:
        raise typer.Exit(ExitCode.INVALID)
