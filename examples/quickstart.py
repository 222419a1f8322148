"""Train a Neural ODE and a Neural SDE, attack both, plot. Cells (`# %%`) run in editors that know notebooks.

    python examples/quickstart.py            # some minutes on one core
    python examples/quickstart.py --small    # seconds; shows the way, and nothing about robustness

Writes quickstart/: two checkpoints, curves.svg and images.png.
"""

# %% Data: 1,437 handwritten digits to train on, and 200 (the same for everybody) to test on
import sys
from pathlib import Path

import matplotlib.pyplot as plt

import robustbench_sde as rb

small = "--small" in sys.argv
folder = Path("quickstart")
folder.mkdir(exist_ok=True)
training = rb.load_dataset("digits", split="train", images=400 if small else None)
test = rb.load_dataset("digits", images=20 if small else 200)

# %% Train: dh = f(h, t) dt, and dh = f(h, t) dt + 0.5 h dB
models = {}
for name, noise in {"ODE": "none", "SDE": "multiplicative"}.items():
    path = folder / f"{name.lower()}.safetensors"
    rb.train(training, path, noise=noise, sigma=0.5, epochs=3 if small else 30, batch_size=32, force=True)
    models[name] = rb.load_checkpoint(path)

# %% Attack: gradients through the noise, scored on draws that the attack never saw
budgets = (0.0, 0.05) if small else (0.0, 0.01, 0.02, 0.03, 0.05, 0.08)
settings = {"steps": 2, "eot_draws": 2, "score_draws": 4} if small else {}
results = {
    (name, eps): rb.attack(model, test, "pgd", norm="linf", eps=eps, **settings)
    for name, model in models.items()
    for eps in budgets
}
for (name, eps), result in results.items():
    row = result.summary.iloc[-1]  # the rows before are clean and the eps = 0 control
    print(
        f"{name}  eps {eps:<5}  accuracy {row['accuracy']:6.1%}  "
        f"95 %: {row['accuracy_low']:.1%} to {row['accuracy_high']:.1%}  "
        f"single draw {row['single_draw_accuracy']:.1%}"
    )

# %% Plot: accuracy against budget, with 95 % intervals over images
figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
for name in models:
    rows = [results[name, eps].summary.iloc[-1] for eps in budgets]
    axes.plot(budgets, [row["accuracy"] for row in rows], marker="o", label=name)
    low, high = ([row[f"accuracy_{end}"] for row in rows] for end in ("low", "high"))
    axes.fill_between(budgets, low, high, alpha=0.2)
axes.set(xlabel="eps (Linf)", ylabel="accuracy", ylim=(0, 1))
axes.legend()
figure.savefig(folder / "curves.svg")

# %% Look: originals, and what the attack made of them, with the class before and after
worst = results["SDE", budgets[-1]]
figure, grid = plt.subplots(2, 6, figsize=(7, 2.8), layout="constrained")
for column in range(6):
    for row, images in enumerate((test.images / 255, worst.images)):
        grid[row, column].imshow(images[column, 0], cmap="gray", vmin=0, vmax=1)
        grid[row, column].axis("off")
    grid[0, column].set_title(int(worst.records["label"][column]), fontsize=9)
    grid[1, column].set_title(f"→ {worst.records['prediction'][column]}", fontsize=9)
figure.savefig(folder / "images.png", dpi=150)
