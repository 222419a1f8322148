"""The published recipes of the 19 corruptions, once more: one image at a time, numpy's random numbers.

Written from the paper's parameters with the libraries that the published generator uses (OpenCV,
scikit-image, scipy, Pillow), so that it shares nothing with the package but the table of severities. Slow and
literal on purpose: it is what `corruption_reference.py` compares the package with. ImageMagick's motion blur
is written out; the frost photographs are those that the package imagecorruptions ships.

Every recipe maps `(image, random, *parameters)` to values in [0, 255] before the cast; `image` is
(32, 32, 3) uint8. Source: Hendrycks & Dietterich, ICLR 2019, and its generator make_cifar_c.py.
"""

import math
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import map_coordinates, zoom
from skimage.color import hsv2rgb, rgb2hsv
from skimage.filters import gaussian
from skimage.util import random_noise

Array = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Random = np.random.Generator

SIDE = 32
PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


def gaussian_noise(image: Bytes, random: Random, sigma: float) -> Array:
    return to_bytes(image / 255 + random.normal(0, sigma, image.shape))


def shot_noise(image: Bytes, random: Random, photons: float) -> Array:
    return to_bytes(random.poisson(image / 255 * photons) / photons)


def impulse_noise(image: Bytes, random: Random, share: float) -> Array:
    return to_bytes(random_noise(image / 255, mode="s&p", rng=random, amount=share))


def speckle_noise(image: Bytes, random: Random, sigma: float) -> Array:
    x = image / 255
    return to_bytes(x + x * random.normal(0, sigma, x.shape))


def gaussian_blur(image: Bytes, random: Random, sigma: float) -> Array:
    return to_bytes(gaussian(image / 255, sigma=sigma, channel_axis=-1))


def glass_blur(image: Bytes, random: Random, sigma: float, delta: int, iterations: int) -> Array:
    """The loop as it was run: the sides of a swap are views, so that its second assignment does nothing."""
    x = cast(to_bytes(gaussian(image / 255, sigma=sigma, channel_axis=-1)))
    pixels = range(SIDE - delta, delta, -1)
    offsets = random.integers(-delta, delta, (iterations, SIDE, SIDE, 2)).tolist()
    for iteration, row, column in product(range(iterations), pixels, pixels):
        right, down = offsets[iteration][row][column]
        here, there = x[row, column], x[row + down, column + right]
        here[:], there[:] = there, here
    return to_bytes(gaussian(x / 255, sigma=sigma, channel_axis=-1))


def defocus_blur(image: Bytes, random: Random, radius: float, alias_blur: float) -> Array:
    y, x = np.mgrid[-8:9, -8:9]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    kernel = cv2.GaussianBlur(disk / disk.sum(), (3, 3), alias_blur)
    return to_bytes(cv2.filter2D(image / 255, -1, kernel))


def motion_blur(image: Bytes, random: Random, radius: int, sigma: float) -> Array:
    return motion(image.astype(float), radius, sigma, random.uniform(-45, 45))


def zoom_blur(image: Bytes, random: Random, start: float, stop: float, step: float) -> Array:
    x = image / 255
    zoomed = [clipped_zoom(x, factor) for factor in np.arange(start, stop, step)]
    return to_bytes((x + sum(zoomed)) / (len(zoomed) + 1))


def snow(
    image: Bytes,
    random: Random,
    mean: float,
    spread: float,
    factor: float,
    threshold: float,
    radius: int,
    sigma: float,
    mix: float,
) -> Array:
    noise = clipped_zoom(random.normal(mean, spread, (SIDE, SIDE, 1)), factor)
    layer = cast(to_bytes(np.where(noise < threshold, 0, noise)))
    flakes = cast(motion(layer.astype(float), radius, sigma, random.uniform(-135, -45))) / 255
    x = (image / 255).astype(np.float32)
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    whitened = mix * x + (1 - mix) * np.maximum(x, grey * 1.5 + 0.5)
    return to_bytes(whitened + flakes + flakes[::-1, ::-1])


def frost(image: Bytes, random: Random, image_weight: float, frost_weight: float) -> Array:
    photograph = photographs()[random.integers(len(PHOTOGRAPHS))]
    top, left = (random.integers(size - SIDE) for size in photograph.shape[:2])
    crop = photograph[top : top + SIDE, left : left + SIDE]
    return np.clip(image_weight * image + frost_weight * crop, 0, 255)


def fog(image: Bytes, random: Random, strength: float, decay: float) -> Array:
    x = image / 255
    brightest = x.max()
    return to_bytes((x + strength * plasma(random, decay)[..., None]) * brightest / (brightest + strength))


def brightness(image: Bytes, random: Random, shift: float) -> Array:
    hsv = rgb2hsv(image / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + shift, 0, 1)
    return to_bytes(hsv2rgb(hsv))


def saturate(image: Bytes, random: Random, factor: float, shift: float) -> Array:
    hsv = rgb2hsv(image / 255)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + shift, 0, 1)
    return to_bytes(hsv2rgb(hsv))


def contrast(image: Bytes, random: Random, factor: float) -> Array:
    x = image / 255
    mean = x.mean((0, 1), keepdims=True)
    return to_bytes((x - mean) * factor + mean)


def elastic_transform(image: Bytes, random: Random, alpha: float, sigma: float, affine: float) -> Array:
    x: npt.NDArray[Any] = (image / 255).astype(np.float32)
    corners = np.array([[1, 1], [1, -1], [-1, -1]], np.float32)
    points = SIDE // 2 + SIDE // 3 * corners
    shifts = random.uniform(-affine * SIDE, affine * SIDE, points.shape).astype(np.float32)
    matrix = cv2.getAffineTransform(points, points + shifts)
    x = cv2.warpAffine(x, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101)
    across, down = (
        gaussian(random.uniform(-1, 1, (SIDE, SIDE)), sigma * SIDE, mode="reflect", truncate=3) * alpha * SIDE
        for _ in range(2)
    )
    rows, columns = np.mgrid[:SIDE, :SIDE]
    places = [rows + down, columns + across]
    channels = [map_coordinates(x[..., c], places, order=1, mode="reflect") for c in range(3)]
    return to_bytes(np.stack(channels, axis=-1))


def pixelate(image: Bytes, random: Random, share: float) -> Array:
    small = Image.fromarray(image).resize((int(SIDE * share),) * 2, Image.Resampling.BOX)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX)).astype(float)


def jpeg_compression(image: Bytes, random: Random, quality: int) -> Array:
    stored = BytesIO()
    Image.fromarray(image).save(stored, "JPEG", quality=quality)
    return np.asarray(Image.open(stored)).astype(float)


def spatter(
    image: Bytes,
    random: Random,
    mean: float,
    spread: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: int,
) -> Array:
    x = image / 255
    liquid = gaussian(random.normal(mean, spread, (SIDE, SIDE)), sigma=sigma)
    liquid[liquid < threshold] = 0
    if mud:
        cover = gaussian((liquid > threshold).astype(np.float32), sigma=strength)[..., None]
        cover[cover < 0.8] = 0
        return to_bytes(x * (1 - cover) + cover * np.array([63, 42, 20]) / 255)
    thickness = (liquid * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(thickness, 50, 150), cv2.DIST_L2, 5)
    shading = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    shading = cv2.filter2D(shading, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    opacity = thickness * cv2.blur(shading, (3, 3)).astype(np.float32)
    opacity *= strength / opacity.max()
    return to_bytes(x + opacity[..., None] * np.array([175, 238, 238]) / 255)


def motion(x: Array, radius: int, sigma: float, degrees: float) -> Array:
    """ImageMagick's motion blur: a one-sided Gaussian trail of whole-pixel steps, the border repeated."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    angle = math.radians(degrees)
    blurred = np.zeros_like(x)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        rows = np.arange(SIDE) + math.ceil(step * math.sin(angle) - 0.5)
        columns = np.arange(SIDE) + math.ceil(step * math.cos(angle) - 0.5)
        blurred += weight * x[np.ix_(rows.clip(0, SIDE - 1), columns.clip(0, SIDE - 1))]
    return blurred


def clipped_zoom(x: Array, factor: float) -> Array:
    """The centre of (32, 32, C), enlarged and cut to the same shape."""
    size = math.ceil(SIDE / factor)
    start = (SIDE - size) // 2
    large = zoom(x[start : start + size, start : start + size], (factor, factor, 1), order=1)
    cut = (len(large) - SIDE) // 2
    return np.asarray(large[cut : cut + SIDE, cut : cut + SIDE])


def plasma(random: Random, decay: float) -> Array:
    """Diamond-square on a torus of 32 x 32, in [0, 1]."""
    heights, step, wibble = np.zeros((SIDE, SIDE)), SIDE, 100.0

    def fill(top: int, left: int, offsets: list[tuple[int, int]]) -> None:
        rows, columns = np.arange(top, SIDE, step), np.arange(left, SIDE, step)
        around = [heights[np.ix_((rows + dy) % SIDE, (columns + dx) % SIDE)] for dy, dx in offsets]
        noise = wibble * random.uniform(-wibble, wibble, around[0].shape)
        heights[np.ix_(rows, columns)] = sum(around) / 4 + noise

    while step >= 2:
        half = step // 2
        cross = [(-half, 0), (half, 0), (0, -half), (0, half)]
        fill(half, half, [(dy, dx) for dy in (-half, half) for dx in (-half, half)])
        fill(0, half, cross)
        fill(half, 0, cross)
        step, wibble = half, wibble / decay
    heights -= heights.min()
    return np.asarray(heights / heights.max())


@cache
def photographs() -> list[Bytes]:
    """The five photographs of frost at a fifth of their size, RGB."""
    package = find_spec("imagecorruptions")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("frost needs the photographs of `pip install imagecorruptions==1.1.2`")
    folder = Path(package.submodule_search_locations[0]) / "frost"
    found = [cv2.imread(str(folder / name)) for name in PHOTOGRAPHS]
    small = [cv2.resize(photograph, (0, 0), fx=0.2, fy=0.2)[..., ::-1] for photograph in found]
    return [np.asarray(photograph, np.uint8) for photograph in small]


def to_bytes(x: Array) -> Array:
    """[0, 1], clipped, to [0, 255]."""
    return np.clip(x, 0, 1) * 255


def cast(x: Array) -> Bytes:
    """Cut the fraction off, which is how the generator stores images."""
    return x.astype(np.uint8)


RECIPES: dict[str, Callable[..., Array]] = {
    recipe.__name__: recipe
    for recipe in (
        gaussian_noise,
        shot_noise,
        impulse_noise,
        defocus_blur,
        glass_blur,
        motion_blur,
        zoom_blur,
        snow,
        frost,
        fog,
        brightness,
        contrast,
        elastic_transform,
        pixelate,
        jpeg_compression,
        speckle_noise,
        gaussian_blur,
        spatter,
        saturate,
    )
}


def corrupt(images: Bytes, name: str, random: Random, parameters: tuple[float, ...]) -> Bytes:
    """(N, 32, 32, 3) uint8 images under one recipe."""
    return np.stack([cast(RECIPES[name](image, random, *parameters)) for image in images])
