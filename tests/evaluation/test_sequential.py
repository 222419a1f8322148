"""`--score-draws auto`: decides as all draws do, and says it with few."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import robustbench_sde as rb
from robustbench_sde.evaluation.sequential import FEWEST, MOST, decided, stages

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


def simulate(values):
    """(share of images decided otherwise than by all draws, mean draws) of (MOST, images, classes)."""
    truth = values.mean(0).argmax(1)
    decision, draws = truth.clone(), torch.full((values.shape[1],), MOST)
    active = torch.arange(values.shape[1])
    for stage in stages():
        seen = values[: stage.stop, active]
        done = decided(seen)
        decision[active[done]] = seen.mean(0).argmax(1)[done]
        draws[active[done]] = stage.stop
        active = active[~done]
    assert not len(active)
    return float((decision != truth).float().mean()), float(draws.float().mean())


def votes(share, images, generator):
    first = (torch.rand(MOST, images, generator=generator) < share).float()
    return torch.stack((first, 1 - first), -1)


@pytest.mark.parametrize(
    ("share", "wrong", "draws"), [(0.5, 0.01, 256), (0.6, 0.005, 200), (0.75, 0.001, 64), (0.95, 0.001, 16)]
)
def test_error_and_work_for_votes_with_a_known_share(share, wrong, draws):
    """4,000 images that vote for one class with this probability; at one half nothing can be saved."""
    error, mean = simulate(votes(share, 4000, torch.Generator().manual_seed(0)))
    assert error <= wrong
    assert mean <= draws


@pytest.mark.parametrize(("rare", "lead"), [(0.02, 0.027), (0.1, 0.111), (0.2, 0.25)])
def test_error_where_a_rare_draw_is_far_off_and_the_mean_is_close(rare, lead):
    """Draws that lead by a little, but for a share that is lost outright: the mean is near the boundary."""
    off = (torch.rand(MOST, 4000, generator=torch.Generator().manual_seed(0)) < rare).float()
    first = (1 + lead) / 2 * (1 - off)
    error, _ = simulate(torch.stack((first, 1 - first), -1))
    assert error <= 0.005


def test_a_model_like_ours_is_decided_alike_on_99_5_percent_with_a_quarter_of_the_work():
    """Shares of 4,000 images from Beta(.3, .3): a fifth of them undecided between 30 and 70 %."""
    generator = torch.Generator().manual_seed(1)
    torch_state = torch.random.get_rng_state()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        shares = torch.distributions.Beta(0.3, 0.3).sample((4000,))
    assert torch.equal(torch_state, torch.random.get_rng_state())
    error, mean = simulate(votes(shares, 4000, generator))
    assert error <= 0.005
    assert mean <= MOST / 4


def test_draws_that_all_agree_decide_at_once_and_a_rare_disagreement_has_been_allowed_for():
    """Eight sure draws are enough; eight draws that lead by a little each are not."""
    sure = torch.tensor([[0.98, 0.01, 0.01]]).expand(FEWEST, 1, 3)
    close = torch.tensor([[0.51, 0.49, 0.0]]).expand(FEWEST, 1, 3)
    assert decided(sure).tolist() == [True]
    assert decided(close).tolist() == [False]
    assert not decided(torch.full((FEWEST, 1, 3), torch.nan)).any()


def test_a_shipped_checkpoint_is_decided_as_by_256_draws(digits):
    """On darkened images, many near a boundary: the same classes, with a quarter of the draws.

    `benchmarks/scoring.py` does this on all checkpoints and on attacked images.
    """
    model, data = rb.load_checkpoint(CHECKPOINTS / "digits-dropout.safetensors"), digits.subset(20)
    images = data.images.float() / 255 * 0.6
    auto, full = (rb.score(model, data, images, score_draws=draws).records for draws in ("auto", MOST))
    assert auto["prediction"].tolist() == full["prediction"].tolist()
    assert auto["score_draws"].mean() <= MOST / 4


@pytest.mark.parametrize("count", [8, 16, 64])
def test_an_image_is_decided_where_its_lead_is_three_standard_errors(count):
    """Equal draws and a lost one: whatever the lead, the rule is that of their mean and their spread."""
    for lead in [step / 200 for step in range(201)]:
        leads = np.array([lead] * count + [-1.0])
        expected = leads.mean() > 3 * leads.std() * math.sqrt(1 / count - 1 / 256)
        values = torch.tensor([(1 + lead) / 2, (1 - lead) / 2]).expand(count, 1, 2)
        assert bool(decided(values)) == bool(expected), lead
