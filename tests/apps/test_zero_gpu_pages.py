"""Pages on ZeroGPU: what they send to the platform's process can go there, and what cannot is refused with a reason."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import pytest

from apps.sparse_video import work as sparse_video
from apps.tracking import work as tracking
from apps.tracking.request import Request as TrackingRequest
from apps.tracking.request import SceneChoice
from apps.ui_action import work as ui_action
from apps.ui_action.request import Request as Game
from core import zero_gpu
from core.errors import InputError

PAGES: list[tuple[Any, Any]] = [
    (sparse_video, sparse_video.Request("a red square")),
    (tracking, TrackingRequest()),
    (ui_action, Game()),
]


@pytest.mark.parametrize(("page", "request_"), PAGES, ids=["sparse-video", "tracking", "ui-action"])
def test_work_and_request_can_be_pickled_and_the_time_asked_for_is_bounded(page: Any, request_: Any) -> None:
    run, request, expected = pickle.loads(  # noqa: S301 (made here)
        pickle.dumps((page.run, request_, (page.input_error(),)))
    )
    assert (run, request) == (page.run, request_)
    assert issubclass(expected[0], ValueError)
    assert 10 <= page.accelerator_seconds(request_) <= 300


def test_more_work_asks_for_more_time() -> None:
    short, long = (TrackingRequest(scene=SceneChoice(frames=frames), pace=0.0) for frames in (10, 100))
    assert tracking.accelerator_seconds(short) < tracking.accelerator_seconds(long)
    few, many = (sparse_video.Request("a red square", steps=steps) for steps in (5, 50))
    assert sparse_video.accelerator_seconds(few) < sparse_video.accelerator_seconds(many)


@pytest.mark.parametrize("waits", [{"stepwise": True}, {"confirm": "always"}])
def test_a_model_s_game_that_waits_for_people_is_refused_there_and_an_expert_s_is_not(
    waits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zero_gpu, "active", lambda: True)
    with pytest.raises(InputError, match="nobody can answer"):
        ui_action._work(Game(**waits), ())
    assert isinstance(ui_action._work(Game(player="expert", **waits), ()), partial)
    monkeypatch.setattr(zero_gpu, "active", lambda: False)
    assert isinstance(ui_action._work(Game(**waits), ()), partial)
