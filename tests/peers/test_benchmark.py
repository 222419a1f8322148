"""The comparison with other libraries counts what it says it counts."""

import pytest
import torch
from builders import make_data, make_model

from benchmarks.peers import CHECKPOINTS, Job, OneDraw, attackers, main
from robustbench_sde.data import to_float


@pytest.mark.parametrize("kind", ["none", "multiplicative"])
def test_every_peer_gets_at_least_the_budget_and_auto_no_more(kind):
    """Counted from outside, every peer gets at least the budget, and auto no more than it."""
    # APGD drops images that it has fooled, so it may take fewer passes than it is given
    job = Job(make_model(kind), make_data(6), eps=0.05)
    gradients = 8
    budget = gradients * (1 if kind == "none" else 8)
    (first, auto), *peers = attackers(job, gradients)
    assert first == "auto"
    assert 0 < auto.most <= budget
    assert len(peers) == 5
    for name, made in peers:
        assert made.most >= budget, name
        assert name == "torchattacks APGD" or made.passes == made.most, name


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
