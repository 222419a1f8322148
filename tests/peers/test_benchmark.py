"""The comparison with other libraries counts what it says it counts."""

import pytest
import torch
from builders import make_data, make_model

from benchmarks.families import MeanDraws
from benchmarks.peers import CHECKPOINTS, TIMES, Job, OneDraw, attackers, main, other_families
from robustbench_sde.data import to_float


@pytest.mark.parametrize("kind", ["none", "multiplicative"])
def test_every_peer_gets_at_least_the_budget_and_auto_no_more(kind):
    """Counted from outside, every peer gets at least the budget, and auto no more than it."""
    # APGD and our pgd drop images that they have fooled, so they may take fewer passes than they are given
    job = Job(make_model(kind), make_data(6), eps=0.05)
    gradients = 8
    budget = gradients * (1 if kind == "none" else 8)
    (first, auto), *peers = attackers(job, gradients)
    assert first == "auto"
    assert 0 < auto.most <= budget
    assert len(peers) == 5
    for name, made in peers:
        assert made.most >= budget, name
        assert name in ("torchattacks APGD", "pgd") or made.passes == made.most, name


def test_each_forward_pass_of_the_module_is_a_fresh_draw_and_a_run_repeats_itself():
    """Two calls differ, two modules agree call by call, and no global generator is touched."""
    model, images = make_model(), to_float(make_data(3).images)
    before = torch.random.get_rng_state()
    one, other = OneDraw(model), OneDraw(model)
    first, second = one(images), one(images)
    assert not torch.allclose(first, second)
    assert torch.equal(first, other(images))
    assert torch.equal(second, other(images))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_table_has_a_row_for_every_attacker(tmp_path, capsys):
    """Six rows a checkpoint and budget, in the terminal and in the file."""
    out = tmp_path / "table.md"
    checkpoint = str(CHECKPOINTS / "digits-ode.safetensors")
    main(
        ["--checkpoints", checkpoint, "--images", "4", "--eps", "0.03", "--gradients", "6", "--out", str(out)]
    )
    lines = out.read_text().splitlines()
    assert lines == capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("| digits-ode")]
    assert len(rows) == 6
    assert all(row.count("|") == 9 for row in rows)
    assert all("| yes |" in row or "**no**" in row for row in rows[1:])


@pytest.mark.parametrize("kind", ["none", "multiplicative"])
def test_the_module_of_other_families_counts_passes_and_gives_mean_probabilities(kind):
    """A call is as many fresh draws as it counts, and its softmax is the mean probability over these."""
    model, images = make_model(kind), to_float(make_data(3).images)
    module, draws = MeanDraws(model), 1 if kind == "none" else 8
    output = module(images.requires_grad_())
    output.sum().backward()
    assert (module.forward_passes, module.backward_passes) == (3 * draws, 3 * draws)
    one = OneDraw(model)
    mean = torch.stack([one(images).softmax(1) for _ in range(draws)]).mean(0)
    assert torch.allclose(output.softmax(1), mean, atol=1e-6)


@pytest.mark.parametrize("kind", ["none", "multiplicative"])
def test_attackers_of_other_families_get_five_times_the_passes_of_auto(kind):
    """Each makes images in the ball; those that drop no image take all of their passes."""
    pytest.importorskip("adv_lib.attacks")
    pytest.importorskip("multiprocess")
    job, gradients = Job(make_model(kind), make_data(4), eps=0.05), 12
    budget = gradients * (1 if kind == "none" else 8)
    (first, auto), *others = other_families(job, gradients)
    assert first == "auto"
    assert 0 < auto.most <= budget
    assert len(others) == 7
    for name, made in others:
        assert made.most == TIMES * budget, name
        assert (made.images - to_float(job.data.images)).abs().max() <= 0.05 + 1e-6, name
    assert dict(others)["adv-lib pdpgd"].passes >= TIMES * budget
