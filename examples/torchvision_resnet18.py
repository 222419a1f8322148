"""torchvision's ResNet-18 as a deterministic baseline, trained for a moment. Nothing is downloaded.

    python examples/torchvision_resnet18.py            # some minutes on one core
    python examples/torchvision_resnet18.py --small    # seconds

With weights of your own, the same without a script:

    sde-bench attack --model examples/torchvision_resnet18.py:grey_resnet18 --weights w.pt --normalize 0.5,0.5
"""

import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

import robustbench_sde as rb
from robustbench_sde.data import to_float


def grey_resnet18() -> nn.Module:
    """ResNet-18 of 10 classes for greyscale images in [-1, 1]."""
    model = resnet18(weights=None, num_classes=10)
    model.conv1 = nn.Conv2d(1, 64, 3, stride=2, padding=1, bias=False)  # its 7x7 is for larger images
    return model


def fit(model: nn.Module, images: Tensor, labels: Tensor, iterations: int) -> None:
    """SGD on the cross-entropy of images in [-1, 1]."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    for _ in range(iterations):
        batch = torch.randint(len(images), (64,))
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()  # BatchNorm in train mode would be refused: an image's class would depend on its batch


def main() -> None:
    small = "--small" in sys.argv
    torch.manual_seed(0)
    training = rb.load_dataset("digits", split="train")
    model = grey_resnet18()
    fit(model, to_float(training.images) * 2 - 1, training.labels, 12 if small else 150)
    test = rb.load_dataset("digits", images=20 if small else 200)
    classifier = rb.as_classifier(model, test, name="resnet18", mean=0.5, std=0.5)  # attacks see [0, 1]
    result = rb.attack(classifier, test, "pgd", norm="linf", eps=0.03, steps=2 if small else 20)
    for _, row in result.summary.iterrows():
        print(
            f"resnet18 noise: {row['noise']} {row['perturbation']:8} accuracy {row['accuracy']:6.1%} "
            f"({row['accuracy_low']:.1%}-{row['accuracy_high']:.1%})"
        )


if __name__ == "__main__":
    main()
