"""`init_gate`: the files of a gate for checkpoints of one's own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robustbench_sde.api.arguments import Budget, attacks_of, budgets_of, norm_of
from robustbench_sde.api.models import find_checkpoints
from robustbench_sde.api.run import run
from robustbench_sde.data import load_dataset
from robustbench_sde.errors import BenchError, counted, tell
from robustbench_sde.evaluation.paired import drop_of_decisions, images_without_change
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.located import shipped_checkpoints
from robustbench_sde.progress import Bars
from robustbench_sde.regression import scaffold
from robustbench_sde.regression.policy import load_policy
from robustbench_sde.storage.files import atomic_write
from robustbench_sde.storage.provenance import ignored_by_git, requirement


@dataclass(frozen=True)
class GateFiles:
    """Files of a gate, and what is left to do by hand."""

    #: files, the baseline last
    files: tuple[Path, ...]
    #: number of cells of the baseline
    cells: int
    #: sentences on what somebody has to do before the workflow works
    to_do: tuple[str, ...]


def init_gate(
    checkpoints: str | Path | Sequence[str | Path] | None = None,
    dataset: str = "digits",
    *,
    attack: str | Sequence[str] = "pgd",
    norm: str = "linf",
    eps: Budget | Sequence[Budget] = 0.03,
    images: int | Literal["all"] = 360,
    max_drop: float = 0.02,
    data_dir: str | Path | None = None,
    download: bool = False,
    install: str | None = None,
    device: str | Compute = "auto",
    force: bool = False,
    progress: bool = False,
    bars: Bars | None = None,
) -> GateFiles:
    """Write the files of a gate into the current folder: suite, baseline, policy, workflow (docs/ci.md).

    The suite is run once for the baseline. After an interruption the same call continues.

    Args:
        checkpoints: as in `run`; None: all in checkpoints/ that were trained on the data set.
        dataset: name of the data set.
        attack: name of an attack with a budget, or several.
        norm: norm of the attacks.
        eps: budget for images in [0, 1], like 0.03 or ``"8/255"``, or several.
        images: number of test images of the baseline and of every later run, or `"all"`.
        max_drop: largest drop of an accuracy that the policy tolerates, as a share.
        data_dir: as in `load_dataset`.
        download: as in `load_dataset`.
        install: what `pip install` takes in the workflow; None: this package as it is installed here.
        device: as in `attack`.
        force: whether files that are there are replaced, and another run in reports/gate.
        progress: as in `attack`.
        bars: as in `attack`.

    Returns:
        The files, the number of cells of the baseline, and what is left to do by hand.

    Raises:
        BenchError: a file is there already, or the suite cannot be run.
        InvalidEvaluationError: a cell must not be used.
    """
    load_policy(max_drop=max_drop)
    named = [checkpoints] if isinstance(checkpoints, str | Path) else checkpoints
    found = find_checkpoints([Path(path) for path in named or ()], dataset)
    load_dataset(dataset, images=1, data_dir=data_dir, download=download)  # a wrong name writes no file
    if images != "all":
        _tell_of_power(int(images), max_drop)
    shipped = shipped_checkpoints()
    names = [path.stem if path in shipped else path.as_posix() for path in found]
    place = None if data_dir is None else str(data_dir)
    package = install or requirement()
    ignore = Path(".gitignore")
    present = ignore.read_text(encoding="utf-8") if ignore.exists() else ""
    texts = {
        Path(scaffold.SUITE): scaffold.suite_text(
            names,
            dataset=dataset,
            data_dir=place,
            images=None if images == "all" else images,
            attacks=list(attacks_of(attack)),
            norm=norm_of(norm) or norm,
            eps=[each for each in budgets_of(eps, norm) if each is not None],
        ),
        Path(scaffold.POLICY): scaffold.policy_text(max_drop),
        Path(scaffold.WORKFLOW): scaffold.workflow_text(package, dataset=dataset, data_dir=place),
    }
    baseline = Path(scaffold.BASELINE)
    taken = [path for path, text in texts.items() if path.exists() and path.read_text("utf-8") != text]
    taken += [baseline] * baseline.exists()
    if taken and not force:
        raise BenchError(f"{taken[0]} exists; give `force` to replace the files of the gate")
    for path, text in [*texts.items(), (ignore, scaffold.gitignore_text(present))]:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    result = run(
        scaffold.SUITE,
        download=download,
        device=device,
        out=scaffold.RUN,
        force=force,
        progress=progress,
        bars=bars,
    )
    cells = result.save_baseline(baseline)
    if images == "all":
        _tell_of_power(int(result.summary["images"].max()), max_drop)
    to_do = [f"commit {', '.join(map(str, [*texts, ignore, baseline]))}"]
    own = [path.as_posix() for path in found if path not in shipped]
    if own:
        to_do.append(f"commit {', '.join(own)}, which the workflow reads")
    for ignored in ignored_by_git([*own, *map(str, texts), str(baseline)]):
        tell(f"git ignores {ignored}, which the workflow needs")
    unknown = " and ".join(word for word in ("OWNER", "REVISION") if word in package)
    if unknown:
        to_do.append(f"replace {unknown} in {scaffold.WORKFLOW} by that of your copy of sde-bench")
    return GateFiles((*texts, ignore, baseline), cells, tuple(to_do))


def _tell_of_power(images: int, max_drop: float) -> None:
    """Say if so few images leave even networks that have not changed without a verdict."""
    needed = images_without_change(max_drop)
    if images < needed:
        excluded = 100 * drop_of_decisions(0, 0, images, 0.05).high
        tell(
            f"{counted(images, 'image')}, none of them changed, exclude a drop of {excluded:.1f} points, "
            f"not of {100 * max_drop:g}: this gate will call every run inconclusive; take {needed} images or "
            f"more, or a `max_drop` of {math.ceil(10 * excluded) / 1000:g}"
        )
