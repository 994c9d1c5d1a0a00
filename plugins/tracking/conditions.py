"""Named conditions of generated scenes, and the seeds that a model may be judged on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import TrackingError
from .modalities import MODALITIES
from .scenes import EVALUATION_SEEDS

FLAGS = ("night", "occlusion", "twins", "crossover")
PLAIN = ("day", "plain")  # a scene without any of them
MIXED = ("day", "occlusion", "twins", "crossover")
SUITES = {"mixed": MIXED}
TRAINING_SEEDS = range(10_000_000, EVALUATION_SEEDS)  # what the stages of `train` draw their scenes from


def scene_options(condition: str) -> dict[str, Any]:
    """Options of `generate_scene` for a condition: "day", or some of `FLAGS` joined by "+", such as "night+twins".

    Raises:
        TrackingError: for a name that is none of them, or one that comes twice.
    """
    names = condition.split("+")
    known = all(name in FLAGS for name in names) and len(set(names)) == len(names)
    if condition in PLAIN or known:
        return {} if condition in PLAIN else dict.fromkeys(names, True)
    raise TrackingError(
        f"unknown condition {condition!r}: name day, {', '.join(FLAGS)}, several of these joined by + "
        f"(night+twins), or {', '.join(SUITES)}"
    )


def conditions_of(name: str) -> tuple[str, ...]:
    """The conditions behind a name: those of a suite, or the one condition that it names itself."""
    if name in SUITES:
        return SUITES[name]
    scene_options(name)
    return ("day" if name in PLAIN else name,)


def sensors_of(text: str) -> tuple[str, ...]:
    """Sensors named with commas between, in the order of `MODALITIES`.

    Raises:
        TrackingError: for none, an unknown one, or one that comes twice.
    """
    return checked_sensors([name.strip() for name in text.split(",") if name.strip()])


def checked_sensors(names: Sequence[str]) -> tuple[str, ...]:
    """The same of a sequence of names."""
    unknown = [name for name in names if name not in MODALITIES]
    if unknown or not names or len(set(names)) < len(names):
        wrong = f"unknown modality {unknown[0]!r}" if unknown else f"modalities are {', '.join(names) or 'none'}"
        raise TrackingError(f"{wrong}: name one or more of {', '.join(MODALITIES)}, each once")
    return tuple(name for name in MODALITIES if name in names)
