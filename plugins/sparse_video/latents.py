"""Training examples of the small transformer: clips as latents, their text, and where which shape is."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from .scenes import COLOURS, FOLDS, MOTIONS, SHAPES, Scene, coverage, describe, render, sample_scene, shape_path
from .train_text import encode_text
from .train_vae import to_model

MAP_LABELS = (*COLOURS, *SHAPES, *MOTIONS)
GEOMETRY = ("across", "down", "size", "turn's cosine", "turn's sine")
MAPS = (*MAP_LABELS, *GEOMETRY)
SIZE_UNIT = 16  # pixels
AHEAD = 4  # examples made at a time, beside the training


@dataclass(frozen=True)
class ClipSize:
    """A clip's size in frames and pixels, how large its shapes are and how many (None: one to three)."""

    frames: int
    height: int
    width: int
    zoom: float = 1.0
    shapes: int | None = None

    @property
    def tokens(self) -> int:
        return (1 + (self.frames - 1) // 2) * (self.height // 8) * (self.width // 8)


@dataclass(frozen=True)
class Examples:
    """A batch: latents [B, 16, T, H, W], text [B, tokens, width], maps [B, MAPS, T, H, W] (see `token_maps`)."""

    latents: torch.Tensor
    text: torch.Tensor
    maps: torch.Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def at(self, steps: torch.Tensor) -> Examples:
        """The same examples at some of their T steps in time."""
        return Examples(self.latents[:, :, steps], self.text, self.maps[:, :, steps])

    def take(self, rows: torch.Tensor) -> Examples:
        return Examples(self.latents[rows], self.text[rows], self.maps[rows])

    def joined(self, other: Examples) -> Examples:
        return Examples(*(torch.cat(pair) for pair in zip(self.parts, other.parts, strict=True)))

    @property
    def parts(self) -> tuple[torch.Tensor, ...]:
        return self.latents, self.text, self.maps


def per_token(frames: torch.Tensor) -> torch.Tensor:
    """From frames to the VAE's steps in time, by the mean: [shapes, frames, ...] to [shapes, T, ...]."""
    if frames.shape[1] == 1:
        return frames
    return torch.cat([frames[:, :1], frames[:, 1:].unflatten(1, (-1, 2)).mean(2)], 1)


def token_maps(scene: Scene, size: ClipSize) -> torch.Tensor:
    """What the training-only head has to know of each token: float [MAPS, T, H, W].

    The first maps, one for each of MAP_LABELS, are the share of the token that shows that colour, shape or motion. The
    others, one for each of GEOMETRY, are that share times: the way from the shape's centre to the token's (in radii),
    the radius (in units of 16 pixels), and the turn of the outline as the cosine and sine of as many times the angle as
    the shape has corners. Who knows these can draw the token.
    """
    layers = torch.from_numpy(coverage(scene, frames=size.frames, height=size.height, width=size.width))
    cells = per_token(nn.functional.avg_pool2d(layers, 8))
    down, across = ((torch.arange(count) + 0.5) * 8 / size.height for count in cells.shape[2:])
    maps = cells.new_zeros(len(MAPS), *cells.shape[1:])
    for layer, shape in zip(cells, scene.shapes, strict=True):
        for label in (shape.colour, shape.shape, shape.motion):
            maps[MAPS.index(label)] += layer
        path = shape_path(shape, size.frames, size.height)
        track = torch.from_numpy(np.stack([path.x, path.y, path.radius])).float()
        x, y, radius = per_token(track)[:, :, None, None]
        fold = FOLDS.get(shape.shape, 0)
        turn = per_token(torch.from_numpy(np.deg2rad(path.angle)[None]).float())[0, :, None, None] * fold
        seen = min(1, fold)
        values = ((across - x) / radius, (down[:, None] - y) / radius, radius * size.height / SIZE_UNIT)
        for name, value in zip(GEOMETRY, (*values, turn.cos() * seen, turn.sin() * seen), strict=True):
            maps[MAPS.index(name)] += layer * value
    maps[: len(MAP_LABELS)].clamp_(0, 1)
    return maps


class ExampleSource:
    """Makes examples and keeps the last `capacity` of them, so that each clip is rendered once and seen a few times.

    The next fresh ones are made beside the training step that comes before.

    Args:
        fresh: share of each batch that has never been seen.
    """

    def __init__(
        self,
        vae: AutoencoderKLWan,
        text_encoder: UMT5EncoderModel,
        tokenizer: PreTrainedTokenizerFast,
        size: ClipSize,
        *,
        seed: int,
        capacity: int = 3000,
        fresh: float = 0.06,
    ) -> None:
        self.vae, self.text_encoder, self.tokenizer, self.size = vae, text_encoder, tokenizer, size
        self.capacity, self.fresh = capacity, fresh
        self.next_seed = seed
        self.kept: Examples | None = None
        self.made = 0
        self.ahead = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        self.coming: Future[Examples] | None = None
        self.waiting: Examples | None = None
        self.generator = torch.Generator().manual_seed(seed)
        mean, std = (
            torch.tensor(values)[:, None, None, None]
            for values in (vae.config["latents_mean"], vae.config["latents_std"])
        )
        self.mean, self.std = mean, std

    @torch.no_grad()
    def make(self, count: int) -> Examples:
        """`count` examples that were not made before."""
        size = self.size
        shape: dict[str, Any] = {"frames": size.frames, "height": size.height, "width": size.width}
        scenes = [
            sample_scene(self.next_seed + index, **shape, zoom=size.zoom, shapes=size.shapes) for index in range(count)
        ]
        self.next_seed += count
        clips = to_model(np.stack([render(scene, **shape) for scene in scenes]))
        latents = (self.vae.encode(clips).latent_dist.mean - self.mean) / self.std
        text = encode_text(self.text_encoder, self.tokenizer, [describe(scene) for scene in scenes])
        maps = torch.stack([token_maps(scene, size) for scene in scenes])
        return Examples(latents.bfloat16(), text.bfloat16(), maps.bfloat16())

    def batch(self, count: int) -> Examples:
        """`count` examples, some of them fresh, the rest from those kept."""
        new = count if self.count < 4 * count else max(1, round(self.fresh * count))
        fresh = self.next(new)
        rows = torch.randint(self.count, (count - new,), generator=self.generator) if new < count else None
        batch = fresh if rows is None or self.kept is None else fresh.joined(self.kept.take(rows))
        self.keep(fresh)
        return batch

    def next(self, count: int) -> Examples:
        """The next `count` fresh examples; those after them are begun."""
        while self.waiting is None or len(self.waiting) < count:
            made = self.make(count) if self.coming is None else self.coming.result()
            self.coming = self.ahead.submit(self.make, AHEAD)
            self.waiting = made if self.waiting is None else self.waiting.joined(made)
        places = torch.arange(len(self.waiting))
        found, self.waiting = self.waiting.take(places[:count]), self.waiting.take(places[count:])
        return found

    def keep(self, fresh: Examples) -> None:
        """Add examples to those kept, in the place of the oldest once there are `capacity`."""
        if self.kept is None:
            self.kept = Examples(*(part.new_zeros(self.capacity, *part.shape[1:]) for part in fresh.parts))
        rows = (self.made + torch.arange(len(fresh))) % self.capacity
        for own, part in zip(self.kept.parts, fresh.parts, strict=True):
            own[rows] = part
        self.made += len(fresh)

    @property
    def count(self) -> int:
        """How many are kept."""
        return min(self.made, self.capacity)
