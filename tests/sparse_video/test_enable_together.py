"""Rectified attention together with what else users do to a model: caches, backends, offloading, sizes, failures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from accelerate.hooks import remove_hook_from_module
from diffusers.hooks import FirstBlockCacheConfig, apply_group_offloading
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.models.transformers.transformer_wan import WanAttnProcessor, WanTransformer3DModel
from torch import Tensor

import plugins.sparse_video.adapters.base as adapter_base
from plugins.sparse_video.config import RectifiedAttentionConfig
from plugins.sparse_video.enable import (
    OUTSIDE,
)
from plugins.sparse_video.executors import get_executor

from .enabling import ALL_BLOCKS, SMALL, SPARSE, assert_near, enable, run, video
from .tiny_models import (
    hunyuan_inputs,
    tiny_hunyuan,
    tiny_wan,
    tiny_wan_pipeline,
    wan_inputs,
)


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def _default_backend() -> Iterator[None]:
    """`set_attention_backend` also changes the default of the whole process."""
    active, _ = _AttentionBackendRegistry.get_active_backend()
    yield
    _AttentionBackendRegistry.set_active_backend(active)


@pytest.mark.parametrize("when", ["before", "after"])
def test_first_block_cache_works_with_it(when: str) -> None:
    def cached(config: RectifiedAttentionConfig | None, threshold: float) -> tuple[Tensor, Any]:
        pipeline = tiny_wan_pipeline()
        if config is None or when == "before":
            pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
        handle = None if config is None else enable(pipeline, config)
        if config is not None and when == "after":
            pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
        result = video(pipeline, guidance_scale=5.0)
        if handle is not None:
            handle.disable()
            pipeline.transformer.disable_cache()
        return result, handle

    for threshold in (0.0, 10.0):
        expected, _ = cached(None, threshold)
        result, handle = cached(SMALL.replace(top_p=1.0), threshold)
        assert_near(result, expected, 1e-4)
        calls = {row["layer"]: row["calls"] for row in handle.stats().per_layer()}
        skipping = threshold > 1  # the first block of each of 4 steps x 2 calls always runs, the others once per call
        assert calls == ({0: 8, 1: 2, 2: 2} if skipping else {0: 8, 1: 8, 2: 8})


@pytest.mark.usefixtures("_default_backend")
@pytest.mark.parametrize("when", ["before", "after"])
def test_dense_work_runs_on_the_attention_backend_that_was_set(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    original = adapter_base.dispatch_attention_fn

    def spy(*args: Any, **kwargs: Any) -> Tensor:
        seen.append(kwargs["backend"])
        return original(*args, **kwargs)

    monkeypatch.setattr(adapter_base, "dispatch_attention_fn", spy)
    model: Any = tiny_hunyuan()
    if when == "before":
        model.set_attention_backend("_native_math")
    handle = enable(model, SPARSE.replace(dense_layers=0.5))
    if when == "after":
        model.set_attention_backend("_native_math")
    run(model, hunyuan_inputs())
    # Two dense layers, and the text queries of two sparse ones.
    assert seen == [AttentionBackendName._NATIVE_MATH] * 4
    handle.disable()
    processor = model.attn_processors["transformer_blocks.0.attn.processor"]
    assert processor._attention_backend == AttentionBackendName._NATIVE_MATH


def test_offloading_hooks_work_with_it_set_before_or_after() -> None:
    expected = run(tiny_wan(), wan_inputs())

    def sequential(model: WanTransformer3DModel) -> None:
        cpu_offload(model, torch.device("cpu"))

    def whole(model: WanTransformer3DModel) -> None:
        cpu_offload_with_hook(model, torch.device("cpu"))

    def group(model: WanTransformer3DModel) -> None:
        apply_group_offloading(model, torch.device("cpu"), torch.device("cpu"), "block_level", num_blocks_per_group=1)

    for offload in (sequential, whole, group):
        for before in (True, False):
            model: Any = tiny_wan()
            if before:
                offload(model)
            handle = enable(model, ALL_BLOCKS)
            if not before:
                offload(model)
            assert_near(run(model, wan_inputs()), expected)
            assert len(handle.stats().records) == 3
            handle.disable()
            assert torch.equal(run(model, wan_inputs()), expected)


def test_removing_the_offload_does_not_remove_it() -> None:
    model: Any = tiny_wan()
    cpu_offload_with_hook(model, torch.device("cpu"))
    with enable(model) as handle:
        sparse = run(model, wan_inputs())
        remove_hook_from_module(model, recurse=True)
        assert torch.equal(run(model, wan_inputs()), sparse)
        assert handle.stats().summary()["sparse_calls"] == 6  # the same timestep again is a second call of the step


def test_another_size_in_the_next_run_takes_its_own_grid() -> None:
    model: Any = tiny_wan()
    sizes = [(3, 8, 8), (2, 7, 9), (5, 4, 6), (3, 8, 8)]
    inputs = [wan_inputs(grid=grid) for grid in sizes]
    with enable(model, ALL_BLOCKS.replace(neighbors=True)):
        exact = [run(model, it) for it in inputs]
    for it, result in zip(inputs, exact, strict=True):
        assert_near(result, run(model, it))
    with enable(model, SPARSE.replace(neighbors=True)):
        sparse = [run(model, it) for it in inputs]
    for it, result in zip(inputs, sparse, strict=True):
        with enable(model, SPARSE.replace(neighbors=True)):
            assert torch.equal(run(model, it), result)


def test_the_number_format_may_change_while_it_is_on() -> None:
    model: Any = tiny_wan()
    inputs = wan_inputs()
    half = inputs | {k: inputs[k].bfloat16() for k in ("hidden_states", "encoder_hidden_states")}
    with enable(model, ALL_BLOCKS):
        run(model, inputs)
        model.to(torch.bfloat16)
        result = run(model, half)
    assert result.dtype == torch.bfloat16
    assert_near(result.float(), run(model, half).float(), 5e-2)


def test_saving_while_it_is_on_saves_the_plain_model(tmp_path: Path) -> None:
    model: Any = tiny_wan()
    expected, state = run(model, wan_inputs()), dict(model.state_dict())
    with enable(model):
        assert list(model.state_dict()) == list(state)
        model.save_pretrained(tmp_path)
        loaded: Any = WanTransformer3DModel.from_pretrained(tmp_path)
    assert torch.equal(run(loaded.eval(), wan_inputs()), expected)
    assert isinstance(loaded.blocks[0].attn1.processor, WanAttnProcessor)


class Failing:
    """An executor that fails in its second call, as one that runs out of memory would."""

    name = "failing"
    calls = 0

    def unavailable(self, device: torch.device, dtype: torch.dtype) -> str | None:
        return None

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        self.calls += 1
        if self.calls == 2:
            raise MemoryError("out of memory")
        return get_executor("reference")(*args, **kwargs)


def test_an_exception_in_a_forward_leaves_nothing_broken() -> None:
    model: Any = tiny_wan()
    expected = run(model, wan_inputs())
    with enable(model) as reference:
        sparse = run(model, wan_inputs())
    assert reference.stats().reason
    handle = enable(model, executor=Failing())
    with pytest.raises(MemoryError):
        run(model, wan_inputs())
    layer = model.blocks[1].attn1
    layer(torch.zeros(1, 192, 24))
    assert handle.stats().records[-1].stats.fallback == OUTSIDE
    assert torch.equal(run(model, wan_inputs(timestep=500.0)), sparse)
    assert handle.stats().summary()["executor"] == "failing"
    handle.disable()
    assert torch.equal(run(model, wan_inputs()), expected)


def test_an_exception_in_the_block_of_a_context_manager_switches_it_off() -> None:
    model: Any = tiny_wan()
    with pytest.raises(KeyError), enable(model):
        raise KeyError
    assert isinstance(model.blocks[0].attn1.processor, WanAttnProcessor)


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_takes_its_attention_out_of_the_compiled_code() -> None:
    model: Any = tiny_wan(layers=1)
    expected = run(model, wan_inputs())
    compiled = torch.compile(model, backend="eager")
    handle = enable(compiled, ALL_BLOCKS)
    assert_near(run(compiled, wan_inputs()), expected)
    run(compiled, wan_inputs(timestep=400.0))
    assert [record.step for record in handle.stats().records] == [0, 1]
    handle.disable()
    assert_near(run(compiled, wan_inputs()), expected)
    torch.compiler.reset()
