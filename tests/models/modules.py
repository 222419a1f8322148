"""Modules as users have them, of 1x12x12 images in 4 classes, right and wrong."""

import torch
from torch import nn


class Net(nn.Module):
    """A linear classifier whose parts can be replaced."""

    def __init__(self, before=None, after=None):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.before = before or nn.Identity()
        self.linear = nn.Linear(144, 4)
        self.after = after or nn.Identity()
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(4, 144, generator=generator))
            self.linear.bias.zero_()

    def forward(self, images):
        return self.after(self.linear(self.before(images).flatten(1)))


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class KeyedNet(Net):
    """Net with noise on the images that it is handed."""

    def noise_shape(self, image_shape):
        return image_shape

    def forward_with_noise(self, images, noise):
        return self(images + 0.3 * noise)


class RandomWeights(nn.Linear):
    """A Bayesian layer: one sample of the weights for all rows of a pass."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight + 0.3 * torch.randn_like(self.weight), self.bias)


def noisy(images):
    """Gaussian noise on every row of its own."""
    return images + 0.3 * torch.randn_like(images)


def bayesian():
    """Net whose last layer has random weights."""
    net = Net()
    random = RandomWeights(144, 4)
    random.load_state_dict(net.linear.state_dict())
    net.linear = random
    return net.eval()
