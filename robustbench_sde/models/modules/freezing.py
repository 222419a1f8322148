"""Freeze the parameters of somebody's module where that leaves it its gradients."""

import torch
from torch import nn

from robustbench_sde.models.modules.adapter import Interface
from robustbench_sde.sde.draws import Draws, Stream


def freeze(module: nn.Module, interface: Interface) -> None:
    """Stop gradients of parameters, which attacks do not need, unless the images' gradient is lost with them.

    Some modules differentiate by their parameters inside (adjoints of torchdyn): these keep all as it was.

    Args:
        module: where it is to be evaluated; any mode.
        interface: what its examination has found.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    if trained and not _reaches_images(module, interface):
        for parameter in trained:
            parameter.requires_grad_(True)


def _reaches_images(module: nn.Module, interface: Interface) -> bool:
    """Whether a gradient comes through to a grey image; False if the pass or the gradient raises."""
    model = interface.around(module)
    image = torch.full((1, *interface.image_shape), 0.5, device=model.device, requires_grad=True)
    try:
        with torch.enable_grad():
            logits = model.logits(image, [0], Draws(0, Stream.AUDIT))
            (found,) = torch.autograd.grad(logits.sum(), image, allow_unused=True)
    except Exception:  # somebody else's code may raise anything
        return False
    return found is not None
