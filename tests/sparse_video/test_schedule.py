"""Which step a call belongs to, without a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.sparse_video.config import RectifiedAttentionConfig
from plugins.sparse_video.presets import PRESETS, Checkpoint, find_preset
from plugins.sparse_video.schedule import Clock, Step, is_dense_step, leading


def euler(shift: float = 3.0) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def unipc() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)


@dataclass
class Loop:
    """A pipeline's denoising loop in which only the clock is called."""

    scheduler: Any
    clock: Clock
    cfg_calls: int = 1
    dtype: torch.dtype = torch.float32
    begin: int = 0  # steps that video-to-video leaves out
    boundary: float | None = None  # timesteps below it go to the second expert

    def run(self, steps: int, skip: frozenset[int] = frozenset()) -> list[Step]:
        """One run; the model is not called at the steps in `skip`."""
        self.scheduler.set_timesteps(steps)
        self.scheduler.set_begin_index(self.begin)
        seen, sample = [], torch.zeros(1, 1)
        for index, timestep in enumerate(self.scheduler.timesteps[self.begin :]):
            first = self.boundary is None or timestep >= self.boundary
            for _ in range(0 if index in skip else self.cfg_calls):
                seen.append(
                    self.clock.tick("transformer" if first else "transformer_2", float(timestep.to(self.dtype)))
                )
            sample = self.scheduler.step(torch.zeros(1, 1), timestep, sample, return_dict=False)[0]
        return seen


def piped(scheduler: FlowMatchEulerDiscreteScheduler | UniPCMultistepScheduler, **options: object) -> Loop:
    return Loop(scheduler, Clock(lambda: scheduler), **options)  # ty: ignore[invalid-argument-type]


def bare(**options: object) -> Loop:
    return Loop(euler(), Clock(), **options)  # ty: ignore[invalid-argument-type]


def test_a_share_above_zero_covers_at_least_one_and_rounding_errors_add_none() -> None:
    assert [leading(0.0, 50), leading(0.001, 50), leading(0.1, 50), leading(0.07, 100), leading(1.0, 7)] == [
        0,
        1,
        5,
        7,
        7,
    ]
    assert all(leading(n / total, total) == n for total in range(1, 101) for n in range(total + 1))


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    share=st.floats(0, 1),
    cfg_calls=st.integers(1, 2),
    bf16=st.booleans(),
    multistep=st.booleans(),
)
def test_the_first_share_of_the_steps_is_dense_for_any_step_count_guidance_and_run(
    steps: list[int], share: float, cfg_calls: int, bf16: bool, multistep: bool
) -> None:
    loop = piped(
        unipc() if multistep else euler(7.0), cfg_calls=cfg_calls, dtype=torch.bfloat16 if bf16 else torch.float32
    )
    for run, count in enumerate(steps):
        seen = loop.run(count)
        assert [step.index for step in seen] == [i for i in range(count) for _ in range(cfg_calls)]
        assert [step.call for step in seen] == list(range(cfg_calls)) * count
        assert {(step.run, step.total) for step in seen} == {(run, count)}
        dense = [is_dense_step(step, share) for step in seen]
        assert sum(dense) == leading(share, count) * cfg_calls
        assert dense == sorted(dense, reverse=True)


def test_skipped_steps_keep_their_numbers_when_there_is_a_scheduler() -> None:
    skip = frozenset({0, 3, 4})
    assert [step.index for step in piped(euler()).run(8, skip)] == [1, 2, 5, 6, 7]


def test_two_experts_are_counted_as_one_run() -> None:
    seen = piped(euler(), cfg_calls=2, boundary=875.0).run(10)
    assert [step.index for step in seen[::2]] == list(range(10))
    assert {step.run for step in seen} == {0}
    assert [step.call for step in seen] == [0, 1] * 10


def test_video_to_video_counts_from_where_it_begins() -> None:
    seen = piped(euler(), begin=6).run(10)
    assert [(step.index, step.total) for step in seen] == [(i, 4) for i in range(4)]


def test_runs_of_one_step_are_told_apart() -> None:
    loop = piped(euler())
    assert [loop.run(1)[0].run for _ in range(3)] == [0, 1, 2]


def test_an_aborted_run_is_followed_by_a_new_one() -> None:
    loop = piped(euler())
    loop.run(10, skip=frozenset(range(4, 10)))
    again = loop.run(10)
    assert [step.index for step in again] == list(range(10))
    assert {step.run for step in again} == {1}


def test_a_scheduler_that_was_never_set_up_says_nothing() -> None:
    scheduler = euler()
    assert Clock(lambda: scheduler).tick("transformer", 1000.0).total is None


def test_a_timestep_that_the_scheduler_did_not_plan_is_counted_by_its_value() -> None:
    loop = piped(euler())
    loop.run(3)
    assert [loop.clock.tick("transformer", t).total for t in (100.0, 50.0, 20.0)] == [None] * 3


def test_without_a_pipeline_a_changed_timestep_is_a_step_and_an_increase_a_run() -> None:
    loop = bare(cfg_calls=2)
    first, second = loop.run(5), loop.run(4)
    assert [step.index for step in first] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [step.call for step in first] == [0, 1] * 5
    assert [(step.run, step.index) for step in second[::2]] == [(1, i) for i in range(4)]
    assert {step.total for step in first + second} == {None}


@given(steps=st.integers(1, 60), share=st.floats(0, 1))
def test_without_a_step_count_the_share_is_of_the_timestep_range_which_is_no_less(steps: int, share: float) -> None:
    dense = sum(is_dense_step(step, share) for step in bare().run(steps))
    # One less where the schedule ends at 0, with u = i / (n - 1) behind step i instead of i / n.
    assert dense >= leading(share, steps) - 1
    assert (dense == 0) == (share == 0)


def test_what_a_pipeline_says_of_its_steps_counts() -> None:
    clock = Clock()
    context = [SimpleNamespace(name="cond", step_index=i, num_inference_steps=20) for i in (0, 1, 5)]
    seen = [clock.tick("transformer", t, c) for t, c in zip((1000.0, 990.0, 900.0), context, strict=True)]
    assert [(step.index, step.total) for step in seen] == [(0, 20), (1, 20), (5, 20)]
    assert clock.tick("transformer", 1000.0, context[0]).run == 1
    assert clock.tick("transformer", 950.0, SimpleNamespace(name="cond", step_index=None)).total is None


def wan(**changes: object) -> dict[str, object]:
    return {"num_layers": 40, "in_channels": 16, "out_channels": 16, "image_dim": None} | changes


@pytest.mark.parametrize(
    ("config", "experts", "name", "density", "layers", "steps"),
    [
        (wan(), 1, "Wan 2.1 T2V-14B", 0.25, 2, 5 / 50),
        (wan(in_channels=36, image_dim=1280), 1, "Wan 2.1 I2V-14B", 0.25, 2, 0),
        (wan(num_layers=30), 1, "Wan 2.1 T2V-1.3B", 0.25, 2, 5 / 50),
        (wan(num_layers=30, in_channels=48, out_channels=48), 1, "Wan 2.2 TI2V-5B", 0.25, 2, 5 / 50),
        (wan(), 2, "Wan 2.2 T2V-A14B", 0.15, 2, 3 / 40),
        (wan(in_channels=36), 2, "Wan 2.2 I2V-A14B", 0.15, 2, 0),
        (wan(in_channels=36), 1, "Wan 2.2 I2V-A14B", 0.15, 2, 0),
        (wan(num_layers=8), 1, "Wan", 0.25, 1, 5 / 50),
    ],
)
def test_wan_checkpoints_get_the_papers_settings(
    config: dict[str, object], experts: int, name: str, density: float, layers: int, steps: float
) -> None:
    preset = find_preset(Checkpoint("wan", config, experts))
    assert preset.name == name
    assert math.isclose(preset.config.density, density)
    assert leading(preset.config.dense_layers, int(str(config["num_layers"]))) == layers
    assert math.isclose(preset.config.dense_steps, steps)


def test_hunyuan_video_gets_the_papers_settings_and_every_preset_names_its_source() -> None:
    assert find_preset(Checkpoint("hunyuan-video", {})).config == RectifiedAttentionConfig(density=0.2, top_p=0.3)
    assert all(preset.source for preset in PRESETS)
    with pytest.raises(LookupError, match="flux"):
        find_preset(Checkpoint("flux", {}))
