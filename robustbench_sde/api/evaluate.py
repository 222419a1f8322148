"""Attacks, corruptions, and anybody's images: perturb, score, and say how sure that is."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from robustbench_sde.api.models import Models, compute_of, find_checkpoints, sources_of
from robustbench_sde.api.result import Result
from robustbench_sde.data import ImageDataset
from robustbench_sde.data.official import open_official
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.scoring import Rule, ScoreSettings
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.attacks.planning import plan_attacks
from robustbench_sde.perturbations.base import Clean, Perturbation
from robustbench_sde.perturbations.corruptions import make_corruptions, stored_corruptions
from robustbench_sde.perturbations.given import Given, images_of
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import Cell, Source, attack_cells
from robustbench_sde.runs.corruption import check_names, corruption_table
from robustbench_sde.runs.live_source import LiveSource
from robustbench_sde.runs.module_source import about_modules
from robustbench_sde.runs.run import run_cells, run_in_memory
from robustbench_sde.storage.images import PerturbedImages, check_image_format
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import SUMMARY, table

#: Where results go: a folder, `"auto"` for one in reports/ that is named after the work, None for nowhere.
Out = str | Path | None


def attack(
    models: Models,
    data: ImageDataset,
    attack: str | Sequence[str] | Mapping[str, Mapping[str, Any]] = "pgd",
    *,
    norm: str | None = None,
    eps: float | Sequence[float | None] | None = None,
    sigma: float | None = None,
    noise: bool = True,
    precision: str = "fp32",
    score_draws: int | Literal["auto"] = 32,
    rule: Rule = "mean-prob",
    seed: int = 0,
    batch_size: int = 256,
    device: str | Compute = "auto",
    out: Out = None,
    save_images: str | None = None,
    bars: Bars | None = None,
    **parameters: Any,
) -> Result:
    """Attack images and score them on draws that the attack never saw.

    Args:
        models: a classifier, from `load_checkpoint` or `as_classifier`; a network of your own; a checkpoint's
            file, or its name in checkpoints/; or several of these. None: all checkpoints in checkpoints/ that
            were trained on the data set.
        data: what to attack, from `load_dataset`; of the shape and classes that the models take.
        attack: its name (`sde-bench list attacks`), or several; or several with parameters of their own, as
            ``{"pgd": {}, "cw": {"steps": 200}}``.
        norm: `linf` or `l2`; None is that of each attack. A minimal-norm attack that does not know it looks
            for the smallest change in its own norm.
        eps: the budget, in units of images in [0, 1], or several; None is the smallest change that an attack
            finds.
        sigma: noise scale of checkpoints at test time; None is the trained one.
        noise: False switches the noise off at test time.
        precision: of checkpoints, `fp32` or `bf16`: other numbers.
        score_draws: draws averaged to decide an image's class; `"auto"`: as few, up to 256, as decide alike.
        rule: `mean-prob` (argmax of the mean softmax), `vote` (most frequent argmax) or `single`.
        seed: of everything random, a whole number of 64 bits.
        batch_size: folded rows (images x draws) in one pass, fewer where memory is short; changes no number.
        device: `auto`, `cpu`, `cuda` or `mps`, for checkpoints; a classifier in memory stays where it is. A
            `Compute` says more.
        out: folder of a run, where the same call goes on after an interruption and nothing is done twice;
            `"auto"` is one in reports/ that is named after the work. None: nothing is written.
        save_images: `npz` or `safetensors`: write all attacked images into `out` as well.
        bars: told of cells and images.
        **parameters: fields of the attack's class: steps, eot_draws (draws averaged in every gradient, or
            `"auto"`), restarts, ... Of several attacks, each takes those that it has.

    Returns:
        For each model the clean row, the eps = 0 control and the attacks; records and images of each.

    Raises:
        BenchError: an argument is wrong.
        InvalidEvaluationError: without `out`: the control differs from clean, or an image is invalid.

    Source: PGD is that of Madry et al., ICLR 2018; expectation over transformation that of Athalye et al.,
    ICML 2018; docs/protocol.md has what is reported, and why.
    """
    budgets = list(eps) if isinstance(eps, Sequence) else [eps]
    if isinstance(attack, str):
        attacks = plan_attacks([attack], norm, budgets, {}, {attack: parameters})
    else:
        own = attack if isinstance(attack, Mapping) else {}
        attacks = plan_attacks(list(attack), norm, budgets, parameters, own)
    settings = ScoreSettings(score_draws, rule, seed, batch_size)
    sources = sources_of(models, data, sigma=sigma, noise=noise, precision=precision)
    cells = [cell for source in sources for cell in attack_cells(source, attacks, settings)]
    return _evaluated("attack", cells, data, compute_of(device), out, bars, save_images)


def score(
    models: Models,
    data: ImageDataset,
    images: Tensor | str | Path | Sequence[str | Path] | None = None,
    *,
    norm: str | None = None,
    eps: float | None = None,
    corruptions: str | None = None,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    family: str | None = None,
    frost_dir: str | Path | None = None,
    official: str | None = None,
    reference: str | Path | None = None,
    sigma: float | None = None,
    noise: bool = True,
    precision: str = "fp32",
    score_draws: int | Literal["auto"] = 32,
    rule: Rule = "mean-prob",
    seed: int = 0,
    batch_size: int = 256,
    device: str | Compute = "auto",
    out: Out = None,
    bars: Bars | None = None,
) -> Result:
    """Score the clean images, and beside them anybody's perturbed images, or common corruptions.

    Args:
        models: as in `attack`.
        data: labels, ids, and the originals that distances are measured from. Of images in files, the whole
            split: they are paired by their `ids`, or else by their number (docs/your-model.md).
        images: (n, C, H, W) floats in [0, 1] or uint8, in the order of `data`; or files of them: `.npz`,
            `.npy` or `.safetensors`.
        norm: `linf` or `l2`, of the ball that they are said to stay in; None is what a file says.
        eps: its radius, in units of images in [0, 1]; None for what a file says, or no ball. That they
            stay in it is verified.
        corruptions: names, with commas (`sde-bench list corruptions`): all, benchmark, blur, fog, ...
        severities: of the corruptions, each from 1 to 5.
        family: whose parameters: `cifar`, `tiny-imagenet` or `imagenet`; None goes by the size of the images.
        frost_dir: folder of the original frost photographs; without it, frost is synthetic.
        official: read published images instead of corrupting: ``cifar10-c:DIR`` and the like.
        reference: a checkpoint whose errors mCE is relative to; None: no mCE.
        sigma: as in `attack`.
        noise: as in `attack`.
        precision: as in `attack`.
        score_draws: as in `attack`.
        rule: as in `attack`.
        seed: as in `attack`.
        batch_size: as in `attack`.
        device: as in `attack`.
        out: as in `attack`.
        bars: as in `attack`.

    Returns:
        For each model the clean row and one for each file or corruption; records and images of each; and the
        table of corruptions.

    Raises:
        BenchError: an argument is wrong, or images and data do not match.
        InvalidEvaluationError: without `out`: an image is not finite, not in [0, 1], or not in the ball.
    """
    settings = ScoreSettings(score_draws, rule, seed, batch_size)
    if images is not None and (corruptions is not None or official is not None):
        raise BenchError("images are scored as they are: give images or corruptions")
    if corruptions is not None or official is not None:
        names = "benchmark" if corruptions is None else corruptions
        photographs = None if frost_dir is None else Path(frost_dir)
        made: Sequence[Perturbation] = _corruptions(data, names, severities, family, photographs, official)
    else:
        data, made = _given(images, data, norm, eps)
    sources = sources_of(models, data, sigma=sigma, noise=noise, precision=precision)
    base = None if reference is None else find_checkpoints([Path(reference)], data.name)[0]
    if base is not None and base.resolve() not in [source.path.resolve() for source in sources]:
        sources = [Source.of(base, data, sigma=sigma, noise=noise, precision=precision), *sources]
    cells = [Cell(source, one, settings) for source in sources for one in (Clean(), *made)]
    if corruptions is None and official is None:
        return _evaluated("score", cells, data, compute_of(device), out, bars)
    check_names([source.path for source in sources])
    result = _evaluated("corrupt", cells, data, compute_of(device), out, bars)
    return with_corruptions(result, cells, None if base is None else base.stem)


def with_corruptions(result: Result, cells: Sequence[Cell], reference: str | None = None) -> Result:
    """The result of these cells with its table of corruptions, written beside the others."""
    places = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
    status = dict(zip(places, result.summary["status"], strict=True))
    found = corruption_table(cells, status, lambda cell: result.records_of(places[cell]), reference)
    if result.folder is not None:
        RunFolder(result.folder).write_text("corruptions.csv", found.to_csv(index=False))
    return replace(result, corruptions=found)


def work_folder(out: str | Path, kind: str, data: ImageDataset, keys: Sequence[str]) -> RunFolder:
    """The folder that is asked for; of `"auto"` the same for the same work, so that the same call goes on."""
    if out != "auto":
        return RunFolder(Path(out))
    safe = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in data.name)
    mark = hashlib.sha256("".join(keys).encode()).hexdigest()[:8]
    return RunFolder(Path("reports") / f"{kind}-{safe}-{mark}")


def _evaluated(
    kind: str,
    cells: Sequence[Cell],
    data: ImageDataset,
    compute: Compute,
    out: Out,
    bars: Bars | None,
    save_images: str | None = None,
) -> Result:
    bars = bars or Bars()
    sources = list(dict.fromkeys(cell.source for cell in cells))
    for source in sources:
        if isinstance(source, LiveSource):  # stays where it is, and the manifest says where that is
            compute = replace(compute, device=str(source.model.device))
    kind_of_file = None if save_images is None else check_image_format(save_images)
    if out is None:
        if save_images is not None:
            raise BenchError("save_images writes into the folder of a run: give `out`")
        found = run_in_memory(cells, data, compute=compute, bars=bars)
        return Result(table([cell.row for cell in found], SUMMARY), _cells=found)
    folder = work_folder(out, kind, data, [cell.key(data) for cell in cells])
    run = run_cells(
        cells,
        data,
        folder,
        compute=compute,
        bars=bars,
        save_images=kind_of_file,
        about=about_modules(sources),
    )
    return Result(run.summary, folder.path, run.reused)


def _corruptions(
    data: ImageDataset,
    names: str,
    severities: Sequence[int],
    family: str | None,
    frost_dir: Path | None,
    official: str | None,
) -> list[Perturbation]:
    if official is None:
        return make_corruptions(names, severities, family=family, frost_dir=frost_dir)
    if family or frost_dir:
        raise BenchError("--family and --frost-dir are for making corruptions; --official reads them")
    return stored_corruptions(open_official(official), data, names, severities)


def _given(
    images: Tensor | str | Path | Sequence[str | Path] | None,
    whole: ImageDataset,
    norm: str | None,
    eps: float | None,
) -> tuple[ImageDataset, list[Given]]:
    """The originals, and what is said to have been made of them."""
    if images is None:
        return whole, []
    if isinstance(images, Tensor):
        return whole, [Given.of(images, whole, norm=norm or "", eps=eps)]
    paths = [Path(path) for path in ([images] if isinstance(images, str | Path) else images)]
    files = {path: PerturbedImages.read(path) for path in paths}
    data, *others = (images_of(found, whole) for found in files.values())
    if any(other.ids.tolist() != data.ids.tolist() for other in others):
        raise BenchError("the files are of different images: score them one by one")
    return data, [Given.read(one, data, name=path.stem, norm=norm, eps=eps) for path, one in files.items()]
