"""The parts of the recipes against independent implementations: scipy, Pillow, or the loop they replace."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from robustbench_sde.errors import BenchError
from robustbench_sde.perturbations.corruptions import blur, corrupt, filters, jpeg, water
from robustbench_sde.perturbations.corruptions.filters import Border
from robustbench_sde.perturbations.corruptions.frost import PHOTOGRAPHS
from robustbench_sde.perturbations.corruptions.noise import poisson_quantile

rng = np.random.default_rng


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """One random channel: (1, 1, H, W) float32."""
    return torch.from_numpy(rng(seed).random((1, 1, height, width), dtype=np.float32))


@pytest.mark.parametrize("rate", [0, 0.5, 3.9, 4, 7, 20, 500])
def test_poisson_quantiles_have_the_poisson_law(rate: float) -> None:
    """The total variation to the exact distribution is below one in a thousand."""
    z = torch.from_numpy(stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)).float()
    counts = poisson_quantile(torch.full_like(z, rate), z).numpy().astype(int)
    shares = np.bincount(counts) / len(counts)
    exact = stats.poisson.pmf(np.arange(len(shares)), rate)
    assert np.abs(shares - exact).sum() / 2 < 1e-3


@pytest.mark.parametrize("delta", [1, 2, 4])
def test_glass_shuffle_equals_the_sequential_loop(delta: int) -> None:
    """Following pointers gives what copying pixel after pixel gives, as the published loop does."""
    height, width = 13, 11
    offsets = rng(delta).integers(-delta, delta, (3, 2, height, width))
    sources = blur._shuffle_sources(torch.from_numpy(offsets), delta).numpy()
    for (dx, dy), source in zip(offsets, sources, strict=True):
        pixels = np.arange(height * width).reshape(height, width)
        for h in range(height - delta, delta, -1):
            for w in range(width - delta, delta, -1):
                pixels[h, w] = pixels[h + dy[h, w], w + dx[h, w]]
        assert np.array_equal(source, pixels)


@pytest.mark.parametrize(("border", "mode"), [(Border.EDGE, "nearest"), (Border.SYMMETRIC, "reflect")])
@pytest.mark.parametrize("sigma", [0.05, 0.4, 1.0, 6.4, 20.0])
@pytest.mark.parametrize("shape", [(32, 32), (7, 5), (1, 1)])
def test_gaussian_blur_equals_scipy(border: Border, mode: str, sigma: float, shape: tuple[int, int]) -> None:
    """Small and dense kernels, larger and smaller than the image, at both borders."""
    x = image(*shape)
    expected = ndimage.gaussian_filter(x[0, 0].double().numpy(), sigma, mode=mode, truncate=3)
    ours = filters.gaussian_blur(x, sigma, truncate=3, border=border)[0, 0]
    assert np.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(17, 23), (3, 2), (1, 1), (1, 6)])
def test_reflection_equals_scipy(shape: tuple[int, int]) -> None:
    """The border of OpenCV, scipy's mirror, even for images smaller than the kernel."""
    x, kernel = image(*shape), rng(1).random((9, 9))
    expected = ndimage.correlate(x[0, 0].double().numpy(), kernel, mode="mirror")
    assert np.allclose(filters.correlate(x, kernel, Border.REFLECT)[0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.23, 1.75, 2.25, 4.5])
@pytest.mark.parametrize("size", [32, 33, 64])
def test_clipped_zoom_equals_scipy(factor: float, size: int) -> None:
    """The centre crop, enlarged by scipy's bilinear zoom and trimmed."""
    x = image(size, size)
    crop = int(np.ceil(size / factor))
    start = (size - crop) // 2
    zoomed = ndimage.zoom(x[0, 0, start : start + crop, start : start + crop].numpy(), factor, order=1)
    trim = (len(zoomed) - size) // 2
    expected = zoomed[trim : trim + size, trim : trim + size]
    assert np.allclose(filters.clipped_zoom(x, factor)[0, 0], expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(32, 32), (28, 28), (45, 61), (224, 224), (3, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixelate_and_jpeg_equal_pillow(shape: tuple[int, int], channels: int) -> None:
    """Resizing and compressing by Pillow gives the same bytes, for grey and colour, at all sizes."""
    pixels = rng(0).integers(0, 256, (*shape, channels), dtype=np.uint8)
    picture = Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    height, width = shape
    for severity, (share, quality) in enumerate(
        [(0.95, 80), (0.9, 65), (0.85, 58), (0.75, 50), (0.65, 40)], 1
    ):
        size = max(1, int(width * share)), max(1, int(height * share))
        resized = picture.resize(size, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)
        ours = corrupt(tensor, "pixelate", severity, family="cifar")[0].permute(1, 2, 0).numpy()
        assert np.array_equal(ours, np.array(resized).reshape(*shape, channels))

        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        ours = corrupt(tensor, "jpeg_compression", severity, family="cifar")[0].permute(1, 2, 0).numpy()
        assert np.array_equal(ours, np.array(Image.open(stream)).reshape(*shape, channels))


@pytest.mark.parametrize("channels", [1, 3])
def test_both_jpeg_codecs_agree(channels: int) -> None:
    """Pillow, used where torchvision lacks its codec, gives the same bytes."""
    pixels = torch.from_numpy(rng(0).integers(0, 256, (4, channels, 30, 45), dtype=np.uint8))
    for quality in (7, 25, 50, 80):
        assert torch.equal(jpeg.by_pillow(pixels, quality), jpeg.through_jpeg(pixels, quality))


def test_motion_blur_leaves_a_trail_along_its_angle() -> None:
    """A dot becomes a Gaussian trail to the left and, at 45 degrees, upwards, of weight 1."""
    dot = torch.zeros(2, 1, 21, 21)
    dot[:, :, 15, 15] = 1
    flat, diagonal = filters.motion_blur(dot, torch.tensor([0.0, 45.0]), 8, 3.0)[:, 0]
    weights = np.exp(-0.5 * (np.arange(17) / 3) ** 2)
    assert np.allclose(flat[15, :16].flip(0)[:16], (weights / weights.sum())[:16], atol=1e-5)
    assert diagonal.sum() == pytest.approx(1, abs=1e-4)
    rows, columns = np.nonzero(diagonal.numpy())
    assert np.array_equal(rows, columns)
    assert rows.max() == 15


def test_edges_and_distances() -> None:
    """A bright square has an outline of edges, and distances grow along the chamfer moves."""
    square = torch.zeros(1, 1, 20, 20)
    square[..., 8:12, 8:12] = 200
    edges = water.canny(square)
    assert edges.any()
    assert not edges[..., :6, :].any()
    assert not edges[..., 9:11, 9:11].any()

    point = torch.zeros(1, 1, 31, 31, dtype=torch.bool)
    point[..., 0, 0] = True
    distance = water.edge_distance(point)[0, 0]
    assert distance[0, 5] == 5
    assert distance[4, 4] == pytest.approx(4 * 1.4)
    assert distance[2, 4] == pytest.approx(2 * 2.1969)
    assert distance.max() == 20


def test_equalised_histograms_use_the_whole_range() -> None:
    """Three equally frequent levels become 0, half and full; a constant image stays."""
    levels = torch.tensor([10.0, 11.0, 12.0]).repeat(4).reshape(1, 1, 3, 4)
    assert water.equalise(levels).unique().tolist() == [0, 128, 255]
    assert water.equalise(torch.full((1, 1, 2, 2), 7.0)).unique().tolist() == [7]


def test_water_is_shaded_as_by_opencv() -> None:
    """A small splash and three drops, with the opacities that OpenCV's chain of functions gives them."""
    levels = np.zeros((12, 12))
    levels[0, 11], levels[1, 10:], levels[2, 9:] = 180, (184, 186), (184, 183, 179)
    levels[9, 0], levels[10, 0], levels[10, 4] = 188, 183, 182
    liquid = torch.from_numpy((levels + 0.5) / 255 * (levels > 0)).float()
    expected = np.zeros((12, 12))
    expected[2, 9:], expected[10, 4] = (2392, 4575, 6802), 4550
    assert np.allclose(water.droplets(liquid[None, None])[0, 0], expected / 6802, atol=1e-6)


def test_frost_uses_the_originals_when_there(tmp_path: Path) -> None:
    """Each image gets a crop of one of the five photographs, weighted as published."""
    for level, name in enumerate(PHOTOGRAPHS):
        Image.new("RGB", (300, 200), (40 * level, 40 * level, 40 * level)).save(tmp_path / name)
    out = corrupt(torch.zeros(64, 3, 32, 32), "frost", 1, frost_dir=tmp_path)
    assert np.allclose(out.amax((1, 2, 3)), out.amin((1, 2, 3)), atol=0.01)
    levels = (out.mean((1, 2, 3)) / 0.2 * 255 / 40).round().unique()
    assert levels.tolist() == [0, 1, 2, 3, 4]


def test_a_missing_frost_photograph_is_named(tmp_path: Path) -> None:
    """The error gives the path and what the folder needs."""
    with pytest.raises(BenchError, match=r"frost\d\.\w+: no readable frost photograph"):
        corrupt(torch.zeros(1, 3, 32, 32), "frost", 1, frost_dir=tmp_path)
