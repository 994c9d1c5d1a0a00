"""Masks by what is remembered, and objects that are shown for a few frames although nothing was detected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from plugins.tracking.pipeline_sata import SataPipeline
from plugins.tracking.prompts import Prompts
from plugins.tracking.scenes import generate_scene
from plugins.tracking.session import GLIMPSED, SataSession

CHECKPOINT = Path(__file__).resolve().parents[2] / "hub_cards" / "sata-tiny"
SEEN = 8  # frames before nothing is detected any more


@pytest.fixture(scope="module")
def pipe() -> SataPipeline:
    return SataPipeline.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def scene():
    return generate_scene(100_000_200, frames=SEEN + GLIMPSED + 2, objects=2)


def sensors(scene, frame: int) -> dict[str, np.ndarray]:
    return {name: scene.frames[name][frame] for name in ("rgb", "thermal")}


def blind(session: SataSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on it detects nothing."""
    detected = session.detected
    nothing = torch.zeros(0, dtype=torch.int64)
    monkeypatch.setattr(session, "detected", lambda *looked: detected(*looked).take(nothing))


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize("task", ["mots", "mot"])
def test_what_is_not_detected_but_there_is_shown_for_a_few_frames(pipe, scene, task, monkeypatch):
    session = pipe.start_session(task=task, modalities=("rgb", "thermal"))
    for frame in range(SEEN):
        before = session.step(sensors(scene, frame))
    assert len(before) == 2
    remembered = {id: list(each.frames) for id, each in session.tracklets.items()}
    blind(session, monkeypatch)
    for frame in range(SEEN, SEEN + GLIMPSED):
        found = session.step(sensors(scene, frame))
        assert found.ids.tolist() == before.ids.tolist()
        assert not found.stale.any()
        for row in range(2):
            if found.masks is not None:
                assert max(overlap(found.masks[row], scene.ids[frame] == id) for id in (1, 2)) > 0.6
        truth = np.array(list(scene.boxes[frame].values()))
        assert np.abs(found.xyxy[:, None] - truth[None]).max(2).min(1).max() < 8
    assert len(session.step(sensors(scene, SEEN + GLIMPSED))) == 0
    # It is shown and no more: it moved and was remembered by detections alone.
    assert {id: list(each.frames) for id, each in session.tracklets.items()} == remembered
    assert {each.missed for each in session.tracklets.values()} == {GLIMPSED + 1}


def test_what_is_gone_is_not_made_out(pipe, scene, monkeypatch):
    session = pipe.start_session(task="mots", modalities=("rgb", "thermal"))
    for frame in range(SEEN):
        session.step(sensors(scene, frame))
    blind(session, monkeypatch)
    corners = {name: part[:24, :24].mean((0, 1)) for name, part in sensors(scene, 0).items()}
    empty = {name: np.full_like(scene.frames[name][0], colour.astype(np.uint8)) for name, colour in corners.items()}
    assert len(session.step(empty)) == 0


def test_masks_are_drawn_by_the_memory_of_what_was_matched(pipe, scene, monkeypatch):
    session = pipe.start_session(task="mots", modalities=("rgb", "thermal"))
    for frame in range(3):
        session.step(sensors(scene, frame))
    asked: list[Prompts] = []
    decode = session.model.decode

    def noted(features, prompts):
        asked.append(prompts)
        return decode(features, prompts)

    monkeypatch.setattr(session.model, "decode", noted)
    found = session.step(sensors(scene, 3))
    first, again = asked
    assert first.memory is None
    assert not first.previous.any()
    assert again.memory is not None
    assert again.previous.all()
    assert len(again.boxes) == len(found) == 2
    with torch.inference_mode():
        drawn = decode(session.look(sensors(scene, 3)).features, again).masks[:, 0].sigmoid()
    for each in session.tracklets.values():
        assert any(torch.allclose(each.mask, mask, atol=1e-5) for mask in drawn)


def test_objects_that_were_prompted_for_have_their_own_way(pipe, scene, monkeypatch):
    session = pipe.start_session(task="vos", modalities=("rgb", "thermal"))
    monkeypatch.setattr(session, "drawn_again", None)
    session.add_prompt(1, box=scene.boxes[0][1])
    for frame in range(3):
        assert session.step(sensors(scene, frame)).ids.tolist() == [1]
