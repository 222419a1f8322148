"""Weather on the lens and in the air (Hendrycks & Dietterich, ICLR 2019).

Every recipe maps images (B, C, H, W) float32 in [0, 1] to images of the same shape; `corrupt` clips them.
Lengths in pixels are the radius and sigma of snow's motion blur, and spatter's sigma and, for mud, strength.
"""

import torch
from torch import Tensor

from robustbench_sde.perturbations.corruptions import filters
from robustbench_sde.perturbations.corruptions.colour import in_colour, luminance
from robustbench_sde.perturbations.corruptions.frost import photographed_frost, synthetic_frost
from robustbench_sde.perturbations.corruptions.quantise import truncate
from robustbench_sde.perturbations.corruptions.setting import Setting
from robustbench_sde.perturbations.corruptions.water import droplets


def snow(
    x: Tensor,
    setting: Setting,
    mean: float,
    spread: float,
    zoom: float,
    threshold: float,
    radius: float,
    sigma: float,
    mix: float,
) -> Tensor:
    """Enlarged noise above a threshold, blurred by falling and added twice, to a whitened image."""
    noise = mean + spread * setting.normals(1, *x.shape[-2:], part="flakes")
    flakes = filters.clipped_zoom(noise, zoom)
    flakes = truncate(flakes.masked_fill(flakes < threshold, 0).clamp(0, 1)) / 255
    angles = 90 * setting.host_uniforms(part="angle") - 135
    flakes = filters.motion_blur(flakes, angles, setting.pixels(radius), setting.pixels(sigma))
    flakes = truncate(flakes) / 255
    whitened = torch.maximum(x, 1.5 * luminance(x) + 0.5)
    return mix * x + (1 - mix) * whitened + flakes + flakes.flip(-2, -1)


@in_colour
def frost(x: Tensor, setting: Setting, image_weight: float, frost_weight: float) -> Tensor:
    """A weighted sum of the image and a layer of frost."""
    make = synthetic_frost if setting.frost_dir is None else photographed_frost
    return image_weight * x + frost_weight * make(setting, *x.shape[-2:])


def fog(x: Tensor, setting: Setting, strength: float, decay: float) -> Tensor:
    """A plasma added to the image, then darkened so that the brightest value of the image stays."""
    height, width = x.shape[-2:]
    size = 1 << (max(height, width) - 1).bit_length()
    plasma = _plasma(setting, size, decay)[:, None, :height, :width]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + strength * plasma) * brightest / (brightest + strength)


@in_colour
def spatter(
    x: Tensor,
    setting: Setting,
    mean: float,
    spread: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: float,
) -> Tensor:
    """Splashes where smoothed noise exceeds a threshold: shaded water, or opaque mud if `mud`.

    At other sizes the noise is amplified by what a scaled sigma smooths more, so that splashes cover the same
    share of the image.
    """
    sigma, kept = setting.pixels(sigma), _kept_deviation(sigma)
    noise = mean + spread * kept / _kept_deviation(sigma) * setting.normals(1, *x.shape[-2:])
    liquid = filters.gaussian_blur(noise, sigma)
    liquid = liquid.masked_fill(liquid < threshold, 0)
    if not mud:
        turquoise = x.new_tensor([175, 238, 238]).reshape(3, 1, 1) / 255
        return x + strength * droplets(liquid) * turquoise
    brown = x.new_tensor([63, 42, 20]).reshape(3, 1, 1) / 255
    cover = filters.gaussian_blur((liquid > threshold).to(x.dtype), setting.pixels(strength))
    cover = cover.masked_fill(cover < 0.8, 0)
    return x * (1 - cover) + brown * cover


def _kept_deviation(sigma: float) -> float:
    """The standard deviation of white noise after a Gaussian blur, as a share of that before."""
    return float((filters.gaussian_kernel(sigma) ** 2).sum())


def _plasma(setting: Setting, size: int, decay: float) -> Tensor:
    """Diamond-square heights on a torus, scaled to [0, 1]: (B, size, size) for a power of two.

    As published, a new point is a quarter of the sum of its four neighbours plus uniform noise of amplitude
    wibble^2, where the wibble starts at 100 and is divided by `decay` at every halving of the step.
    """
    u = 2 * setting.uniforms(size, size) - 1
    heights = torch.zeros_like(u)
    step, wibble = size, 100.0
    while step >= 2:
        noise = wibble**2 * u
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        centres = (pairs + pairs.roll(-1, 2)) / 4 + noise[:, half::step, half::step]
        heights[:, half::step, half::step] = centres
        beside = centres + centres.roll(1, 1) + corners + corners.roll(-1, 2)
        heights[:, ::step, half::step] = beside / 4 + noise[:, ::step, half::step]
        above = centres + centres.roll(1, 2) + corners + corners.roll(-1, 1)
        heights[:, half::step, ::step] = above / 4 + noise[:, half::step, ::step]
        step, wibble = half, wibble / decay
    low, high = heights.amin((1, 2), keepdim=True), heights.amax((1, 2), keepdim=True)
    return (heights - low) / (high - low).clamp(min=torch.finfo(u.dtype).tiny)
