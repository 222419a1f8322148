"""What holds for every corruption; a new one in the registry is tested without a change here."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustbench_sde.perturbations.corruptions import CORRUPTIONS, corrupt

PLAIN = ("uniform:0.1", "gaussian:0.1", "rotation:15", "translation:2.5")
NAMES = (*CORRUPTIONS, *PLAIN)
#: The others are random.
DETERMINISTIC = (
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
)

every_name = pytest.mark.parametrize("name", NAMES)


def photos(*shape: int, seed: int = 0) -> Tensor:
    """Smooth random uint8 images with all levels: stand-ins for photographs."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(*shape[:2], 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(noise, size=shape[2:], mode="bicubic", align_corners=True)
    return (255 * smooth.clamp(0, 1)).to(torch.uint8)


@every_name
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    batch=st.integers(0, 3),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    severity=st.integers(0, 5),
    dtype=st.sampled_from([torch.uint8, torch.float32, torch.float64, torch.float16, torch.bfloat16]),
)
def test_shape_type_and_range_stay(
    name: str, batch: int, channels: int, height: int, width: int, severity: int, dtype: torch.dtype
) -> None:
    """Images of any size and type give images of that size and type, in range and finite."""
    images = photos(batch, channels, height, width) if batch else torch.empty(0, channels, height, width)
    images = images.to(torch.uint8) if dtype == torch.uint8 else (images / 255).to(dtype)
    before = images.clone()
    out = corrupt(images, name, severity)
    assert out.shape == images.shape
    assert out.dtype == images.dtype
    assert out.device == images.device
    assert torch.equal(images, before)
    if batch and dtype != torch.uint8:
        assert 0 <= out.min() <= out.max() <= 1


@every_name
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (2, 3), (64, 64), (130, 140)])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_images_of_all_sizes_are_corrupted(name: str, shape: tuple[int, int], level: float) -> None:
    """Images without contrast or with one pixel give finite values, in all three families."""
    for severity in (1, 5):
        out = corrupt(torch.full((2, 3, *shape), level), name, severity)
        assert 0 <= out.min() <= out.max() <= 1


@every_name
@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_does_not_depend_on_its_batch(name: str, severity: int, channels: int) -> None:
    """Alone, in another order or in a batch, an image gives the same bits (uint8) and values (float)."""
    images, ids = photos(12, channels, 32, 32), [5, 1000003, 7, 2**40, 0, 1, 2, 3, 4, 9, 8, 6]
    together = corrupt(images, name, severity, image_ids=ids)
    backwards = corrupt(images.flip(0), name, severity, image_ids=ids[::-1]).flip(0)
    assert torch.equal(together, backwards)
    floats = corrupt(images / 255, name, severity, image_ids=torch.tensor(ids))
    for i in (0, 3, 11):
        one = slice(i, i + 1)
        assert torch.equal(corrupt(images[one], name, severity, image_ids=[ids[i]]), together[one])
        alone = corrupt(images[one] / 255, name, severity, image_ids=[ids[i]])
        assert torch.allclose(alone, floats[one], rtol=0, atol=1e-6)


@every_name
def test_keys_decide_the_randomness(name: str) -> None:
    """Random corruptions change with the seed and with the image id, the others with neither."""
    images = photos(1, 3, 32, 32)
    reference = corrupt(images, name, 3, image_ids=[1], seed=1)
    assert torch.equal(corrupt(images, name, 3, image_ids=[1], seed=1), reference)
    by_seed = corrupt(images, name, 3, image_ids=[1], seed=2)
    by_image = corrupt(images, name, 3, image_ids=[2], seed=1)
    # rotation has two outcomes only, of which other keys may choose the same
    if name != "rotation:15":
        assert torch.equal(by_seed, reference) == (name in DETERMINISTIC)
        assert torch.equal(by_image, reference) == (name in DETERMINISTIC)


@every_name
def test_the_global_random_state_is_left_alone(name: str) -> None:
    """Nothing is drawn from torch's own generator."""
    before = torch.get_rng_state()
    corrupt(photos(2, 3, 32, 32), name, 5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_0_is_the_identity(name: str) -> None:
    """Severity 0 gives equal images in memory of their own."""
    images = photos(2, 3, 32, 32)
    out = corrupt(images, name, 0)
    assert torch.equal(out, images)
    assert out.data_ptr() != images.data_ptr()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [28, 32, 64, 224])
def test_every_severity_changes_the_images(name: str, size: int) -> None:
    """No published parameter is lost on the way: all severities of all families do something of their own."""
    images = photos(4, 3, size, size)
    results = [corrupt(images, name, severity) for severity in range(6)]
    for i, one in enumerate(results):
        for other in results[:i]:
            assert not torch.equal(one, other)


@every_name
def test_uint8_is_the_truncated_float(name: str) -> None:
    """Bytes and floats are the same corruption: they differ by less than one level."""
    images = photos(4, 3, 32, 32)
    as_bytes, as_floats = corrupt(images, name, 4), corrupt(images / 255, name, 4)
    fraction = 255 * as_floats - as_bytes
    assert fraction.min() >= -1e-3
    assert fraction.max() < 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("severity", range(1, 6))
@every_name
def test_devices_agree(name: str, severity: int) -> None:
    """An accelerator gives what the CPU gives, up to rounding."""
    images = photos(4, 3, 32, 32) / 255
    found = corrupt(images.cuda(), name, severity).cpu()
    assert torch.allclose(found, corrupt(images, name, severity), rtol=0, atol=1e-3)
