"""A victim of closed form: its margin is a plane over the pixels."""

import torch

from robustbench_sde.perturbations.attacks.looks import Look


class Slope:
    """A deterministic victim whose margin is `lead` plus the sum of `weights` times the pixels."""

    stochastic, classes, eot_draws = False, 2, 1

    def __init__(self, images, lead=0.0, weights=1.0):
        self.ids = torch.arange(len(images))
        self.labels = torch.zeros(len(images), dtype=torch.int64)
        self.lead, self.weights = lead, weights * torch.ones_like(images)
        #: points at which it was asked, in order
        self.seen = []

    def steps_of(self, draws):
        return 1

    def only(self, rows):
        assert len(rows) == len(self.ids), "no image leaves"
        return self

    def margin(self, images):
        return self.lead + (self.weights * images).flatten(1).sum(1)

    def look(self, images, step, *, draws=None):
        self.seen.append(images.detach().clone())
        margin = self.margin(images).detach()
        zero = torch.zeros_like(margin)
        return Look(margin, zero, torch.stack((margin, zero), 1).log_softmax(1), (margin < 0).float())

    def gradient(self, images, step, objective=None):
        return self.look(images, step), -self.weights

    def confirmed(self, images, look, step, judge, draws):
        return judge(look)

    def log_probs(self, images, step, *, draws=None):
        self.seen.append(images.detach().clone())
        margin = self.margin(images)
        return torch.stack((margin, torch.zeros_like(margin)), 1).log_softmax(1)
