"""`versus`: does the noise help?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from robustbench_sde.api.arguments import Attacks, Budgets, Data, Numbers, dataset_of
from robustbench_sde.api.attack import attack as attack_models
from robustbench_sde.api.evaluation import Out
from robustbench_sde.api.models import Model, find_checkpoints
from robustbench_sde.api.result import Result
from robustbench_sde.choices import DecisionRule
from robustbench_sde.errors import BenchError
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.located import known_checkpoints, locate
from robustbench_sde.progress import Bars
from robustbench_sde.regression.answer import Versus
from robustbench_sde.runs.names import distinct_paths, names_of_files
from robustbench_sde.storage.runs_here import find_run


def versus(
    reference: str | Path,
    models: Model | Sequence[Model] | None = None,
    data: Data | None = None,
    attack: Attacks = "pgd",
    *,
    run: str | Path | Result | None = None,
    kinds: str | Mapping[str, str] | None = None,
    allow_unequal: bool = False,
    norm: str | None = None,
    eps: Budgets = None,
    sigma: float | None = None,
    noise: bool = True,
    precision: str = "fp32",
    smoothing: Numbers | None = None,
    score_draws: int | Literal["auto"] = 32,
    rule: DecisionRule = "mean-prob",
    seed: int = 0,
    batch_size: int = 256,
    device: str | Compute = "auto",
    out: Out = "auto",
    force: bool = False,
    progress: bool = False,
    bars: Bars | None = None,
    **parameters: Any,
) -> Versus:
    """Find out whether the noise helps: compare networks with a reference, image by image (docs/versus.md).

    With `run` the cells of a run are compared. Without `run` all models are attacked as by `attack`; stored
    cells of this run, and of other runs in the same folder, are reused.

    Args:
        reference: checkpoint file, its name in checkpoints/, or the name of a kind.
        models: networks to compare with the reference, as in `attack`; None: all checkpoints in
            checkpoints/ that were trained on the data set.
        data: images to attack, from `load_dataset`, or a data set by name; needed without `run`.
        attack: attacks, as in `attack`.
        run: folder of a run, its name in reports/, or a result.
        kinds: patterns of names by kind, as a mapping or as ``sde=digits-mult*,ode=digits-ode*``; None:
            checkpoints whose headers differ only in the seed of the training are one kind.
        allow_unequal: whether networks that were attacked with unequal effort may be compared.
        norm: as in `attack`.
        eps: as in `attack`; required without `run`.
        sigma: as in `attack`.
        noise: as in `attack`.
        precision: as in `attack`.
        smoothing: as in `attack`; networks are compared with the reference at the same smoothing.
        score_draws: as in `attack`.
        rule: as in `attack`.
        seed: as in `attack`.
        batch_size: as in `attack`.
        device: as in `attack`.
        out: as in `attack`.
        force: as in `attack`.
        progress: as in `attack`.
        bars: as in `attack`.
        **parameters: as in `attack`.

    Returns:
        Both accuracies, their difference as a share with its 95 % interval, a p-value with Holm's
        correction and the smallest difference that would have been found, for every perturbation setting
        and network; and the answer in sentences.

    Raises:
        BenchError: an argument is wrong, the networks share no setting, or effort was unequal.
    """
    if run is not None:
        if models is not None or data is not None:
            raise BenchError("`run` has its own networks and images; leave out `models` and `data`")
        result = run if isinstance(run, Result) else Result.read(find_run(run))
        return result.versus(str(reference), kinds=kinds, allow_unequal=allow_unequal)
    if data is None:
        raise BenchError("`data` is None; give the images, or the folder of a run as `run`")
    several: list[Any] = (
        [] if models is None else list(models) if isinstance(models, list | tuple) else [models]
    )
    name = Path(reference).stem if str(reference).endswith(".safetensors") else str(reference)
    known = set(known_checkpoints())
    of_file = Path(reference).exists() or name in known
    if of_file and not several:
        data = dataset_of(data)
        several = [*find_checkpoints(None, data.name)]
    if of_file:
        several = [reference, *several]  # a file that is named twice counts once
        modules = [model for model in several if not isinstance(model, str | Path)]
        names = _names_of([Path(model) for model in several if isinstance(model, str | Path)])
        name = names[locate(Path(reference)).absolute()]
        if len(names) == 1 and not modules:
            raise BenchError(f"{name} is the only network here; name one to compare with it")
    result = attack_models(
        several or None,
        data,
        attack,
        norm=norm,
        eps=eps,
        sigma=sigma,
        noise=noise,
        precision=precision,
        smoothing=smoothing,
        score_draws=score_draws,
        rule=rule,
        seed=seed,
        batch_size=batch_size,
        device=device,
        out=out,
        force=force,
        cache=True,
        progress=progress,
        bars=bars,
        **parameters,
    )
    return result.versus(name, kinds=kinds, allow_unequal=allow_unequal)


def _names_of(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the names of checkpoints by their files; names tell apart two that are called alike."""
    names = names_of_files(distinct_paths([locate(path) for path in paths]))
    return {path.absolute(): name for path, name in names.items()}
