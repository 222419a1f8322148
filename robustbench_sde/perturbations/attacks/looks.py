"""What an attack wants of images (`Aim`), and what it sees of them (`Look`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_sde.models.probabilities import log_mean, mean_error, split_label

#: Share of the spread of log-probabilities that another batch may change.
_ROUNDING = 1e-5
#: Log odds of ten to one.
_CLEAR = math.log(10)


@dataclass(frozen=True)
class Aim:
    """The aim of an attack for each image: away from a class, or, if targeted, towards a class."""

    #: (B,) int64 on the model's device: the true class, or the target
    classes: Tensor
    #: (B,) float: 1 to leave the class, -1 to reach it
    sign: Tensor

    @classmethod
    def untargeted(cls, labels: Tensor) -> "Aim":
        """Away from the true class."""
        return cls(labels, torch.ones(len(labels), device=labels.device))

    def only(self, rows: Tensor) -> "Aim":
        """Select some of the images by position or mask."""
        return Aim(self.classes[rows], self.sign[rows])

    def margin_and_error(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """Margin of log-probabilities (draws, B, classes) and its error, each (B,); below zero: reached."""
        margin, error = margin_and_error(log_probs, self.classes)
        return self.sign * margin, error

    def share_fooled(self, log_probs: Tensor) -> Tensor:
        """Share of (draws, B, classes) that, alone, give what is wanted: (B,)."""
        share = (log_probs.argmax(-1) == self.classes).float().mean(0)
        return torch.where(self.sign > 0, 1 - share, share)


@dataclass(frozen=True)
class Look:
    """The result of one evaluation of the current images; every field is (B,) unless stated otherwise."""

    #: log p_y - max_{j != y} log p_j of the mean probability over the draws: negative where they are fooled.
    #: For a targeted attack: max over other classes less log p of the target; negative once the target wins.
    margin: Tensor
    #: standard error of `margin` over the draws, 0 for a deterministic model (delta method)
    error: Tensor
    #: log of the mean probability over the draws (B, classes): for one draw the logits less a constant
    log_probs: Tensor
    #: share of the draws that, alone, are fooled
    share_fooled: Tensor

    @classmethod
    def joined(cls, looks: Sequence["Look"]) -> "Look":
        """Join the looks at parts of a batch."""
        return cls(
            torch.cat([look.margin for look in looks]),
            torch.cat([look.error for look in looks]),
            torch.cat([look.log_probs for look in looks]),
            torch.cat([look.share_fooled for look in looks]),
        )

    def only(self, rows: Tensor) -> "Look":
        """Select some of the images by position."""
        return Look(self.margin[rows], self.error[rows], self.log_probs[rows], self.share_fooled[rows])

    def fooled(self, z: float = 0.0) -> Tensor:
        """Whether the margin is below zero by more than `z` standard errors: (B,) bool."""
        return self.margin + z * self.error < 0

    def crossed(self, z: float = 0.0) -> Tensor:
        """Whether `fooled`, and by more than another batch rounds: (B,) bool."""
        return self.margin + z * self.error < -rounding(self.log_probs)

    def fooled_for_good(self, z: float = 0.0) -> Tensor:
        """Whether an image is certainly misclassified, so that more steps would change no result: (B,) bool.

        Another class is ten times as probable by `z` standard errors, and no single draw gives the label.
        """
        return (self.margin + z * self.error < -_CLEAR) & (self.share_fooled == 1)


def rounding(log_probs: Tensor) -> Tensor:
    """Bound what another batch changes in log-probabilities (B, classes) by rounding: (B,).

    It is a hundred thousandth of their spread, which needs no scale, or of one if they are closer.
    """
    return _ROUNDING * (1 - log_probs.amin(1).nan_to_num(neginf=0.0))


def margin_and_error(log_probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Margin of the log mean probability (draws, B, classes) and its standard error over draws, each (B,).

    The error is that of pairs of draws. One pair does not show it; then it is taken from the spread of two or
    three draws as if they were independent, which overstates it where mirrored draws differ in sign.
    """
    mean = log_mean(log_probs)
    at_label, largest, runner_up = split_label(mean, labels)
    count = len(log_probs)
    if count == 1:
        return at_label - largest, torch.zeros_like(at_label)
    index = torch.stack((labels, runner_up), 1).expand(count, -1, -1)
    relative = (log_probs.gather(2, index) - torch.stack((at_label, largest), 1)).exp()
    difference = relative[..., 0] - relative[..., 1]
    return at_label - largest, mean_error(difference, paired=count > 3)
