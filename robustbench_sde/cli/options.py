"""Define the options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_sde import choices
from robustbench_sde.cli import complete
from robustbench_sde.cli.texts import parse_images, parse_score_draws

DATA = "Data"
MODEL = "Model"
SCORING = "Scoring"
OUTPUT = "Output"
CORRUPTION = "Corruption"
ATTACK = "Attack"
#: panel of options that change speed and memory only; commands name it last
RARE = "Speed and memory"

Checkpoints = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Checkpoints; default: all in checkpoints/ trained on the data set (NAME-smoothed: those of "
        "`certify`, left out elsewhere).",
        autocompletion=complete.checkpoints,
    ),
]
Dataset = Annotated[
    str,
    typer.Option(
        help="Data set by name, image-folder:PATH, npz:FILE or huggingface:PATH.",
        rich_help_panel=DATA,
        autocompletion=complete.datasets,
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder with the files of the data sets.", rich_help_panel=DATA)
]
Download = Annotated[bool, typer.Option("--download", help="Download missing files.", rich_help_panel=DATA)]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Resize images to squares of this side in pixels, without keeping proportions (image folders).",
        rich_help_panel=DATA,
    ),
]
Resize = Annotated[
    int | None,
    typer.Option(
        metavar="SHORT",
        help="Resize the shorter side to this many pixels, keeping proportions (image folders).",
        rich_help_panel=DATA,
    ),
]
Crop = Annotated[
    int | None,
    typer.Option(
        metavar="SIZE",
        help="Cut a square of this side from the centre, after --resize (image folders).",
        rich_help_panel=DATA,
    ),
]
Interpolation = Annotated[
    choices.Interpolation,
    typer.Option(
        help="How pixels of another size are computed, for --resize and --image-size.",
        case_sensitive=False,
        rich_help_panel=DATA,
    ),
]
ClassOrder = Annotated[
    str | None,
    typer.Option(
        metavar="numeric|text|FILE",
        help="Order in which class folders become labels; FILE has one class on each line. Default: "
        "numeric if all are "
        "numbers, else text.",
        rich_help_panel=DATA,
    ),
]
Images = Annotated[
    Any,
    typer.Option(
        parser=parse_images,
        metavar="N|all",
        help="Number of test images, taken from the start of a fixed random order.",
        rich_help_panel=DATA,
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.", rich_help_panel=SCORING)]
Device = Annotated[
    str,
    typer.Option(
        help="Device that computes: auto, cpu, cuda, cuda:1 or mps.",
        rich_help_panel=MODEL,
        autocompletion=complete.devices,
    ),
]
Precision = Annotated[
    choices.Precision,
    typer.Option(
        help="Number format of convolutions and linear maps; tf32 and bf16 are faster on GPUs and give "
        "other results.",
        case_sensitive=False,
        rich_help_panel=MODEL,
    ),
]
NoiseBackend = Annotated[
    choices.NoiseBackend,
    typer.Option(
        help="Code that generates the noise; all choices give the same random bits.",
        case_sensitive=False,
        rich_help_panel=RARE,
    ),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        help="Memory that the process may use, like 2GB; default: all free memory. Batches are reduced to "
        "fit.",
        rich_help_panel=RARE,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the drift functions with torch (needs a C++ compiler); on a CPU this is slower.",
        rich_help_panel=RARE,
    ),
]
Graphs = Annotated[
    bool,
    typer.Option(
        "--graphs/--no-graphs",
        help="Record passes as CUDA graphs and replay them; without them passes are slower and take less "
        "memory. Without effect on other devices.",
        rich_help_panel=RARE,
    ),
]
StrictVersions = Annotated[
    bool,
    typer.Option(
        "--strict-versions",
        help="Make again what was stored by other versions of torch, torchvision or numpy.",
        rich_help_panel=RARE,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        help="Largest number of rows, images x draws, in a pass; fewer if memory is short. Does not change "
        "results.",
        rich_help_panel=RARE,
    ),
]
Sigma = Annotated[
    float | None,
    typer.Option(help="Noise scale at test time; default: as trained.", rich_help_panel=MODEL),
]
Smoothing = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SIGMAS",
        help="Gaussian noise added to the image in every draw: its standard deviations, for images in "
        "[0, 1], separated by commas or repeated: 0.12,0.25,0.5 (one in audit and preview).",
        rich_help_panel=MODEL,
    ),
]
Noise = Annotated[
    bool,
    typer.Option(
        "--noise/--no-noise", help="Keep the noise at test time, or switch it off.", rich_help_panel=MODEL
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="CODE",
        help="Evaluate the nn.Module that a function returns: PKG.MODULE:FUNCTION or FILE.py:FUNCTION. Also "
        "timm:NAME, torchvision:NAME, hf:FOLDER, or a plug-in's name. "
        "This imports and runs the code; checkpoints never run code.",
        rich_help_panel=MODEL,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Weights for --model: .safetensors, a state dict (.pt, .pth), or a Hugging Face folder; only "
        "tensors are read.",
        rich_help_panel=MODEL,
    ),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        metavar="MEAN,STD",
        help="Normalisation that --model expects: mean and standard deviation (0.5,0.5), or all means, "
        "then all "
        "deviations; default: none.",
        rich_help_panel=MODEL,
    ),
]
Classes = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Number of classes of --model, if it has more than the data set, whose classes are the first.",
        rich_help_panel=MODEL,
    ),
]
ClassMap = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Outputs of --model for each class of the data set: a class in each line, with one number or "
        "several.",
        rich_help_panel=MODEL,
    ),
]
ScoreDraws = Annotated[
    Any,
    typer.Option(
        parser=parse_score_draws,
        metavar="N|auto",
        help="Number of draws that decide the class of an image; auto: up to 256, as few as give the same "
        "decision.",
        rich_help_panel=SCORING,
    ),
]
RuleOption = Annotated[
    choices.DecisionRule,
    typer.Option(
        "--rule",
        help="Decision rule that turns the draws of an image into a class.",
        case_sensitive=False,
        rich_help_panel=SCORING,
    ),
]
Attacks = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="Attacks by name, separated by commas or repeated.",
        show_default="pgd",
        rich_help_panel=ATTACK,
        autocompletion=complete.attacks,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Number of steps or queries of attacks with a budget, and of attacks of foolbox; default: "
        "depends on the attack. For other minimal-norm attacks use --set cw.steps=200.",
        rich_help_panel=ATTACK,
    ),
]
EotDraws = Annotated[
    str | None,
    typer.Option(
        help="Number of fresh draws averaged in every gradient; auto: as many as each image needs. "
        "Default: 8, or 1 for liu2020.",
        rich_help_panel=ATTACK,
    ),
]
Restarts = Annotated[
    int | None,
    typer.Option(
        help="Number of independent runs, of which the worst counts. Default: 1, or 10 for noise.",
        rich_help_panel=ATTACK,
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        help="Largest number of gradient passes per image, counting each draw; the steps are reduced to fit.",
        rich_help_panel=ATTACK,
    ),
]
SetParameters = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="A.NAME=VALUE",
        help="Parameter of one attack, ATTACK.NAME=VALUE; may be repeated.",
        rich_help_panel=ATTACK,
    ),
]
Norm = Annotated[
    choices.NormName,
    typer.Option(help="Norm of the perturbation.", case_sensitive=False, rich_help_panel=ATTACK),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder to write; default: one in reports/, named after the settings.",
        rich_help_panel=OUTPUT,
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace another run that the folder holds.", rich_help_panel=OUTPUT),
]
ForceFile = Annotated[
    bool,
    typer.Option("--force", help="Replace a file of another kind, too.", rich_help_panel=OUTPUT),
]
OutCheckpoint = Annotated[
    Path | None,
    typer.Option(
        help="The .safetensors file to write; default: one in checkpoints/.", rich_help_panel=OUTPUT
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel=OUTPUT)]
TableFormat = Annotated[
    choices.TableFormat,
    typer.Option(
        "-o",
        "--output",
        help="How tables are printed: csv and md (Markdown) have all columns and stand alone on "
        "stdout; json is --json.",
        case_sensitive=False,
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.", rich_help_panel=OUTPUT)]

Corruptions = Annotated[
    list[str] | None,
    typer.Option(
        "--corruptions",
        "--corruption",
        metavar="NAMES",
        help="Corruptions: all, benchmark, noise, blur, weather, digital, names or gaussian:SIGMA, "
        "uniform:EPS, "
        "rotation:DEGREES, translation:PIXELS, separated by commas or repeated.",
        rich_help_panel=CORRUPTION,
        autocompletion=complete.corruptions,
    ),
]
Severity = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LEVELS",
        help="Severities from 1 to 5: a range like 1-5, or several, separated by commas or repeated.",
        rich_help_panel=CORRUPTION,
    ),
]
Family = Annotated[
    choices.FamilyName | None,
    typer.Option(
        help="Family of parameters for the severities; default: depends on the image size.",
        case_sensitive=False,
        rich_help_panel=CORRUPTION,
    ),
]
FrostDir = Annotated[
    Path | None,
    typer.Option(help="Folder with the original frost photographs.", rich_help_panel=CORRUPTION),
]
