"""Dishonest and difficult classifiers around one honest network, whose robust accuracy is known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.io import decode_jpeg, encode_jpeg

Forward = Callable[[nn.Module, Tensor], Tensor]
#: Nature of an animal. honest: rows are right and none is marked. difficult: rows are right or marked.
#: refused: no row is made.
Nature = Literal["honest", "difficult", "refused"]
#: Grey levels that `rounded` keeps, less one.
LEVELS = 7


class Around(nn.Module):
    """A module that does `forward(net, images)`."""

    def __init__(self, net: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.net, self.how = net, forward

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, classes)."""
        return self.how(self.net, images)


class WithMemory(Around):
    """A module that shifts the classes in every tenth pass."""

    passes = 0

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, classes)."""
        self.passes += 1
        return super().forward(images).roll(int(self.passes % 10 == 0), 1)


class WithGenerator(Around):
    """A module that adds noise of a generator of its own, which nobody seeds, in 1 % of passes."""

    def __init__(self, net: nn.Module, forward: Forward) -> None:
        super().__init__(net, forward)
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, classes)."""
        noise = torch.randn(images.shape, generator=self.generator)
        struck = torch.rand((), generator=self.generator) < 0.01
        return super().forward(images + struck * noise)


@dataclass(frozen=True)
class Animal:
    """A classifier around a network, and how its robust accuracy is known."""

    name: str
    forward: Forward
    nature: Nature = "honest"
    #: what decides as it does and has gradients that can be followed; None: the network itself
    twin: Forward | None = None
    #: words of the message that refuses it
    message: str = ""
    kind: type[Around] = field(default=Around, repr=False)
    #: whether its noise is its own, so that an image has passes of its own: slow
    random: bool = False

    @property
    def decides_as_net(self) -> bool:
        """Whether it decides exactly as the network: then its robust accuracy is known exactly."""
        return self.twin is None and not self.random and self.nature == "honest"

    def around(self, net: nn.Module) -> nn.Module:
        """The animal around `net`."""
        return self.kind(net, self.forward).eval()

    def __repr__(self) -> str:
        return self.name


def plain(net: nn.Module, images: Tensor) -> Tensor:
    """The network as it is."""
    return net(images)


def behind(function: Callable[[Tensor], Tensor]) -> Forward:
    """A function of the logits (B, classes)."""
    return lambda net, images: function(net(images))


def rounded(net: nn.Module, images: Tensor) -> Tensor:
    """Eight grey levels: every gradient is zero."""
    return net(torch.round(images * LEVELS) / LEVELS)


def straight_through_rounded(net: nn.Module, images: Tensor) -> Tensor:
    """Eight grey levels, with the gradient of the identity."""
    return net(images + (torch.round(images * LEVELS) / LEVELS - images).detach())


def _jpeg(images: Tensor) -> Tensor:
    levels = (images.detach() * 255).round().to(torch.uint8)
    return torch.stack([decode_jpeg(encode_jpeg(image, quality=75)) for image in levels]).float() / 255


def compressed(net: nn.Module, images: Tensor) -> Tensor:
    """A JPEG file in between, which no gradient passes."""
    return net(_jpeg(images) + 0 * images)


def straight_through_compressed(net: nn.Module, images: Tensor) -> Tensor:
    """A JPEG file in between, with the gradient of the identity."""
    return net(images + (_jpeg(images) - images).detach())


def undefined_everywhere_black(net: nn.Module, images: Tensor) -> Tensor:
    """The network, whose gradient is 0 times infinity at black pixels."""
    return net(images.sqrt().pow(2))


def undefined_in_a_corner(net: nn.Module, images: Tensor) -> Tensor:
    """The network, whose gradient is not finite at 16 pixels."""
    corner = images[:, :, :4, :4].pow(2).sum((1, 2, 3)).sqrt()
    return net(images) + 0 * corner[:, None]


def detached(net: nn.Module, images: Tensor) -> Tensor:
    """The network without a graph."""
    return net(images).detach()


class _Backwards(torch.autograd.Function):
    """The identity, whose gradient is another: `change` of the right one."""

    @staticmethod
    def forward(ctx, images, change):  # type: ignore[no-untyped-def]
        """(B, C, H, W) to itself."""
        ctx.change = change
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        """Gradient (B, C, H, W) to another one, and none of `change`."""
        return ctx.change(gradient), None


def changed_gradient(change: Callable[[Tensor], Tensor]) -> Forward:
    """The network, with another gradient (B, C, H, W)."""
    return lambda net, images: net(_Backwards.apply(images, change))


def _noise_like(gradient: Tensor) -> Tensor:
    noise = torch.randn(gradient.shape[1:], generator=torch.Generator().manual_seed(0))
    return noise.expand_as(gradient) * gradient.abs().mean()


def two_faced(net: nn.Module, images: Tensor) -> Tensor:
    """The network; but where a graph is made, its logits for the negative of the image."""
    return net(1 - images) if torch.is_grad_enabled() and images.requires_grad else net(images)


def lucky(net: nn.Module, images: Tensor) -> Tensor:
    """Two branches that decide alike: classes of even number go to one that is confident of all it says."""
    logits = net(images)
    return torch.where(logits.argmax(1, keepdim=True) % 2 == 0, 50 * logits, logits)


def lucky_at_random(net: nn.Module, images: Tensor) -> Tensor:
    """Two branches that decide alike, one of them too confident; noise chooses one for each row."""
    logits = net(images)
    return torch.where(torch.rand(len(images), 1) < 0.5, 100 * logits, logits)


def noisy(sigma: float) -> Forward:
    """The network behind noise of torch's global generator, another in every row."""
    return lambda net, images: net(images + sigma * torch.randn_like(images))


def one_noise_for_all(net: nn.Module, images: Tensor) -> Tensor:
    """The network behind noise that all rows of a pass share."""
    return net(images + 0.1 * torch.randn_like(images[:1]))


def rarely_noise(net: nn.Module, images: Tensor) -> Tensor:
    """The network; in 1 % of passes, behind noise."""
    return net(images + (torch.rand(()) < 0.01) * torch.randn_like(images))


def frozen_noise(net: nn.Module, images: Tensor) -> Tensor:
    """Noise of a generator that is made anew in every pass: it belongs to the place in the batch."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return net((images + 0.3 * noise).clamp(0, 1))


def masked_class(value: float) -> Forward:
    """One class can never be: its logit is `value`."""
    return lambda net, images: net(images).index_fill(1, torch.tensor([9]), value)


def undefined_off_the_grid(value: float) -> Forward:
    """The network at images of 8 bits; at others, one logit is `value`."""

    def forward(net: nn.Module, images: Tensor) -> Tensor:
        off = (images * 255 - (images * 255).round()).abs().flatten(1).amax(1, keepdim=True) > 1e-2
        logits = net(images)
        return torch.where(off & (torch.arange(logits.shape[1]) == 0), value, logits)

    return forward


def neighbours(weight: float) -> Forward:
    """Logits with a share of those of the next image of the batch."""

    def forward(net: nn.Module, images: Tensor) -> Tensor:
        logits = net(images)
        return logits + weight * logits.roll(1, 0)

    return forward


def cumulative(logits: Tensor) -> Tensor:
    """Logits that depend on earlier images of the batch."""
    return logits + 0.5 * (logits.cumsum(0) - logits)


def last_differs(logits: Tensor) -> Tensor:
    """Wrong logits for the last image of a batch."""
    return torch.cat([logits[:-1], logits[-1:].roll(1, 1)]) if len(logits) > 1 else logits


def size_matters(logits: Tensor) -> Tensor:
    """Logits that depend on how many images there are."""
    return logits.roll(1, 1) if len(logits) > 20 else logits


ZOO = (
    Animal("honest", plain),
    Animal("temperature 10", behind(lambda z: 10 * z)),
    Animal("temperature 1e-4", behind(lambda z: 1e-4 * z)),
    Animal("saturated: logits x 100", behind(lambda z: 100 * z)),
    Animal("saturated: logits x 10000", behind(lambda z: 1e4 * z)),
    Animal("log-probabilities", behind(lambda z: z.log_softmax(1))),
    Animal("logits plus 1000", behind(lambda z: z + 1000)),
    # bounded logits: the cross-entropy of a softmax of them is flat, and what follows it alone is weaker
    Animal("sigmoids", behind(torch.sigmoid), twin=behind(lambda z: torch.sigmoid(z))),
    Animal("a robust and a lucky branch", lucky),
    Animal("a robust and a lucky branch, at random", lucky_at_random, random=True),
    Animal("noise of its own", noisy(0.1), random=True),
    Animal("noise that all rows share", one_noise_for_all, random=True),
    Animal("noise in 1 % of passes", rarely_noise, random=True),
    Animal("a class of -1e9", masked_class(-1e9), twin=masked_class(-1e3)),
    Animal("NaN in gradients at black pixels", undefined_everywhere_black, "difficult"),
    Animal("NaN in gradients at a corner", undefined_in_a_corner, "difficult"),
    Animal("rounding to 8 levels", rounded, "difficult", twin=straight_through_rounded),
    Animal("JPEG inside", compressed, "difficult", twin=straight_through_compressed),
    Animal("no graph", detached, "difficult"),
    Animal("masked: gradient of noise", changed_gradient(_noise_like), "difficult"),
    Animal("masked: gradient of the other sign", changed_gradient(torch.neg), "difficult"),
    Animal("masked: another network for gradients", two_faced, "difficult"),
    Animal("NaN at images that are not of 8 bits", undefined_off_the_grid(torch.nan), "difficult"),
    Animal("-inf at images that are not of 8 bits", undefined_off_the_grid(-torch.inf), "difficult"),
    Animal("a little of the next image", neighbours(1e-3), "difficult"),
    Animal("every tenth pass is wrong", plain, "difficult", kind=WithMemory),
    Animal("noise of its own generator in 1 % of passes", plain, "difficult", kind=WithGenerator),
    Animal("a class of -inf", masked_class(-torch.inf), "refused", message="not finite"),
    Animal("probabilities", behind(lambda z: z.softmax(1)), "refused", message="softmax"),
    Animal("noise of a fixed generator", frozen_noise, "refused", message="place in the batch"),
    Animal("earlier images of the batch", behind(cumulative), "refused", message="images before it"),
    Animal("the last image of the batch", behind(last_differs), "refused", message="place in the batch"),
    Animal("half of the next image", neighbours(0.5), "refused", message="images beside it"),
    Animal("size of the batch", behind(size_matters), "refused", message="size of the batch"),
)
