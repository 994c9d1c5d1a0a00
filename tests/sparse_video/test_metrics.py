"""PSNR and SSIM against values known by hand and a slow reading of the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from plugins.sparse_video.errors import SparseVideoInputError
from plugins.sparse_video.metrics import psnr, ssim


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def test_equal_clips() -> None:
    clip = noise(0, 3, 16, 20, 3)
    assert psnr(clip, clip) == math.inf
    assert ssim(clip, clip) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("error", "decibels"), [(0.1, 20.0), (0.01, 40.0), (1.0, 0.0)])
def test_psnr_of_a_constant_error(error: float, decibels: float) -> None:
    clip = np.zeros((2, 12, 12, 3))
    assert psnr(clip + error, clip) == pytest.approx(decibels)


def test_psnr_is_over_the_whole_clip_not_a_mean_over_frames() -> None:
    clip = np.zeros((2, 12, 12, 3))
    other = clip.copy()
    other[0] = 0.1
    assert psnr(other, clip) == pytest.approx(10 * math.log10(1 / 0.005))


def test_ssim_of_two_constants_is_the_luminance_term() -> None:
    a, b = 0.3, 0.7
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert ssim(np.full((12, 12, 3), a), np.full((12, 12, 3), b)) == pytest.approx(expected)


def test_ssim_of_a_clip_and_its_negative_is_negative() -> None:
    clip = noise(1, 16, 16, 1)
    assert ssim(clip, 1 - clip) < -0.5


def test_ssim_is_equation_13_of_wang_et_al_window_by_window() -> None:
    x, y = noise(2, 14, 13), noise(3, 14, 13)
    places = np.arange(11) - 5
    window = np.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for row in range(14 - 10):
        for column in range(13 - 10):
            u, v = (image[row : row + 11, column : column + 11] for image in (x, y))
            mu_u, mu_v = (window * u).sum(), (window * v).sum()
            var_u, var_v = (window * (u - mu_u) ** 2).sum(), (window * (v - mu_v) ** 2).sum()
            covariance = (window * (u - mu_u) * (v - mu_v)).sum()
            top = (2 * mu_u * mu_v + 0.01**2) * (2 * covariance + 0.03**2)
            values.append(top / ((mu_u**2 + mu_v**2 + 0.01**2) * (var_u + var_v + 0.03**2)))
    assert ssim(x[..., None], y[..., None]) == pytest.approx(np.mean(values), rel=1e-10)


def test_bytes_and_floats_agree() -> None:
    x, y = ((255 * noise(seed, 2, 12, 12, 3)).astype(np.uint8) for seed in (4, 5))
    assert psnr(x, y) == pytest.approx(psnr(x / 255, y / 255))
    assert ssim(x, y) == pytest.approx(ssim(x / 255, y / 255))


def test_clips_that_cannot_be_compared() -> None:
    with pytest.raises(SparseVideoInputError, match="one shape"):
        psnr(noise(0, 2, 12, 12, 3), noise(0, 3, 12, 12, 3))
    with pytest.raises(SparseVideoInputError, match="11 x 11 or more"):
        ssim(noise(0, 2, 8, 12, 3), noise(1, 2, 8, 12, 3))
