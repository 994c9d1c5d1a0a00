"""Follows a clip through a session, frame by frame: paces it, shows it, cuts sensors, and keeps what was found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apps.tracking.drawing import data_uri, draw_tiles, grid
from apps.tracking.request import SENSORS, Request
from apps.tracking.source import Source
from apps.tracking.switches import Switches
from core.jobs import JobContext, JobStopped

READY = 0.06  # of the progress bar, once the model and the clip are there
TRACKED = 0.94
PREVIEW_SIDE = 320  # pixels


@dataclass
class Recording:
    """What was done so far; one entry for each frame.

    Attributes:
        frames: the plugin's FrameInstances.
        seconds: that the session took for a frame, drawing and pacing left out.
        sensors: those that were on.
        ended: why it ended before the clip did, or "".
    """

    frames: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    sensors: list[tuple[str, ...]] = field(default_factory=list)
    ended: str = ""


class Follower:
    """One clip through one session.

    Args:
        expected: errors in the middle of a clip that end it without losing what is done.
    """

    def __init__(
        self,
        context: JobContext,
        request: Request,
        source: Source,
        session: Any,
        switches: Switches,
        expected: tuple[type[Exception], ...],
    ) -> None:
        self.recording = Recording()
        self._context, self._request, self._source = context, request, source
        self._session, self._switches, self._expected = session, switches, expected
        self._next = time.perf_counter()

    def overlays(self) -> Iterator[np.ndarray]:
        """Track, and give each frame's overlays, uint8 [h, w, 3]; a stop or a broken frame ends it early."""
        for number, moment in enumerate(self._source.video):
            self._wait()
            if self._context.stopped:
                self.recording.ended = "Stopped by hand"
                return
            try:
                seen, found = self._step(number, moment)
            except self._expected as error:
                if not self.recording.frames:
                    raise
                self.recording.ended = f"Frame {number + 1} could not be tracked: {error}"
                return
            tiles = draw_tiles(seen, self._request.sensors, self._source.size, found)
            self._show(number, tiles)
            yield grid(tiles)

    def _step(self, number: int, moment: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Any]:
        on = self._switches.get(self._context.id, self._request.sensors)
        if not number and not on:  # there is nothing yet that could be held
            on = self._request.sensors
        seen = {name: moment[name] for name in on if name in moment}
        began = time.perf_counter()
        found = self._session.step(seen)
        self.recording.seconds.append(time.perf_counter() - began)
        self.recording.frames.append(found)
        self.recording.sensors.append(tuple(seen))
        return seen, found

    def _wait(self) -> None:
        """Until the next frame is due; a stop ends the wait."""
        if self._request.pace:
            self._context.stop_event.wait(max(0.0, self._next - time.perf_counter()))
            self._next = max(self._next + 1 / self._request.pace, time.perf_counter())

    def _show(self, number: int, tiles: list[Any]) -> None:
        done, total = number + 1, len(self._source.video)
        found = self.recording.frames[-1]
        seconds = self.recording.seconds[-1]
        with suppress(JobStopped):  # the next turn sees the stop
            self._context.progress(
                READY + (TRACKED - READY) * done / total, f"frame {done} of {total}, {1000 * seconds:.0f} ms"
            )
            self._context.preview(
                {
                    "version": done,
                    "frames": total,
                    "sensors": list(self._request.sensors),
                    "on": list(self.recording.sensors[-1]),
                    "objects": len(found),
                    "stale": int(np.count_nonzero(found.stale)),
                    "tiles": [
                        {"sensor": name, "label": SENSORS[name], "src": data_uri(tile, longest=PREVIEW_SIDE)}
                        for name, tile in zip(self._request.sensors, tiles, strict=True)
                    ],
                }
            )
