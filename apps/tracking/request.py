"""What a visitor asks for: a clip, a task, the sensors to look at and what to follow; checked before it waits."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.errors import InputError

# The plugin's own names, for people to read; a test holds them against it.
SENSORS = {"rgb": "RGB", "thermal": "Thermal", "depth": "Depth", "event": "Event"}
TASKS = {
    "vos": "VOS: follow what I draw, as masks",
    "sot": "SOT: follow what I draw, as boxes",
    "mots": "MOTS: find everything, as masks",
    "mot": "MOT: find everything, as boxes",
}
PROMPTED = ("vos", "sot")
MASKED = ("vos", "mots")
CONDITIONS = {"night": "Night", "occlusion": "Occlusion", "twins": "Twins", "crossover": "Crossover"}
FRAMES, SIDE, SEED = 30, 128, 3  # a seed that training never draws
MOST_FRAMES, MOST_SIDE, MOST_SEED = 120, 256, 2**32 - 1
MOST_PROMPTS, MOST_POINTS = 16, 64
MOST_LANES = 24  # objects that are shown; files hold all
PROMPT_KEYS = ("id", "frame", "box", "points", "labels")
PACE = 5.0
SCENE_FPS = 10.0


@dataclass(frozen=True)
class SceneChoice:
    """A generated scene: its seed, its conditions (of CONDITIONS), its length, and its side in pixels."""

    seed: int = SEED
    conditions: tuple[str, ...] = ()
    frames: int = FRAMES
    side: int = SIDE

    def __post_init__(self) -> None:
        unknown = [name for name in self.conditions if name not in CONDITIONS]
        if unknown:
            raise InputError(f"{str(unknown[0])[:40]!r} is no condition: choose among {', '.join(CONDITIONS)}.")
        for name, value, low, high in (
            ("seed", self.seed, 0, MOST_SEED),
            ("number of frames", self.frames, 2, MOST_FRAMES),
            ("side", self.side, 64, MOST_SIDE),
        ):
            if not low <= value <= high:
                raise InputError(f"The {name} is {value}: choose {low} to {high}.")

    def arguments(self) -> dict[str, Any]:
        """As keyword arguments of `generate_scene`, beside the seed."""
        size = {"frames": self.frames, "size": (self.side, self.side)}
        return size | dict.fromkeys(self.conditions, True)


@dataclass(frozen=True)
class Request:
    """One run.

    Attributes:
        task: of TASKS.
        sensors: to look at, of SENSORS; they can be cut and restored while the job runs.
        prompts: as the pipeline takes them, by box or points; None takes the true objects of a generated scene where
            the task needs some.
        scene: the generated scene; not looked at where there are videos.
        videos: the visitor's own, by sensor.
        resample: bring videos of other sizes and lengths to those of the first.
        pace: frames per second at most, so that it can be watched; 0 is as fast as it can.
    """

    task: str = "vos"
    sensors: tuple[str, ...] = ("rgb", "thermal")
    prompts: tuple[Mapping[str, Any], ...] | None = None
    scene: SceneChoice = field(default_factory=SceneChoice)
    videos: Mapping[str, Path] = field(default_factory=dict)
    resample: bool = False
    pace: float = PACE

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"{str(self.task)[:40]!r} is no task: choose one of {', '.join(TASKS)}.")
        unknown = [name for name in (*self.sensors, *self.videos) if name not in SENSORS]
        if unknown:
            raise InputError(f"{str(unknown[0])[:40]!r} is no sensor: choose among {', '.join(SENSORS)}.")
        if not self.sensors:
            raise InputError("No sensor is chosen: choose at least one.")
        missing = [name for name in self.sensors if self.videos and name not in self.videos]
        if missing:
            raise InputError(
                f"{SENSORS[missing[0]]} is chosen, but there is no video of it: add one, or leave the sensor out."
            )
        if not 0 <= self.pace <= 60:
            raise InputError(f"The pace is {self.pace:g}: choose 0 to 60 frames per second, 0 for as fast as it can.")
        self._check_prompts()

    def _check_prompts(self) -> None:
        """Whether there is something to follow, and not too much; its values are checked against the clip."""
        if self.task in PROMPTED and self.prompts is None and self.videos:
            raise InputError("There is nothing to follow yet: draw a box around it on the first frame, or add points.")
        if self.task in PROMPTED and self.prompts is not None and not self.prompts:
            raise InputError("There is nothing to follow: draw a box on the first frame, or choose a task that finds.")
        prompts = self.prompts or ()
        if len(prompts) > MOST_PROMPTS:
            raise InputError(f"{len(prompts)} objects are drawn, limit {MOST_PROMPTS}: remove some.")
        unknown = [str(key)[:40] for prompt in prompts for key in prompt if key not in PROMPT_KEYS]
        if unknown:
            raise InputError(f"A prompt has {unknown[0]!r}, which is not taken here: use {', '.join(PROMPT_KEYS)}.")
        values = [value for prompt in prompts for value in prompt.values() if isinstance(value, Sized)]
        if any(len(value) > MOST_POINTS for value in values):
            raise InputError(f"A prompt has more than {MOST_POINTS} points: give the few that tell the object apart.")

    def params(self) -> dict[str, Any]:
        """What a reader needs to repeat it; uploads by their names only."""
        source = (
            {"videos": {name: path.name for name, path in self.videos.items()}, "resample": self.resample}
            if self.videos
            else {"scene": asdict(self.scene)}
        )
        prompts = None if self.prompts is None else [dict(prompt) for prompt in self.prompts]
        return {**source, "task": self.task, "sensors": list(self.sensors), "prompts": prompts, "pace": self.pace}
