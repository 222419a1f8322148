"""What a training step makes small: plain, on noisy images, on adversarial ones."""

import pytest
import torch
import torch.nn.functional as F
from builders import make_data, make_model

from robustbench_sde.data import to_float
from robustbench_sde.perturbations.norms import NORMS
from robustbench_sde.sde.draws import Draws, Stream
from robustbench_sde.training.config import TrainConfig
from robustbench_sde.training.objective import objective

DATA = make_data(8)
IMAGES = to_float(DATA.images)
PGD = {"adversarial": "pgd", "adversarial_eps": 0.1, "adversarial_steps": 3}
TRADES = PGD | {"adversarial": "trades"}


class Spy:
    """A model that remembers what it was asked."""

    def __init__(self, model):
        self._model, self.asked = model, []

    def logits(self, images, ids, draws):
        self.asked.append((images.detach().clone(), draws))
        return self._model.logits(images, ids, draws)


def step(options, epoch=5, rows=slice(None), kind="multiplicative"):
    """Loss, logits and the passes of one step."""
    spy = Spy(make_model(kind))
    config = TrainConfig(**options)
    loss, logits = objective(spy, config, IMAGES[rows], DATA.labels[rows], DATA.ids[rows], epoch)
    return loss, logits, spy.asked


def test_plain_training_is_the_cross_entropy_of_one_draw():
    """Draw e of the `train` stream in epoch e; one pass."""
    loss, logits, asked = step({})
    expected = make_model().logits(IMAGES, DATA.ids, Draws(0, Stream.TRAIN, range(5, 6)))[0]
    assert torch.equal(logits, expected)
    assert torch.equal(loss, F.cross_entropy(expected, DATA.labels))
    assert len(asked) == 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("options", [PGD, TRADES], ids=["pgd", "trades"])
def test_adversarial_images_are_in_the_ball_and_harder(options, norm):
    """The update sees images within eps and [0, 1] whose loss is above that of the originals."""
    eps = {"linf": 0.1, "l2": 1.0}[norm]
    loss, _, asked = step(options | {"adversarial_norm": norm, "adversarial_eps": eps})
    hard, _ = asked[-1]
    assert float(NORMS[norm].size(hard - IMAGES).max()) <= eps + 1e-6
    assert float(hard.min()) >= 0
    assert float(hard.max()) <= 1
    assert float(loss) > float(step({})[0])


@pytest.mark.parametrize("options", [PGD, TRADES], ids=["pgd", "trades"])
def test_every_step_of_the_attack_has_a_draw_that_no_update_has(options):
    """All draws are of the `train` stream; another epoch has others."""
    indices = [draws.indices.start for _, draws in step(options)[2]]
    assert {draws.stream for _, draws in step(options)[2]} == {Stream.TRAIN}
    updates, inner = [i for i in indices if i < 2**32], [i for i in indices if i >= 2**32]
    assert set(updates) == {5}
    assert len(set(inner)) == len(inner) == 3
    assert not set(inner) & {draws.indices.start for _, draws in step(options, epoch=6)[2]}


@pytest.mark.parametrize("options", [{"augment_noise": 0.3}, PGD, TRADES], ids=["gaussian", "pgd", "trades"])
def test_what_an_image_becomes_does_not_depend_on_its_batch(options):
    """Keyed by image: alone or among others, the update sees the same image to 1e-5."""
    together, alone = step(options)[2][-1][0], step(options, rows=slice(3, 4))[2][-1][0]
    assert torch.allclose(together[3:4], alone, atol=1e-5)
    assert not torch.allclose(together, step(options, epoch=6)[2][-1][0], atol=1e-3)


def test_trades_is_cross_entropy_plus_beta_times_the_divergence():
    """Both terms of the update are on one path; checked against its formula."""
    loss, logits, asked = step(TRADES | {"trades_beta": 2.5})
    hard, draws = asked[-1]
    model = make_model()
    clean, moved = (model.logits(x, DATA.ids, draws)[0].softmax(-1) for x in (IMAGES, hard))
    divergence = (clean * (clean / moved).log()).sum(1).mean()
    at_label = clean[torch.arange(8), DATA.labels]
    assert float(loss) == pytest.approx(float(2.5 * divergence - at_label.log().mean()), rel=1e-4)
    assert torch.allclose(logits.softmax(-1), clean, atol=1e-6)


def test_gaussian_noise_has_its_deviation_and_is_not_clipped():
    """Mean 0 and sigma as asked: 1,152 numbers, five standard errors."""
    noise = step({"augment_noise": 0.3})[2][0][0] - IMAGES
    assert abs(float(noise.mean())) < 5 * 0.3 / 1152**0.5
    assert float(noise.std()) == pytest.approx(0.3, rel=5 / (2 * 1152) ** 0.5)
    assert float((IMAGES + noise).min()) < 0
