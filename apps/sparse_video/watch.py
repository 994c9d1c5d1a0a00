"""What a running comparison shows: its progress, and each clip as it comes out of the noise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from apps.sparse_video.pictures import film_strip
from core.jobs import JobContext

WARM_UP_STEPS = 1  # of `compare`, per kind of attention
_DECODING = 2.0  # a clip's decoding, in steps; only the progress bar goes by it


@dataclass
class Tile:
    """One clip on its way.

    Attributes:
        state: in words.
        film: its frames side by side, as a data URI; "" before the first step.
        frames: how many those are.
        ratio: width over height of a frame.
    """

    method: str
    label: str
    state: str = "waiting"
    film: str = ""
    frames: int = 1
    ratio: float = 1.0

    def show(self, frames: np.ndarray) -> None:
        """Show these frames, uint8 [T, H, W, 3]."""
        self.film, self.frames = film_strip(frames)
        self.ratio = frames.shape[2] / frames.shape[1]


class Watch:
    """Follows one comparison from the pipeline's callbacks and tells its job.

    Attributes:
        steps: of each clip.
        inside_at: the step that the look inside is at, from 0: not the first, which may be dense, nor a late one, which
            would keep visitors waiting.
        handles: of the sparse runs, by the clip's label; they hold what attention did.
    """

    def __init__(self, context: JobContext, pipeline: Any, variants: Sequence[Any], *, steps: int) -> None:
        self.steps = steps
        self.handles: dict[str, Any] = {}
        self._context = context
        self._pipeline = pipeline
        self._tiles = [Tile(variant.method, variant.label) for variant in variants]
        self._told = -1
        self._done = 0.0
        self.inside_at = min(steps - 1, max(1, steps // 3))
        inside = self.inside_at + 1 if any(variant.method != "dense" for variant in variants) else 0
        self._all = len(variants) * (WARM_UP_STEPS + steps + _DECODING) + inside
        self._version = 0
        self._mark = 0.0  # when the step that runs began

    def comes_next(self, _: str) -> None:
        """`compare` begins with something: first it warms up each kind of attention, then it makes the clips."""
        self._told += 1
        if self._warming_up:
            self._say(f"warming up {self._tile.label} attention, not counted")
        else:
            self._say(f"{self._tile.label}: first step")
            self._tile.state = "first step"
        self._publish()

    def keep_handle(self, handle: Any) -> None:
        """A sparse run begins; its handle is read when it is over."""
        if not self._warming_up:
            self.handles[self._tile.label] = handle

    def after_step(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """diffusers' callback. A stop ends the call here, within a step."""
        self._done += 1
        if self._warming_up:
            pipeline.preview()  # the first one fits a map, which takes a moment: not between counted steps
            self._context.check()
            return {}
        taken = f", {time.perf_counter() - self._mark:.2f} s" if step else ""  # the first one's includes the text's
        self._tile.state = "decoding" if step + 1 == self.steps else f"step {step + 1} of {self.steps}{taken}"
        self._tile.show(pipeline.preview())
        self._say(f"{self._tile.label}: {self._tile.state}")
        self._publish()
        self._mark = time.perf_counter()
        return {}

    def inside_step(self) -> None:
        """A step of the look inside is done."""
        self._done += 1
        self._say("looking inside: block maps and the error of the attention itself")

    def finished(self, sample: Any) -> None:
        """A clip is there, decoded."""
        self._done += _DECODING
        self._tile.show(np.round(255 * sample.frames).astype(np.uint8))
        self._tile.state = f"done, {sample.run['timings']['total']:.1f} s"
        self._publish()

    @property
    def _warming_up(self) -> bool:
        return self._told < len(self._tiles)

    @property
    def _tile(self) -> Tile:
        return self._tiles[self._told % len(self._tiles)]

    def _say(self, message: str) -> None:
        self._context.progress(min(0.97, self._done / self._all), message)

    def _publish(self) -> None:
        self._version += 1
        tiles = [asdict(tile) for tile in self._tiles]
        self._context.preview({"version": self._version, "time": time.time(), "tiles": tiles})
