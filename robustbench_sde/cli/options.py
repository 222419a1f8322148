"""Options that several commands share, spelled and explained alike, and what their text means."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import robustbench_sde as rb
from robustbench_sde.errors import BenchError

if TYPE_CHECKING:
    from robustbench_sde.api.models import Model as AnyModel
    from robustbench_sde.api.result import Result
    from robustbench_sde.api.stability import Stability
    from robustbench_sde.data import ImageDataset
    from robustbench_sde.models.compute import Compute
    from robustbench_sde.storage.run_folder import RunFolder

_SEVERITIES = ("1", "2", "3", "4", "5")

_DATA = "Data"
_MODEL = "Model"
_SCORING = "Scoring"
_OUTPUT = "Output"
CORRUPTION = "Corruption"

Dataset = Annotated[
    str,
    typer.Option(
        help="Data set by name, image-folder:PATH, npz:FILE or huggingface:PATH.", rich_help_panel=_DATA
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Where the files of the data sets are.", rich_help_panel=_DATA)
]
Download = Annotated[bool, typer.Option("--download", help="Fetch missing files.", rich_help_panel=_DATA)]
ImageSize = Annotated[
    int | None, typer.Option(help="Resize images to this side (image folders).", rich_help_panel=_DATA)
]
Images = Annotated[
    int | None,
    typer.Option(help="How many test images; the first of a fixed random order.", rich_help_panel=_DATA),
]
Seed = Annotated[int, typer.Option(help="Of everything random.", rich_help_panel=_SCORING)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=_MODEL)]
Precision = Annotated[
    str,
    typer.Option(help="fp32, or bf16: faster on GPUs, other numbers.", rich_help_panel=_MODEL),
]
NoiseBackend = Annotated[
    str,
    typer.Option(
        help="What generates the noise, bit for bit the same: host or device.", rich_help_panel=_MODEL
    ),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        help="What the process may take, as 2GB; default: what is free. Batches shrink to fit.",
        rich_help_panel=_MODEL,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile drifts (needs a C++ compiler); on a CPU slower than not.",
        rich_help_panel=_MODEL,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        help="At most so many rows (images x draws) a pass, fewer if memory is short; changes no number.",
        rich_help_panel=_SCORING,
    ),
]
Sigma = Annotated[
    float | None,
    typer.Option(help="Noise scale at test time; default: as trained.", rich_help_panel=_MODEL),
]
Noise = Annotated[
    bool,
    typer.Option("--noise/--no-noise", help="Keep the noise at test time.", rich_help_panel=_MODEL),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="PKG.MODULE:FUNCTION",
        help="Evaluate the nn.Module that this function returns; or FILE.py:FUNCTION, or a plug-in by name. "
        "Imports and runs that code, as no checkpoint ever does.",
        rich_help_panel=_MODEL,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Its weights: .safetensors, a state dict (.pt, .pth), or a Hugging Face folder; only tensors "
        "are read.",
        rich_help_panel=_MODEL,
    ),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        metavar="MEAN,STD",
        help="What it expects of images in [0, 1]: 0.5,0.5, or all means, then all deviations; default: as "
        "they are.",
        rich_help_panel=_MODEL,
    ),
]


def parse_score_draws(text: str | int) -> int | str:
    """A whole number or ``auto``, for `ScoreDraws`."""
    if str(text) == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number, nor auto.") from None


ScoreDraws = Annotated[
    Any,
    typer.Option(
        parser=parse_score_draws,
        metavar="N|auto",
        help="Draws averaged to decide an image's class; auto: up to 256, as few as decide the same.",
        rich_help_panel=_SCORING,
    ),
]
RuleOption = Annotated[
    str, typer.Option("--rule", help="mean-prob, vote or single.", rich_help_panel=_SCORING)
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder to write; default: one in reports/, named after the work.", rich_help_panel=_OUTPUT
    ),
]
OutCheckpoint = Annotated[
    Path | None,
    typer.Option(
        help="The .safetensors file to write; default: one in checkpoints/.", rich_help_panel=_OUTPUT
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel=_OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.", rich_help_panel=_OUTPUT)]

Corruptions = Annotated[
    str,
    typer.Option(
        help="all, benchmark, noise, blur, weather, digital, names or gaussian:SIGMA, uniform:EPS, "
        "rotation:DEGREES, translation:PIXELS, with commas.",
        rich_help_panel=CORRUPTION,
    ),
]
Severity = Annotated[
    str, typer.Option(help="1 to 5: a range 1-5, or several with commas.", rich_help_panel=CORRUPTION)
]
Family = Annotated[
    str | None,
    typer.Option(
        help="Whose parameters: cifar, tiny-imagenet or imagenet; default: by the size of the images.",
        rich_help_panel=CORRUPTION,
    ),
]
FrostDir = Annotated[
    Path | None,
    typer.Option(help="Folder of the original frost photographs.", rich_help_panel=CORRUPTION),
]


def parse_severities(text: str) -> list[int]:
    """``3``, ``1-5`` or several with commas, in order, each once.

    Raises:
        BenchError: something is not a whole number from 1 to 5, or a range goes down.
    """
    severities: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        low, high = first.strip(), last.strip() if dash else first.strip()
        if not (low in _SEVERITIES and high in _SEVERITIES and low <= high):
            raise BenchError(f"severity {part.strip()!r} is not in 1 to 5; write 3, 1-5 or 1,3,5")
        severities |= set(range(int(low), int(high) + 1))
    return sorted(severities)


def parse_eps(text: str) -> list[float]:
    """``0.03``, ``8/255`` or several with commas, as numbers.

    Raises:
        BenchError: something is not a number.
    """
    from robustbench_sde.perturbations.norms import parse_budget

    return [parse_budget(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """Comma-separated names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def test_data(
    dataset: str, data_dir: Path | None, download: bool, image_size: int | None, images: int | None
) -> "ImageDataset":
    """The images that a command evaluates on."""
    return rb.load_dataset(
        dataset, split="test", images=images, data_dir=data_dir, download=download, image_size=image_size
    )


def find_models(
    checkpoints: list[Path] | None,
    model: str | None,
    weights: Path | None,
    normalize: str | None,
    data: "ImageDataset",
    *,
    sigma: float | None,
    noise: bool,
    compute: "Compute",
) -> "list[AnyModel] | None":
    """The checkpoints named and the module of --model; without either None, which is all in ``checkpoints/``.

    What the owner of the module should know is said on stderr.

    Raises:
        BenchError: the module cannot be evaluated on `data`, or options do not go together.
    """
    if model is None:
        if weights is not None or normalize is not None:
            raise BenchError("--weights and --normalize belong to --model")
        return [*checkpoints] if checkpoints else None
    from robustbench_sde.models.modules.adapter import Normalisation

    if sigma is not None:
        raise BenchError("--sigma does not reach into the module of --model; set its noise in your function")
    expected = Normalisation() if normalize is None else Normalisation.parse(normalize)
    mean, std = expected.mean, expected.std
    made = rb.as_classifier(model, data, weights=weights, mean=mean, std=std, noise=noise, device=compute)
    return [*(checkpoints or []), made]


def folder_of(result: "Result | Stability") -> "RunFolder":
    """Where a command has written."""
    from robustbench_sde.storage.run_folder import RunFolder

    assert result.folder is not None  # commands always give `out`
    return RunFolder(result.folder)
