"""`score`: perturbed images of anybody, and corruptions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from robustbench_sde.api.arguments import (
    Budget,
    Data,
    Numbers,
    budget_of,
    corruptions_of,
    dataset_of,
    norm_of,
    severities_of,
)
from robustbench_sde.api.evaluation import Out, evaluate_work
from robustbench_sde.api.models import Models, compute_of, sources_of
from robustbench_sde.api.progress import shown
from robustbench_sde.api.result import Result
from robustbench_sde.choices import DecisionRule
from robustbench_sde.data import ImageDataset
from robustbench_sde.data.official import open_official
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.base import Clean, Perturbation
from robustbench_sde.perturbations.corruptions import make_corruptions, stored_corruptions
from robustbench_sde.perturbations.given import Given, images_of
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.names import with_distinct_names
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.images import PerturbedImages


def score(
    models: Models,
    data: Data,
    images: Tensor | str | Path | Sequence[str | Path] | None = None,
    *,
    norm: str | None = None,
    eps: Budget | None = None,
    corruptions: str | Sequence[str] | None = None,
    severities: int | str | Sequence[int | str] = (1, 2, 3, 4, 5),
    family: str | None = None,
    frost_dir: str | Path | None = None,
    official: str | None = None,
    reference: str | Path | None = None,
    sigma: float | None = None,
    noise: bool = True,
    precision: str = "fp32",
    smoothing: Numbers | None = None,
    score_draws: int | Literal["auto"] = 32,
    rule: DecisionRule = "mean-prob",
    try_draws: int = 1,
    seed: int = 0,
    batch_size: int = 256,
    device: str | Compute = "auto",
    out: Out = None,
    force: bool = False,
    progress: bool = False,
    bars: Bars | None = None,
) -> Result:
    """Score clean images, and perturbed images of any origin or common corruptions of them.

    Args:
        models: as in `attack`.
        data: original images with labels and ids, from which distances are measured, or a data set by name,
            as in `attack`. For images in files the whole split: the files are paired by their `ids`, or else
            by their number of images (docs/your-model.md).
        images: perturbed images, (n, C, H, W) floats in [0, 1] or uint8, in the order of `data`; or files
            with images: `.npz`, `.npy` or `.safetensors`.
        norm: norm of the ball in which the images must be, `linf` or `l2`; None takes that of the file.
        eps: radius of this ball, for images in [0, 1], like ``"8/255"``, which is verified; None takes that
            of the file, or no ball.
        corruptions: names, in a list or with commas (`sde-bench list corruptions`): all, benchmark, blur,
            fog, ...
        severities: severities of the corruptions, each from 1 to 5, or a text like ``"1-5"``.
        family: family of parameters: `cifar`, `tiny-imagenet` or `imagenet`; None depends on the image size.
        frost_dir: folder of the original frost photographs; without it, frost is synthetic.
        official: published corrupted images to read instead, like ``cifar10-c:DIR``.
        reference: checkpoint by whose errors mCE divides; None: no mCE.
        sigma: as in `attack`.
        noise: as in `attack`.
        precision: as in `attack`.
        smoothing: as in `attack`.
        score_draws: as in `attack`.
        rule: as in `attack`.
        try_draws: as in `attack`.
        seed: as in `attack`.
        batch_size: as in `attack`.
        device: as in `attack`.
        out: as in `attack`.
        force: as in `attack`.
        progress: as in `attack`.
        bars: as in `attack`.

    Returns:
        Rows for the clean images and each file or corruption of each model, with their records and images,
        and the table of corruptions.

    Raises:
        BenchError: an argument is wrong, or images and data do not match.
        InvalidEvaluationError: an image is not finite, not in [0, 1], or not in the ball. With `out` the
            row says so instead.
    """
    data, norm = dataset_of(data), norm_of(norm)
    settings = ScoreSettings(score_draws, rule, seed, batch_size, try_draws)
    if images is not None and (corruptions is not None or official is not None):
        raise BenchError("`images` and `corruptions` exclude each other; give one")
    if corruptions is not None or official is not None:
        names = "benchmark" if corruptions is None else corruptions_of(corruptions)
        photographs = None if frost_dir is None else Path(frost_dir)
        made: Sequence[Perturbation] = _corruptions(
            data, names, severities_of(severities), family, photographs, official
        )
    else:
        data, made = _given(images, data, norm, budget_of(eps, norm))
    sources = sources_of(models, data, sigma=sigma, noise=noise, precision=precision, smoothing=smoothing)
    base = None
    if reference is not None:
        own = sources_of(reference, data, sigma=sigma, noise=noise, precision=precision, smoothing=smoothing)
        sources = with_distinct_names([*own, *sources])
        base = sources[0].name
    work = Work.of((Cell(source, one, settings) for source in sources for one in (Clean(), *made)), data)
    kind = "score" if corruptions is None and official is None else "corrupt"
    with shown(progress, bars) as bars:
        return evaluate_work(kind, work, compute_of(device), out, bars, reference=base, force=force)


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
        raise BenchError("`family` and `frost_dir` are for making corruptions; `official` reads them")
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
    named = [images] if isinstance(images, str | Path) else list(images)
    if not named or not all(isinstance(each, str | Path) for each in named):
        kinds = sorted({type(each).__name__ for each in named}) or ["nothing"]
        raise BenchError(
            f"`images` is a {type(images).__name__} of {', '.join(kinds)}; give one tensor (n, C, H, W), "
            "like the first of what AutoAttack returns, or files"
        )
    paths = [Path(path) for path in named]
    files = {path: PerturbedImages.read(path) for path in paths}
    data, *others = (images_of(found, whole) for found in files.values())
    if any(other.ids.tolist() != data.ids.tolist() for other in others):
        raise BenchError("the files are of different images: score them one by one")
    return data, [Given.read(one, data, name=path.stem, norm=norm, eps=eps) for path, one in files.items()]
