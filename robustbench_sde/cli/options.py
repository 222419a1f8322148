"""Define the options that several commands share, and parse their texts."""

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
    Path | None, typer.Option(help="Folder with the files of the data sets.", rich_help_panel=_DATA)
]
Download = Annotated[bool, typer.Option("--download", help="Download missing files.", rich_help_panel=_DATA)]
ImageSize = Annotated[
    int | None,
    typer.Option(help="Resize images to this side in pixels (image folders).", rich_help_panel=_DATA),
]
Images = Annotated[
    int | None,
    typer.Option(help="Number of test images: the first of a fixed random order.", rich_help_panel=_DATA),
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.", rich_help_panel=_SCORING)]
Device = Annotated[str, typer.Option(help="Device that computes.", rich_help_panel=_MODEL)]
Precision = Annotated[
    str,
    typer.Option(
        help="Number format; tf32 and bf16 are faster on GPUs and give other results.", rich_help_panel=_MODEL
    ),
]
NoiseBackend = Annotated[
    str,
    typer.Option(
        help="What generates the noise: auto, host, device or torch; the same random bits.",
        rich_help_panel=_MODEL,
    ),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        help="Memory that the process may use, like 2GB; default: all that is free. Batches shrink to fit.",
        rich_help_panel=_MODEL,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile drifts (needs a C++ compiler); on a CPU this is slower.",
        rich_help_panel=_MODEL,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        help="Largest number of rows (images x draws) in a pass, fewer if memory is short; results stay.",
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
        help="Evaluate the nn.Module that this function returns; or FILE.py:FUNCTION, or a plug-in's name. "
        "This imports and runs the code; checkpoints never run code.",
        rich_help_panel=_MODEL,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Weights for --model: .safetensors, a state dict (.pt, .pth), or a Hugging Face folder; only "
        "tensors are read.",
        rich_help_panel=_MODEL,
    ),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        metavar="MEAN,STD",
        help="Normalisation that --model expects: 0.5,0.5, or all means, then all deviations; default: none.",
        rich_help_panel=_MODEL,
    ),
]


def parse_score_draws(text: str | int) -> int | str:
    """Parse a whole number or ``auto``, for `ScoreDraws`."""
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
        help="Folder to write; default: one in reports/ with a name derived from the settings.",
        rich_help_panel=_OUTPUT,
    ),
]
OutCheckpoint = Annotated[
    Path | None,
    typer.Option(
        help="The .safetensors file to write; default: one in checkpoints/.", rich_help_panel=_OUTPUT
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel=_OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.", rich_help_panel=_OUTPUT)]

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
        help="Parameters of the severities: cifar, tiny-imagenet or imagenet; default: by image size.",
        rich_help_panel=CORRUPTION,
    ),
]
FrostDir = Annotated[
    Path | None,
    typer.Option(help="Folder of the original frost photographs.", rich_help_panel=CORRUPTION),
]


def parse_severities(text: str) -> list[int]:
    """Parse ``3``, ``1-5`` or several with commas; returns them in order, each once.

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
    """Parse ``0.03``, ``8/255`` or several with commas.

    Raises:
        BenchError: something is not a number.
    """
    from robustbench_sde.perturbations.norms import parse_budget

    return [parse_budget(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """Parse comma-separated names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def test_data(
    dataset: str, data_dir: Path | None, download: bool, image_size: int | None, images: int | None
) -> "ImageDataset":
    """Load the test images of a command."""
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
    """Return the named checkpoints and the module of --model; None (neither is given) means all.

    Warnings about the module are printed on stderr.

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
    """Return the folder that a command has written."""
    from robustbench_sde.storage.run_folder import RunFolder

    assert result.folder is not None  # commands always give `out`
    return RunFolder(result.folder)
