"""Tracking of generated scenes for the evaluation: what the tracker is shown and asked, and what it does inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np

from .baseline import Associate, detections_of
from .candidates import Candidates
from .conditions import checked_sensors, scene_options
from .errors import TrackingError
from .evaluate_scores import Scores, score_clip
from .modalities import MODALITIES
from .results import TASKS, FrameInstances, Task, Tracks
from .scenes import Scene, generate_scene
from .session import PROMPTED

PromptKind = Literal["mask", "box"]
Loads = dict[tuple[int, str], np.ndarray]
Tell = Callable[[str], None]


class Tracker(Protocol):
    """What is evaluated: a session of one clip."""

    def add_prompt(
        self, id: int, *, box: tuple[float, float, float, float] | None = None, mask: np.ndarray | None = None
    ) -> int: ...

    def step(self, frames: Mapping[str, np.ndarray | None]) -> FrameInstances: ...


Start = Callable[[Task], Tracker]


@dataclass(frozen=True)
class Case:
    """One row of a table.

    Attributes:
        task, condition: what is asked, and a name of `conditions.scene_options`.
        modalities: the sensors that the tracker is shown.
        cut: one of them that is switched off from the middle of the clip on.
        prompt: how objects are drawn, "mask" or "box"; None for the task's own: a mask for VOS, a box for SOT.
    """

    task: Task
    condition: str = "day"
    modalities: tuple[str, ...] = ("rgb", "thermal")
    cut: str | None = None
    prompt: PromptKind | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise TrackingError(f"unknown task {self.task!r}: choose {', '.join(TASKS)}")
        if self.prompt is None or self.task not in PROMPTED:
            object.__setattr__(self, "prompt", {"sot": "box", "vos": "mask"}.get(self.task))
        elif self.prompt not in get_args(PromptKind):
            raise TrackingError(f"unknown prompt {self.prompt!r}: choose {' or '.join(get_args(PromptKind))}")
        scene_options(self.condition)
        object.__setattr__(self, "modalities", checked_sensors(self.modalities))
        if self.cut is not None and (self.cut not in self.modalities or len(self.modalities) < 2):
            raise TrackingError(
                f"{self.cut!r} cannot be cut from {', '.join(self.modalities)}: name one of two sensors or more"
            )

    def named(self) -> dict[str, Any]:
        """As it stands in the report."""
        return {
            "task": self.task,
            "condition": self.condition,
            "modalities": list(self.modalities),
            "cut": self.cut,
            "prompt": self.prompt,
        }


@dataclass(frozen=True)
class Outcome:
    """What came of a case: by seed, its scores and those of the baselines on the same detections."""

    case: Case
    scores: dict[int, Scores]
    rivals: dict[str, dict[int, Scores]] = field(default_factory=dict)


@dataclass(frozen=True)
class Followed:
    """A scene that was tracked.

    Attributes:
        tracks: what came of it.
        detections: per frame, what the session had detected, numbered; empty for trackers that are not ours.
        loads: by block and group of experts, how often each expert was selected, int64 [experts].
    """

    tracks: Tracks
    detections: tuple[FrameInstances, ...]
    loads: Loads


def watch_detections(session: Any, size: tuple[int, int]) -> list[FrameInstances]:
    """A list to which the session will add its detections, frame by frame, with their masks as drawn in the end."""
    seen: list[FrameInstances] = []
    if hasattr(session, "follow"):
        follow = session.follow

        def watched(*looked: Any) -> Candidates:
            found = follow(*looked)
            seen.append(detections_of(found.take(found.detected.nonzero()[:, 0]), *size))
            return found

        session.follow = watched
    return seen


def loads_of(session: Any) -> Loads:
    """What the session counted of its experts."""
    blocks = enumerate(getattr(session, "experts", []))
    return {
        (layer, group): selected.cpu().numpy().astype(np.int64)
        for layer, groups in blocks
        for group, selected in groups.items()
    }


def prompts_of(case: Case, scene: Scene) -> dict[int, int]:
    """The objects to ask for and from which frame on: all that can be seen for VOS, the first of them for SOT."""
    if case.task not in PROMPTED:
        return {}
    chosen = sorted(scene.first_prompt.items())
    return dict(chosen[:1] if case.task == "sot" else chosen)


def shown(case: Case, scene: Scene, frame: int) -> dict[str, np.ndarray | None]:
    """What the sensors of a case give in a frame; None where one is off."""
    off = case.cut if frame >= len(scene) // 2 else None
    return {
        name: scene.frames[name][frame] if name != off and scene.present[name][frame] else None
        for name in case.modalities
    }


def follow_scene(start: Start, case: Case, scene: Scene) -> Followed:
    """Track through a scene, frame by frame, each object prompted with the truth of its own first frame."""
    height, width = scene.ids.shape[1:]
    session: Any = start(case.task)
    detections = watch_detections(session, (height, width))
    prompts = prompts_of(case, scene)
    frames: list[FrameInstances] = []
    for frame in range(len(scene)):
        for id in (id for id, first in prompts.items() if first == frame):
            if case.prompt == "mask":
                session.add_prompt(id, mask=scene.ids[frame] == id)
            else:
                session.add_prompt(id, box=scene.boxes[frame][id])
        frames.append(session.step(shown(case, scene, frame)))
        detections += [FrameInstances.empty((height, width))] * (frame + 1 - len(detections))
    return Followed(Tracks(tuple(frames), height, width, case.task), tuple(detections), loads_of(session))


@dataclass(frozen=True)
class Clips:
    """Which scenes: seeds, and the length and (height, width) of each."""

    seeds: Sequence[int]
    frames: int = 30
    size: tuple[int, int] = (128, 128)

    def scene(self, seed: int, condition: str) -> Scene:
        return generate_scene(seed, frames=self.frames, size=self.size, **scene_options(condition))


def run_cases(
    start: Start,
    cases: Sequence[Case],
    clips: Clips,
    *,
    rivals: Mapping[str, Associate] | None = None,
    tell: Tell = lambda _: None,
) -> tuple[list[Outcome], Loads]:
    """Track and score every case on every seed; each scene is made once, whatever number of cases looks at it.

    Args:
        start: a new session for a task.
        rivals: baselines by name, for MOT and MOTS; each is given the detections that the session had.

    Returns:
        Outcomes in the order of the cases, and how often each expert was selected in all of them.
    """
    outcomes = [Outcome(case, {}, {}) for case in cases]
    loads: Loads = {}
    for condition, members in _by_condition(outcomes):
        for seed in clips.seeds:
            scene = clips.scene(seed, condition)
            truth = Tracks.from_id_map(scene.ids, "mots")
            for outcome in members:
                tell(f"{condition}, seed {seed}, {outcome.case.task} with {' and '.join(outcome.case.modalities)}")
                for key, counted in _run(start, outcome, scene, truth, rivals or {}).items():
                    loads[key] = loads.get(key, 0) + counted
    return outcomes, loads


def _by_condition(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, list[Outcome]]]:
    for condition in dict.fromkeys(outcome.case.condition for outcome in outcomes):
        yield condition, [outcome for outcome in outcomes if outcome.case.condition == condition]


def _run(start: Start, outcome: Outcome, scene: Scene, truth: Tracks, rivals: Mapping[str, Associate]) -> Loads:
    """One case on one scene, its scores added to the outcome."""
    case, prompts = outcome.case, prompts_of(outcome.case, scene)
    followed = follow_scene(start, case, scene)
    tracks = followed.tracks
    outcome.scores[scene.seed] = score_clip(case.task, truth, tracks, prompts)
    if case.task not in PROMPTED:
        for name, associate in rivals.items():
            guess = associate(followed.detections, tracks.height, tracks.width, case.task)
            outcome.rivals.setdefault(name, {})[scene.seed] = score_clip(case.task, truth, guess, prompts)
    return followed.loads


def utilisation(loads: Loads) -> list[dict[str, Any]]:
    """Per block and group of experts: the share of the group's selections that each expert had."""
    order = {name: place for place, name in enumerate(("common", *MODALITIES))}
    rows = []
    for layer, group in sorted(loads, key=lambda key: (key[0], order.get(key[1], len(order)))):
        counted = loads[layer, group]
        shares = (counted / max(1, counted.sum())).tolist()
        rows.append(
            {
                "layer": layer,
                "group": group,
                "selections": int(counted.sum()),
                "shares": shares,
                "least": min(shares),
            }
        )
    return rows
