"""Many classes and many checkpoints, as docs/faults.md has them, smaller."""

import pandas as pd
import torch
from builders import make_data, save_digits_model

import robustbench_sde as rb
from robustbench_sde.data import ImageDataset

CHECKPOINTS, CLASSES = 64, 10_000


def test_a_suite_of_many_checkpoints_has_a_row_of_each(program, tmp_path, monkeypatch):
    """The table names all in the order given, and `show`, `compare` and `report` read what `run` wrote."""
    monkeypatch.chdir(tmp_path)
    names = [f"net-{number:02}" for number in range(CHECKPOINTS)]
    for number, name in enumerate(names):
        save_digits_model(tmp_path / f"{name}.safetensors", "additive" if number % 2 else "none")
    listed = "\n".join(f"  - {name}.safetensors" for name in names)
    attack = "  - attack: pgd\n    norm: linf\n    eps: 0.1\n    steps: 1\n    eot_draws: 2\n"
    (tmp_path / "many.yaml").write_text(
        f"dataset: digits\nimages: 2\nscore_draws: 2\ncheckpoints:\n{listed}\nperturbations:\n{attack}"
    )
    code, _, complaint = program("run", "many.yaml", "--name", "run")
    assert code == 0, complaint
    table = pd.read_parquet("reports/run/summary.parquet")
    assert list(dict.fromkeys(table["checkpoint"])) == names
    assert len(table) == 3 * CHECKPOINTS  # clean, control, pgd
    for command, expected in (("show", 0), ("compare", 3), ("report", 0)):  # 2 images prove nothing
        runs = ["reports/run"] * (2 if command == "compare" else 1)
        code, _, complaint = program(command, *runs)
        assert code == expected, (command, complaint)
    page = (tmp_path / "reports" / "run" / "index.html").read_text()
    assert all(name in page for name in names)


def test_ten_thousand_classes_are_attacked(tmp_path):
    """Labels up to the last class, and attacks that look at all logits of a row."""
    data = make_data(6, classes=CLASSES)
    generator = torch.Generator().manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, CLASSES)).eval()
    with torch.no_grad():
        network[1].weight.copy_(torch.randn(CLASSES, 144, generator=generator) / 12)
        labels = network(data.images / 255).argmax(1)
    data = ImageDataset.whole("random", "test", data.images, labels, data.class_names)
    attacks = ["pgd", "apgd-targeted", "auto"]
    result = rb.attack(network, data, attacks, eps=0.1, norm="linf", steps=4, out=tmp_path / "run")
    rows = result.summary.set_index("perturbation")["accuracy"]
    assert rows["clean"] == 1
    assert (rows[[name for name in rows.index if name.startswith(tuple(attacks))]] < 1).all(), rows
