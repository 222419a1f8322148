"""square as a part of auto: few queries everywhere, all of them where gradients were outdone."""

import copy

import pytest
import torch
from builders import make_data, make_model

from robustbench_sde.data import to_float
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.attacks.square import Square
from robustbench_sde.sde.draws import Draws, Stream

IMAGES = to_float(make_data(6).images)
IDS = torch.arange(6)


class Masked(Classifier):
    """The right logits with a gradient of zero."""

    def logits(self, images, image_ids, draws):
        """Logits without the graph of the images."""
        return super().logits(images.detach(), image_ids, draws) + 0 * images.sum()


@pytest.fixture
def runs(monkeypatch):
    """Queries and image ids of every run of square."""
    seen, run = [], Square.run

    def noted(self, victim, images, start, restart):
        seen.append((self.steps, victim.ids.tolist()))
        return run(self, victim, images, start, restart)

    monkeypatch.setattr(Square, "run", noted)
    return seen


def attacked(model, **parameters):
    labels = model.logits(IMAGES, IDS, Draws(0, Stream.SCORE, range(64))).softmax(-1).mean(0).argmax(-1)
    attack = make_attack("auto", eps=0.001, eot_draws=2, steps=30, **parameters)
    return attack(model, IMAGES, labels, IDS)


def test_sound_gradients_spare_images_most_queries(runs):
    """Nobody goes on whose worst point a gradient has found."""
    made = attacked(make_model("multiplicative"), depth=1, settle=True)
    assert [queries for queries, _ in runs][:1] == [60]
    by_square = [int(id_) for id_, name in zip(IDS, made.chosen, strict=True) if name == "square"]
    went_on = [id_ for queries, ids in runs if queries == 300 for id_ in ids]
    assert set(went_on) <= set(by_square)
    assert len(went_on) < len(runs[0][1])


def test_masked_gradients_are_followed_by_all_queries(runs):
    """A short run that outdoes gradients of zero is followed by the whole one."""
    masked = copy.copy(make_model("multiplicative"))
    masked.__class__ = Masked
    made = attacked(masked, depth=1)
    assert [queries for queries, _ in runs] == [60, 300]
    assert runs[1][1] == [int(id_) for id_, name in zip(IDS, made.chosen, strict=True) if name == "square"]
    assert len(runs[1][1]) > len(IDS) / 2


def test_all_queries_run_at_once_if_images_may_not_leave(runs):
    """`settle` off is the attack without any short cut."""
    attacked(make_model("multiplicative"), depth=1, settle=False)
    assert runs == [(300, IDS.tolist())]


def test_too_few_queries_are_not_divided(runs):
    """Fewer than 50 queries would be no attack, and no saving if fewer than as many follow."""
    attacked(make_model("multiplicative"), depth=1, queries_per_step=3)
    assert [queries for queries, _ in runs] == [90]
