"""Where frames come from: a generated scene whose truth is known, or the visitor's own videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apps.tracking.drawing import TILE, data_uri
from apps.tracking.request import PROMPTED, SCENE_FPS, SENSORS, Request, SceneChoice
from core.media import VideoLimits, iter_frames
from core.registry import load_object

FIRST_FRAMES = VideoLimits(
    max_seconds=3600.0, max_frames=10**6
)  # of a long video the first frame is shown all the same
# What a job decodes at most, per sensor; masks of several objects take as much again.
MOST_FRAMES, MOST_SECONDS, MOST_BYTES = 600, 60.0, 256 * 2**20
_FEWEST_PIXELS = 12  # of an object that a box is offered for
_VISIBLE = 0.5  # share of it that is in view


@dataclass(frozen=True)
class Source:
    """A clip that is ready to be tracked.

    Attributes:
        video: the plugin's AlignedVideo.
        prompts: as a session takes them.
        fps: frames per second of the result video.
        scene: the plugin's Scene, None for the visitor's own videos.
    """

    video: Any
    prompts: tuple[Mapping[str, Any], ...]
    fps: float
    scene: Any = None

    @property
    def size(self) -> tuple[int, int]:
        return self.video.height, self.video.width


def make_scene(choice: SceneChoice) -> Any:
    """The scene, as the plugin generates it."""
    return load_object("plugins.tracking.scenes:generate_scene")(choice.seed, **choice.arguments())


def open_source(request: Request) -> Source:
    """Read or generate everything that a request names; what is wrong with it is said in the plugin's own error."""
    scene = None if request.videos else make_scene(request.scene)
    video = load_object("plugins.tracking.videos:open_video")(
        {name: str(path) for name, path in request.videos.items()} if request.videos else scene,
        load_object("plugins.tracking.modalities:MODALITIES"),
        modalities=request.sensors,
        resample=request.resample,
        limits=load_object("plugins.tracking.video_files:VideoLimits")(
            max_frames=MOST_FRAMES, max_seconds=MOST_SECONDS, max_decoded_bytes=MOST_BYTES
        ),
    )
    prompts: Any = request.prompts or ()
    if request.task in PROMPTED and request.prompts is None:
        prompts = true_prompts(scene)
    # Before the model is asked for anything: a box that is none fails here.
    load_object("plugins.tracking.session_prompts:read_prompts")(
        prompts, request.task, frames=len(video), size=(video.height, video.width)
    )
    return Source(video, tuple(prompts), SCENE_FPS if scene is not None else video.fps or SCENE_FPS, scene)


def true_prompts(scene: Any) -> list[dict[str, Any]]:
    """A box for each object that is in plain view on the first frame, by its true id; else for all to be seen there."""
    seen = {number: box for number, box in scene.boxes[0].items() if (scene.ids[0] == number).sum() >= _FEWEST_PIXELS}
    plain = {number: box for number, box in seen.items() if scene.visible_fraction[0, number - 1] >= _VISIBLE}
    return [{"id": number, "frame": 0, "box": list(map(float, box))} for number, box in (plain or seen).items()]


@dataclass(frozen=True)
class FirstFrames:
    """What the drawing tool shows.

    Attributes:
        pictures: for each sensor its name, its name for people and its first frame as a data URI.
        width, height: of the video, pixels.
        prompts: to begin with.
    """

    pictures: tuple[dict[str, str], ...]
    width: int
    height: int
    prompts: tuple[dict[str, Any], ...] = ()


def look_at_scene(choice: SceneChoice) -> FirstFrames:
    """First frames of a generated scene, with the boxes of its true objects."""
    scene = make_scene(choice)
    pictures = tuple(_picture(name, frames[0]) for name, frames in scene.frames.items())
    return FirstFrames(pictures, scene.ids.shape[2], scene.ids.shape[1], tuple(true_prompts(scene)))


def look_at_videos(videos: Mapping[str, Path]) -> FirstFrames:
    """First frames of videos; one of another size than the first is scaled to it, for drawing only."""
    frames = {name: next(iter_frames(videos[name], FIRST_FRAMES)) for name in SENSORS if name in videos}
    height, width = next(iter(frames.values())).shape[:2]
    return FirstFrames(tuple(_picture(name, frame) for name, frame in frames.items()), width, height)


def _picture(name: str, frame: np.ndarray) -> dict[str, str]:
    from PIL import Image

    image = Image.fromarray(frame)
    if max(image.size) < TILE:  # crisp when the browser enlarges it
        scale = -(-TILE // max(image.size))
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    return {"name": name, "label": SENSORS[name], "src": data_uri(image, longest=2 * TILE)}
