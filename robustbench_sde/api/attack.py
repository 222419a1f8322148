"""`attack`: classifiers under attacks."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from robustbench_sde.api.evaluation import Out, evaluate_work
from robustbench_sde.api.models import Models, compute_of, sources_of
from robustbench_sde.api.result import Result
from robustbench_sde.choices import DecisionRule
from robustbench_sde.data import ImageDataset
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.attacks.registry import plan_attacks
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import attack_cells
from robustbench_sde.runs.work import Work


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
    smoothing: float | Sequence[float] | None = None,
    score_draws: int | Literal["auto"] = 32,
    rule: DecisionRule = "mean-prob",
    seed: int = 0,
    batch_size: int = 256,
    device: str | Compute = "auto",
    out: Out = None,
    save_images: str | None = None,
    cache: bool = False,
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
        precision: of checkpoints, `fp32`, or `tf32` or `bf16`: other numbers.
        smoothing: standard deviation of Gaussian noise that every draw adds to the image, in units of images
            in [0, 1], before anything else and without clipping; several make as many classifiers of each
            model. None: no such noise.
        score_draws: draws averaged to decide an image's class; `"auto"`: as few, up to 256, as decide alike.
        rule: `mean-prob` (argmax of the mean softmax), `vote` (most frequent argmax) or `single`.
        seed: of everything random, a whole number of 64 bits.
        batch_size: folded rows (images x draws) in one pass, fewer where memory is short; changes no number.
        device: `auto`, `cpu`, `cuda` or `mps`, for checkpoints; a classifier in memory stays where it is. A
            `Compute` says more.
        out: folder of a run, where the same call goes on after an interruption and nothing is done twice;
            `"auto"` is one in reports/ that is named after the work. None: nothing is written.
        save_images: `npz` or `safetensors`: write all attacked images into `out` as well.
        cache: whether equal cells of other runs beside `out` are taken over.
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
    sources = sources_of(models, data, sigma=sigma, noise=noise, precision=precision, smoothing=smoothing)
    cells = [cell for source in sources for cell in attack_cells(source, attacks, settings)]
    return evaluate_work(
        "attack", Work.of(cells, data), compute_of(device), out, bars, save_images, cache=cache
    )
