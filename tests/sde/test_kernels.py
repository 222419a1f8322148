"""Triton kernels of noise against numpy's words and torch's formulas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import DEVICE, MARKS

from robustbench_sde.sde import draws as draws_module
from robustbench_sde.sde import keyed as keyed_module
from robustbench_sde.sde import philox
from robustbench_sde.sde.diffusion import NOISE_TERMS
from robustbench_sde.sde.draws import BrownianPaths, Draws, Stream
from robustbench_sde.sde.kernels import channels_innermost, lay_out, numbers, update
from robustbench_sde.sde.keyed import KeyedNumbers, KeyedRows

pytestmark = MARKS

#: Two implementations of log, cos and sin: one unit in the last place of each, at normals of up to 6.67.
BOUND = 2e-6


def keyed_rows(rows, seed=0):
    """Key and counters of rows on the device."""
    key = torch.from_numpy(philox.key(seed, "score", "path").view("<i8").copy())
    return KeyedRows(torch.cat((key[None], torch.tensor(rows))).to(DEVICE), len(rows), 1)


def from_host(rows, size, steps, first, site, law, seed=0):
    """Make the numbers by numpy: (steps, rows, size)."""
    blocks = -(-size // philox.WORDS_PER_BLOCK)
    raw = philox.words(philox.key(seed, "score", "path"), rows, steps * blocks, first_block=first, site=site)
    words = philox.signed(raw).view(len(rows), steps, -1)
    return (words if law is None else law(words))[..., :size].transpose(0, 1)


@given(
    seed=st.integers(),
    rows=st.lists(st.tuples(*[st.integers(0, 2**63 - 1)] * 2), min_size=1, max_size=4),
    size=st.one_of(st.integers(1, 70), st.sampled_from([1024, 2048, 2056, 4000])),
    steps=st.integers(1, 3),
    first=st.integers(0, 2**62),
    site=st.integers(0, 2**40),
)
@settings(max_examples=60, deadline=None)
def test_words_and_uniforms_are_those_of_the_host(seed, rows, size, steps, first, site):
    """The kernel gives the words of numpy bit for bit, whatever key, counter, site, first block and size."""
    keyed = keyed_rows(rows, seed)
    for law in (None, philox.to_uniforms):
        made = numbers.make_numbers(
            keyed.key, keyed.counters, size, steps=steps, first_block=first, site=site, law=law
        )
        assert torch.equal(made.cpu(), from_host(rows, size, steps, first, site, law, seed))


@pytest.mark.parametrize("size", [1, 5, 8, 13, 16, 24, 37, 64, 1000, 2048, 4096])
def test_normals_are_those_of_the_host_to_rounding(size):
    """Normals differ from the host's by less than 2e-6, for odd and even numbers of blocks."""
    rows = [(draw, image) for draw in range(7) for image in (0, 2**40)]
    keyed = keyed_rows(rows)
    made = numbers.make_numbers(keyed.key, keyed.counters, size, steps=2, first_block=3, site=65537).cpu()
    expected = from_host(rows, size, 2, 3, 65537, philox.to_normals)
    assert made.dtype == torch.float32
    assert float((made.double() - expected.double()).abs().max()) < BOUND


@pytest.mark.parametrize("size", [1, 5, 13, 27, 40])
def test_nothing_is_written_beyond_the_numbers(size, monkeypatch):
    """Memory behind the numbers stays as it was where the last block of a step is cut off."""
    whole, after = torch.empty, []

    def padded(shape, **options):
        memory = whole(math.prod(shape) + 64, **options).fill_(7.0)
        after.append(memory[math.prod(shape) :])
        return memory[: math.prod(shape)].view(shape)

    keyed = keyed_rows([(0, 0), (1, 0)])
    with monkeypatch.context() as patched:
        patched.setattr(torch, "empty", padded)
        made = numbers.make_numbers(keyed.key, keyed.counters, size)
    assert made.shape == (1, 2, size)
    assert torch.equal(after[0].cpu(), torch.full((64,), 7.0))


def test_a_kernel_that_runs_is_seen_to_run():
    """The trial before the first pass succeeds wherever these tests do."""
    assert keyed_module._kernels_run.__wrapped__(DEVICE)


@pytest.mark.parametrize("kind", sorted(NOISE_TERMS))
def test_kernels_make_the_numbers_of_every_noise(kind, monkeypatch):
    """Normals, uniforms and Levy numbers of kernels are those of the host, as steps and inside an update."""
    monkeypatch.setattr(draws_module, "has_kernels", lambda device: True)
    term = NOISE_TERMS[kind](0.5)
    options = {"steps": 3, "site": 7, "law": term.law, "words": term.words, "device": DEVICE}
    given = Draws(3, Stream.SCORE, range(2, 4)), [5, 2**40]
    for shape in ((5, 3, 3), (4, 4, 2)):
        host, kernel = (
            BrownianPaths(*given, shape, backend=backend, **options) for backend in ("host", "device")
        )
        described = list(kernel.unmade(slice(None)))
        assert all(isinstance(step, KeyedNumbers) for step in described)
        for expected, step, later in zip(host, kernel, described, strict=True):
            assert torch.equal(step, later.make())
            near = torch.allclose(step.cpu(), expected.cpu(), rtol=1e-5, atol=BOUND)
            assert torch.equal(step.cpu(), expected.cpu()) if kind == "jump" else near


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "dropout"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("size", [(4, 4, 1), (8, 5, 2), (3, 4, 4), (6, 4, 4)])
def test_a_step_does_not_depend_on_where_channels_lie(kind, shared, size):
    """States with channels innermost have the bits of states in the usual order, and so have gradients."""
    draws, images, dt, scale = 2, 2, 0.125, 0.4
    rows = keyed_rows([(draw, image) for draw in range(draws) for image in (4, 9)])
    z = KeyedNumbers(rows, (draws, images, *size), first_block=11, site=2)
    generator = torch.Generator().manual_seed(math.prod(size))
    states = (1 if shared else draws, images, *size)
    h, drift, g = (torch.randn(shape, generator=generator).to(DEVICE) for shape in (states, states, z.shape))
    expected, found = [], []
    for results, layouts in ((expected, (False,) * 3), (found, (True,) * 3), (found, (True, False, False))):
        x, f, slope = (
            lay_out(one, innermost=innermost) for one, innermost in zip((h, drift, g), layouts, strict=True)
        )
        x, f = x.detach().requires_grad_(), f.detach().requires_grad_()
        end = update.advance(x, f, z, NOISE_TERMS[kind].kernel, dt, scale)
        assert channels_innermost(end) == layouts[0]
        results += [end, *torch.autograd.grad(end, (x, f), slope)]
    for one, other in zip(found, expected * 2, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "dropout"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("size", [(4, 4, 1), (8, 5, 2), (3, 16, 16)])
def test_a_fused_step_is_the_formula(kind, shared, size):
    """h + f dt + s G z and both gradients are those of torch's operations, first and second derivatives."""
    draws, images, dt, scale = 3, 2, 0.125, 0.4
    rows = keyed_rows([(listed, image) for listed in (0, -1, 2) for image in (4, 9)])  # the second mirrors
    z = KeyedNumbers(rows, (draws, images, *size), first_block=11, site=2)
    generator = torch.Generator().manual_seed(math.prod(size))
    states = (1 if shared else draws, images, *size)
    h, drift, g, along = (
        torch.randn(shape, generator=generator).to(DEVICE) for shape in (states, states, z.shape, states)
    )
    h, drift, g = h.requires_grad_(), drift.requires_grad_(), g.requires_grad_()
    assert update.fits(h, drift, z)
    fused = update.advance(h, drift, z, NOISE_TERMS[kind].kernel, dt, scale)
    factor = {"additive": torch.ones_like(h), "multiplicative": h, "dropout": drift}[kind]
    plain = h + drift * dt + scale * factor * z.make()
    assert torch.allclose(fused, plain, rtol=1e-6, atol=2e-6)
    expected = torch.autograd.grad(plain, (h, drift), g, create_graph=True)
    for again in (False, True):
        found = torch.autograd.grad(fused, (h, drift), g, create_graph=again, retain_graph=True)
        for one, other in zip(found, expected, strict=True):
            assert torch.allclose(one, other, rtol=1e-5, atol=5e-6)
    second, wanted = (torch.autograd.grad(end[0], g, along)[0] for end in (found, expected))
    assert torch.allclose(second, wanted, rtol=1e-5, atol=5e-6)


def test_steps_that_do_not_fit_are_told():
    """A step with shared numbers, of half blocks or of another law is left to torch's operations."""
    rows = keyed_rows([(0, 0), (1, 0)])
    h = torch.zeros(2, 1, 4, 4, device=DEVICE)
    assert update.fits(h, h, KeyedNumbers(rows, (2, 1, 4, 4), 0, 0))
    assert not update.fits(h, h, KeyedNumbers(rows, (2, 1, 4, 1), 0, 0))
    assert not update.fits(h, h, KeyedNumbers(rows, (2, 1, 4, 4), 0, 0, philox.to_uniforms))
    assert not update.fits(h.double(), h.double(), KeyedNumbers(rows, (2, 1, 4, 4), 0, 0))
    odd = h[..., :3]
    assert not update.fits(odd, odd, KeyedNumbers(rows, (2, 1, 4, 3), 0, 0))
