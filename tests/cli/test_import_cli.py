"""`sde-bench import` as a user runs it."""

import json

import pytest
import torch
from builders import make_data
from forked import finished as sde_bench
from safetensors import safe_open


@pytest.fixture
def place(tmp_path):
    """A folder with tiny colour images of two classes and a state dict under the released names."""
    from PIL import Image

    for index, image in enumerate(make_data(4, (3, 16, 16)).images):
        folder = tmp_path / "images" / "test" / ("ab"[index % 2])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.movedim(0, -1).numpy()).save(folder / f"{index}.png")
    shapes = {
        "downsampling_layers.0": (2, 3, 3, 3),
        "downsampling_layers.1": (2,),
        "downsampling_layers.3": (4, 2, 3, 3),
        "downsampling_layers.4": (4,),
        "downsampling_layers.6": (8, 4, 4, 4),
        "fc_layers.0": (8,),
        "fc_layers.4": (2, 8),
    }
    flow = "multiscale_flows.flows.0"
    shapes |= {f"{flow}.flow_fn.norm{index}": (8,) for index in (1, 2, 3, 4)}
    shapes |= {f"{flow}.flow_fn.conv{index}": (8, 8, 3, 3) for index in (2, 3)}
    shapes[f"{flow}.flow_fn.conv1._layer"] = (8, 72, 3, 3)
    state = {f"{name}.weight": torch.full(shape, 0.1) for name, shape in shapes.items()}
    state |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    torch.save(state | {f"{flow}.diffusion.sigma": torch.tensor(1.0)}, tmp_path / "released.pth")
    return tmp_path


def test_a_released_checkpoint_becomes_one_of_ours(place):
    """The file is converted, and not overwritten without --force."""
    arguments = ("import", "released.pth", "--dataset", "image-folder:images", "--noise", "multiplicative")
    done = sde_bench(*arguments, "--sigma", "1.0", cwd=place)
    assert done.code == 0, done.stderr
    assert "multiplicative sigma 1" in done.stdout
    with safe_open(place / "checkpoints" / "released.safetensors", "pt") as file:
        assert "flows.0.time.weight" in file.keys()  # noqa: SIM118
    again = sde_bench(*arguments, cwd=place)
    assert (again.code, again.stderr.count("\n")) == (2, 1)
    assert "--force" in again.stderr
    told = json.loads(sde_bench(*arguments, "--force", "--json", cwd=place).stdout)
    assert (told["path"], told["model"]["preset"]) == ("checkpoints/released.safetensors", "liu2020")
    wrong = sde_bench(*arguments[:-1], "jump", "--force", cwd=place)
    assert (wrong.code, wrong.stderr.count("\n")) == (2, 1)
    assert "missing: multiscale_flows.flows.0.jump.rate" in wrong.stderr
