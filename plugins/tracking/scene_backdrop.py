"""What stands behind the objects of a generated scene: sky, hills or houses, and ground that the camera pans along.

A backdrop is a wide picture with five channels: red, green, blue (0..1, before exposure), temperature and inverse
depth. Nearer rows move faster when the camera pans.
"""

from __future__ import annotations

import numpy as np

LAYERS = 5  # red, green, blue, temperature, inverse depth
PALETTES: dict[str, tuple[tuple[float, float, float], ...]] = {  # sky above, sky below, far, ground far, ground near
    "meadow": ((0.30, 0.52, 0.80), (0.74, 0.84, 0.90), (0.36, 0.48, 0.50), (0.46, 0.56, 0.34), (0.26, 0.40, 0.18)),
    "desert": ((0.36, 0.56, 0.78), (0.88, 0.82, 0.72), (0.62, 0.46, 0.40), (0.80, 0.66, 0.46), (0.64, 0.47, 0.30)),
    "dusk": ((0.20, 0.22, 0.42), (0.86, 0.56, 0.42), (0.26, 0.22, 0.32), (0.40, 0.34, 0.36), (0.25, 0.23, 0.28)),
    "snow": ((0.52, 0.64, 0.78), (0.86, 0.90, 0.94), (0.48, 0.56, 0.64), (0.80, 0.84, 0.88), (0.66, 0.72, 0.80)),
    "harbour": ((0.42, 0.56, 0.68), (0.80, 0.84, 0.84), (0.38, 0.44, 0.50), (0.42, 0.56, 0.60), (0.14, 0.30, 0.38)),
    "street": ((0.50, 0.60, 0.70), (0.78, 0.80, 0.82), (0.50, 0.46, 0.46), (0.54, 0.53, 0.52), (0.36, 0.36, 0.38)),
}


def smooth_noise(
    rng: np.random.Generator, down: np.ndarray, across: np.ndarray, frames: tuple[int, ...] = ()
) -> np.ndarray:
    """Smooth random values of mean 0 and spread about 1, float32 [*frames, rows, columns].

    `down` and `across` are the positions of the rows and columns, 0 or more, in units of a bump.
    """
    rows, columns = _spline(down), _spline(across)
    return rows @ (2 * rng.standard_normal((*frames, rows.shape[1], columns.shape[1]), np.float32)) @ columns.T


def _spline(positions: np.ndarray) -> np.ndarray:
    """Weights [positions, knots] of a cubic B-spline with whole-numbered knots."""
    knots = np.arange(-1, int(positions.max()) + 3, dtype=np.float32)
    distance = np.abs(positions.astype(np.float32)[:, None] - knots)
    outer, inner = np.maximum(2 - distance, 0), np.maximum(1 - distance, 0)
    return (outer * outer * outer - 4 * inner * inner * inner) / 6


def backdrop(rng: np.random.Generator, size: tuple[int, int], time: np.ndarray, sun: float) -> np.ndarray:
    """The backdrop at each moment, float32 [T, H, W, 5]; `sun` is -1 for light from the left and 1 from the right."""
    height, width = size
    unit = min(size)
    horizon = rng.uniform(0.28, 0.44) * height
    pan = _pan(rng, time) * unit
    rows = np.arange(height) + 0.5
    nearness = np.clip((rows - horizon) / (height - horizon), 0, 1)
    shift = pan[:, None] * np.where(rows < horizon, 0.15, 0.15 + 0.85 * nearness)  # [T, H]
    wide = width + int(np.ceil(shift.max())) + 2
    panorama = _panorama(rng, rows, horizon, nearness, wide, unit, sun)
    if not shift.any():
        return np.repeat(panorama[None, :, :width], len(time), axis=0)
    return _slide(panorama, shift, width)


def _pan(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """How far the camera has moved at each moment, in frame sizes, never negative: a drift with some sway, or none."""
    drift, sway = rng.uniform(-0.004, 0.004), rng.uniform(0.0, 0.03)
    rate, phase = rng.uniform(0.06, 0.16), rng.uniform(0, 2 * np.pi)
    still = rng.random() < 0.25
    path = drift * time + sway * np.sin(rate * time + phase)
    return np.zeros_like(path) if still else path - path.min()


def _slide(panorama: np.ndarray, shift: np.ndarray, width: int) -> np.ndarray:
    """The panorama [H, wide, C] seen through a window that each row of each moment shifts by its own [T, H] pixels."""
    height, wide, channels = panorama.shape
    whole = shift.astype(np.int64)
    part = (shift - whole).astype(np.float32)[..., None, None]
    first = (whole + np.arange(height) * wide)[..., None] + np.arange(width)
    flat = panorama.reshape(-1, channels)
    view = flat.take(first, axis=0)
    step = flat.take(first + 1, axis=0)
    step -= view
    step *= part
    view += step
    return view


def _panorama(rng, rows, horizon, nearness, wide, unit, sun) -> np.ndarray:
    sky_above, sky_below, far, ground_far, ground_near = (
        np.array(colour, np.float32) for colour in PALETTES[str(rng.choice(list(PALETTES)))]
    )
    columns = np.arange(wide) + 0.5
    view = np.empty((len(rows), wide, LAYERS), np.float32)
    _paint_sky(rng, view, rows, columns, horizon, unit, sun, sky_above, sky_below)
    _paint_far(rng, view, rows, columns, horizon, unit, 0.6 * far + 0.4 * sky_below)
    _paint_ground(rng, view, rows, columns, horizon, nearness, unit, ground_far, ground_near)
    return view


def _paint_sky(rng, view, rows, columns, horizon, unit, sun, above, below) -> None:
    up = np.clip(rows / horizon, 0, 1).astype(np.float32)[:, None]
    clouds = np.clip(smooth_noise(rng, rows / (0.07 * unit), columns / (0.22 * unit)), 0, 1.5) * 0.32 * (1.1 - 0.5 * up)
    x = 0.85 if sun > 0 else 0.15
    glow = np.exp(-(((rows / horizon - 0.3) / 0.7)[:, None] ** 2) - ((columns / len(columns) - x) / 0.3) ** 2)
    view[..., :3] = above + (below - above) * up[..., None]
    view[..., :3] += (0.97 - view[..., :3]) * np.clip(clouds + 0.35 * glow, 0, 0.9)[..., None]
    view[..., 3] = 0.18 + 0.06 * up + 0.02 * clouds
    view[..., 4] = 0.04


def _paint_far(rng, view, rows, columns, horizon, unit, colour) -> None:
    """Hills, or the roofs of a town, on the horizon."""
    bump = smooth_noise(rng, np.zeros(1), columns / (0.16 * unit))[0]
    if rng.random() < 0.5:
        house = np.cumsum(rng.integers(4, 11, len(columns)))
        bump = rng.uniform(-1, 2.2, len(columns))[np.searchsorted(house * unit / 128, columns)]
    outline = horizon - (0.035 + 0.035 * np.clip(bump, -0.9, 2.2)) * unit
    covered = np.clip(rows[:, None] - outline + 0.5, 0, 1).astype(np.float32)[..., None]
    tone = 1 + 0.12 * smooth_noise(rng, rows / (0.05 * unit), columns / (0.05 * unit))[..., None]
    layer = np.concatenate((colour * tone, np.full_like(tone, 0.28), np.full_like(tone, 0.07)), axis=-1)
    view += covered * (layer - view)


def _paint_ground(rng, view, rows, columns, horizon, nearness, unit, far, near) -> None:
    """Ground whose bumps shrink towards the horizon, from the first row below it down."""
    start = int(np.ceil(horizon - 0.5))
    near_here = nearness[start:].astype(np.float32)[:, None]
    down = 3.2 * np.log1p(9 * nearness[start:])
    coarse = smooth_noise(rng, 0.8 * down, columns / (0.3 * unit))
    fine = smooth_noise(rng, 3.0 * down, columns / (0.07 * unit))
    grain = rng.standard_normal(fine.shape, np.float32)
    tone = 1 + 0.09 * coarse + (0.05 + 0.04 * near_here) * fine + 0.025 * near_here * grain
    ground = view[start:]
    ground[..., :3] = (far + (near - far) * near_here[..., None] ** 0.7) * tone[..., None]
    ground[..., 3] = 0.32 + 0.06 * near_here + 0.025 * coarse + 0.008 * fine
    ground[..., 4] = 0.08 + 0.2 * near_here
