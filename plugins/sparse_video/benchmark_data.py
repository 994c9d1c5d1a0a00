"""Queries, keys and values for the benchmark: smooth random fields over a latent grid, or captured from a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .errors import SparseVideoInputError

Grid = tuple[int, int, int]
SMOOTHNESS, NOISE = 2.0, 0.3  # standard deviations: of the blur in cells, of the white noise beside a unit field


@dataclass(frozen=True)
class Case:
    """One size at which everything is timed.

    Attributes:
        name: for tables. grid: (frames, rows, columns) of the latent. heads, head_dim: of the attention.
        file: safetensors file with "query", "key" and "value"; None: random fields.
    """

    name: str
    grid: Grid
    heads: int
    head_dim: int
    file: Path | None = None

    @property
    def tokens(self) -> int:
        """Visual tokens."""
        return math.prod(self.grid)

    def tensors(self, device: torch.device, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, [1, heads, tokens, head_dim]."""
        if self.file is not None:
            return _read(self.file, device, dtype)
        generator = torch.Generator().manual_seed(seed)
        query, key, value = (
            torch.stack([_field(self.grid, self.head_dim, generator, device, dtype) for _ in range(self.heads)])[None]
            for _ in range(3)
        )
        return query, key, value


# (grid, heads, head_dim) of the shapes that matter on a GPU.
GPU_CASES = (
    Case("Wan 1.3B, 480p", (21, 30, 52), 12, 128),
    Case("Wan 14B, 720p", (21, 45, 80), 40, 128),
    Case("HunyuanVideo, 720p", (32, 45, 80), 24, 128),
)


def cases_of_lengths(lengths: list[int], heads: int, head_dims: list[int]) -> Iterator[Case]:
    """One case per length and head size."""
    for length in lengths:
        for head_dim in head_dims:
            yield Case(f"{length:,} x {heads} x {head_dim}", grid_of_length(length), heads, head_dim)


def grid_of_length(length: int) -> Grid:
    """(frames, rows, columns) with this many cells, about as long as wide as high."""
    if length < 1:
        raise SparseVideoInputError(f"length is {length}: a sequence has at least one token")
    frames = next(n for n in range(math.floor(length ** (1 / 3) + 1e-9), 0, -1) if length % n == 0)
    rest = length // frames
    rows = next(n for n in range(math.isqrt(rest), 0, -1) if rest % n == 0)
    return frames, rows, rest // rows


def case_from_file(path: Path) -> Case:
    """A captured attention input: safetensors with "query", "key", "value" [1, heads, tokens, head_dim], frame by
    frame, and the metadata entry grid, such as "16,16,16".

    Raises:
        SparseVideoInputError: the file does not hold that.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in ("query", "key", "value")}
            grid = tuple(int(part) for part in (opened.metadata() or {})["grid"].split(","))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise SparseVideoInputError(
            f"{path} holds no captured attention ({error}): it needs tensors query, key and value [1, heads, tokens, "
            'head_dim] and the metadata entry grid, such as "16,16,16"'
        ) from error
    shape = shapes["query"]
    if len(set(shapes.values())) > 1 or len(shape) != 4 or len(grid) != 3 or math.prod(grid) != shape[2]:
        raise SparseVideoInputError(f"{path}: shapes {shapes} do not fit each other or the grid {grid}")
    return Case(path.stem, (grid[0], grid[1], grid[2]), shape[1], shape[3], path)


def _read(path: Path, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    from safetensors.torch import load_file

    tensors = load_file(path)
    query, key, value = (tensors[name].to(device, dtype).contiguous() for name in ("query", "key", "value"))
    return query, key, value


def _field(grid: Grid, channels: int, generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[tokens, channels]: noise blurred by a Gaussian (periodic), unit variance, plus white noise."""
    noise = torch.randn(channels, *grid, generator=generator).to(device)
    spectrum = torch.fft.rfftn(noise, dim=(1, 2, 3))
    for axis, cells in enumerate(grid, start=1):
        frequency = torch.fft.rfftfreq(cells) if axis == 3 else torch.fft.fftfreq(cells)
        gain = (-2 * (math.pi * SMOOTHNESS * frequency.to(device)) ** 2).exp()
        spectrum *= gain.view([-1 if place == axis else 1 for place in range(4)])
    smooth = torch.fft.irfftn(spectrum, s=grid, dim=(1, 2, 3)).flatten(1)
    smooth /= smooth.std()
    smooth += NOISE * torch.randn(smooth.shape, generator=generator).to(device)
    return smooth.T.contiguous().to(dtype)
