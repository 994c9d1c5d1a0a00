"""How far one clip is from another: PSNR and SSIM."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import correlate1d

from .errors import SparseVideoInputError

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def psnr(clip: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio over a whole clip, dB; infinite for equal clips.

    Args:
        clip, reference: float in 0..1, or uint8, of one shape [..., H, W, C].
    """
    clip, reference = _as_floats(clip, reference)
    error = float(np.mean(np.square(clip - reference, dtype=np.float64)))
    return math.inf if error == 0 else 10 * math.log10(1 / error)


def ssim(clip: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity, mean over frames, channels and positions: 1 for equal clips, about 0 for unrelated ones.

    Z. Wang, A. Bovik, H. Sheikh, E. Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
    Similarity", 2004: an 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, positions where the window fits.

    Args:
        clip, reference: float in 0..1, or uint8, of one shape [..., H, W, C], H and W at least 11.
    """
    clip, reference = _as_floats(clip, reference)
    if min(clip.shape[-3:-1]) < WINDOW:
        raise SparseVideoInputError(
            f"frames are {clip.shape[-3]} x {clip.shape[-2]} pixels; SSIM needs {WINDOW} x {WINDOW} or more"
        )
    frames = zip(_frames(clip), _frames(reference), strict=True)
    return float(np.mean([_frame_ssim(first, second) for first, second in frames]))


def _frame_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Equation 13 of Wang et al. 2004, mean over positions and channels; x, y float64 [H, W, C]."""
    mu_x, mu_y = _smooth(x), _smooth(y)
    var_x, var_y = _smooth(x * x) - mu_x**2, _smooth(y * y) - mu_y**2
    covariance = _smooth(x * y) - mu_x * mu_y
    c1, c2 = K1**2, K2**2
    numerator = (2 * mu_x * mu_y + c1) * (2 * covariance + c2)
    return float(np.mean(numerator / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))))


def _smooth(image: np.ndarray) -> np.ndarray:
    """Means under the Gaussian window, [H - 10, W - 10, C]."""
    places = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(places**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    smooth = correlate1d(correlate1d(image, weights, axis=0), weights, axis=1)
    edge = WINDOW // 2
    return smooth[edge:-edge, edge:-edge]


def _frames(clip: np.ndarray) -> np.ndarray:
    return clip.reshape(-1, *clip.shape[-3:]).astype(np.float64)


def _as_floats(clip: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pair = np.asarray(clip), np.asarray(reference)
    if pair[0].shape != pair[1].shape or pair[0].ndim < 3:
        raise SparseVideoInputError(
            f"clips are {list(pair[0].shape)} and {list(pair[1].shape)}; give two of one shape [..., height, width, "
            "channels]"
        )
    first, second = (part / 255.0 if part.dtype == np.uint8 else part for part in pair)
    return first, second
