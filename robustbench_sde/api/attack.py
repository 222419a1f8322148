"""`attack`: classifiers under attacks."""

from collections.abc import Mapping
from typing import Any, Literal

from robustbench_sde.api.arguments import (
    Attacks,
    Budgets,
    Data,
    Numbers,
    attacks_of,
    budgets_of,
    dataset_of,
    norm_of,
)
from robustbench_sde.api.evaluation import Out, evaluate_work
from robustbench_sde.api.models import Models, compute_of, sources_of
from robustbench_sde.api.progress import shown
from robustbench_sde.api.result import Result
from robustbench_sde.choices import DecisionRule
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.evaluation.tries import check_tries
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.attacks.registry import plan_attacks
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import attack_cells
from robustbench_sde.runs.work import Work


def attack(
    models: Models,
    data: Data,
    attack: Attacks = "pgd",
    *,
    norm: str | None = None,
    eps: Budgets = None,
    sigma: float | None = None,
    noise: bool = True,
    precision: str = "fp32",
    smoothing: Numbers | None = None,
    score_draws: int | Literal["auto"] = 32,
    rule: DecisionRule = "mean-prob",
    tries: int | None = None,
    try_draws: int = 1,
    seed: int = 0,
    batch_size: int = 256,
    device: str | Compute = "auto",
    out: Out = None,
    force: bool = False,
    save_images: str | None = None,
    cache: bool = False,
    progress: bool = False,
    bars: Bars | None = None,
    **parameters: Any,
) -> Result:
    """Attack images and score them on draws that the attack never saw.

    Args:
        models: a classifier from `load_checkpoint` or `as_classifier`, any `nn.Module`, the file of a
            checkpoint, or its name in checkpoints/; or a list of these. None: all checkpoints in
            checkpoints/ that were trained on the data set.
        data: images to attack, from `load_dataset`, with the shape and the classes of the models; or the
            name of a data set, whose test split is taken as a whole.
        attack: name of an attack (`sde-bench list attacks`), or several names, in a list or with commas; or
            a mapping from names to parameters of this attack, like ``{"pgd": {}, "cw": {"steps": 200}}``.
        norm: `linf` or `l2`; None is the first norm of each attack. A minimal-norm attack that does not
            support the norm finds the smallest perturbation in its own norm.
        eps: budget for images in [0, 1], like 0.03 or ``"8/255"``, or several budgets; None asks for the
            smallest perturbation.
        sigma: noise scale of checkpoints at test time; None is the trained one.
        noise: False switches the noise off at test time.
        precision: number format for checkpoints: `fp32`, `tf32` or `bf16`. The last two change numbers.
        smoothing: standard deviation of Gaussian noise that every draw adds to the image, for images in [0,
            1], before anything else and without clipping. Several values give one classifier for each value
            and model. None: no such noise.
        score_draws: number of draws that decide the class of an image; `"auto"` takes up to 256, as few as
            give the same decision.
        rule: decision rule: `mean-prob` (argmax of the mean softmax), `vote` (most frequent argmax) or
            `single` (first draw).
        tries: number of submissions that `Result.survives` will be asked about; if the score draws are too
            few for it, nothing is attacked. None: no such check.
        try_draws: number of draws, averaged by the rule, that answer one submission of an attacker who may
            submit an image again (`Result.survives`); the score draws give as many answers as whole blocks
            fit.
        seed: seed of all random numbers, a whole number of 64 bits.
        batch_size: largest number of rows (images x draws) in one pass, fewer if memory is short; does not
            change results.
        device: device for checkpoints: `auto`, `cpu`, `cuda` or `mps`, or a `Compute` with more settings. A
            classifier in memory stays on its device.
        out: folder of the run. After an interruption the same call continues, and nothing is computed
            twice. `"auto"` is a folder in reports/ with a name derived from the settings. None: nothing is
            written.
        force: whether another run that `out` holds is replaced. False: that is an error. A run whose cells
            are all asked for goes on in any case. Nobody can know what the code of an `nn.Module` in memory
            computes, so that every call evaluates it anew: a second call with the same `out` is another run,
            which needs True. Functions in a file, by `as_classifier("net.py:make", data)` or `--model`, are
            recognised and go on.
        save_images: format, `npz` or `safetensors`, in which all attacked images are written into `out`;
            None: they are not written.
        cache: whether equal cells of other runs in the same folder as `out` are reused.
        progress: whether to draw progress, on a terminal or in a notebook.
        bars: receiver of progress, of cells and images, in place of `progress`.
        **parameters: fields of the class of the attack: steps, eot_draws (draws averaged in every gradient,
            or `"auto"`), restarts, ... If there are several attacks, each takes the parameters that it has.

    Returns:
        Rows for the clean images, the eps = 0 control and every attack of each model, with their records
        and images.

    Raises:
        BenchError: an argument is wrong.
        InvalidEvaluationError: the control differs from the clean row, or an image is invalid. With `out`
            the row says so instead.

    Source: PGD is that of Madry et al., ICLR 2018; expectation over transformation that of Athalye et al.,
    ICML 2018; docs/protocol.md explains the reported numbers.
    """
    data, norm, names = dataset_of(data), norm_of(norm), attacks_of(attack)
    budgets = budgets_of(eps, norm)
    if isinstance(attack, str) and len(names) == 1:
        (name,) = names
        attacks = plan_attacks([name], norm, budgets, {}, {name: parameters})
    else:
        own = names if isinstance(names, Mapping) else {}
        attacks = plan_attacks(list(names), norm, budgets, parameters, own)
    settings = ScoreSettings(score_draws, rule, seed, batch_size, try_draws)
    sources = sources_of(models, data, sigma=sigma, noise=noise, precision=precision, smoothing=smoothing)
    if tries is not None:
        random = any(source.stochastic for source in sources)
        check_tries(tries, score_draws, try_draws=try_draws, random=random)
    cells = [cell for source in sources for cell in attack_cells(source, attacks, settings)]
    work = Work.of(cells, data)
    with shown(progress, bars) as bars:
        return evaluate_work(
            "attack", work, compute_of(device), out, bars, save_images, cache=cache, force=force
        )
