"""Rectified attention in diffusers' models: exact where it should be exact, gone when switched off, and what it says.

Models are tiny with random weights (tiny_models.py): 192 visual tokens of a (3, 8, 8) grid in 12 blocks of 16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor, nn

from plugins.sparse_video.adapters import RectifiedProcessor
from plugins.sparse_video.config import RectifiedAttentionConfig
from plugins.sparse_video.enable import (
    DENSE_LAYER,
    DENSE_STEP,
    GRADIENTS,
    OTHER_TOKENS,
    UNKNOWN_MASK,
    enable_rectified_attention,
    preset_for,
)
from plugins.sparse_video.errors import SparseVideoInputError

from .enabling import ALL_BLOCKS, DENSE, SMALL, SPARSE, assert_near, enable, run, video
from .tiny_models import (
    hunyuan_inputs,
    hunyuan_prompt,
    per_token_timestep,
    seeded,
    tiny_hunyuan,
    tiny_hunyuan_pipeline,
    tiny_wan,
    tiny_wan_i2v,
    tiny_wan_i2v_pipeline,
    tiny_wan_pipeline,
    wan_i2v_inputs,
    wan_inputs,
)

FAMILIES: dict[str, tuple[Callable[[], nn.Module], Callable[[], dict[str, Any]], int]] = {
    "wan": (tiny_wan, wan_inputs, 3),
    "wan batch of 2": (tiny_wan, lambda: wan_inputs(batch=2), 3),
    "wan i2v": (tiny_wan_i2v, wan_i2v_inputs, 3),
    "wan per-token timesteps": (tiny_wan, lambda: per_token_timestep(wan_inputs(batch=2)), 3),
    "hunyuan": (tiny_hunyuan, hunyuan_inputs, 4),
    "hunyuan, texts of 3, 12 and 1": (tiny_hunyuan, lambda: hunyuan_inputs(text_lengths=(3, 12, 1)), 4),
    "hunyuan token replace": (lambda: tiny_hunyuan(image_condition_type="token_replace"), hunyuan_inputs, 4),
    "hunyuan latent concat": (lambda: tiny_hunyuan(image_condition_type="latent_concat"), hunyuan_inputs, 4),
}


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("family", FAMILIES)
def test_density_1_is_the_unmodified_model(family: str) -> None:
    build, inputs, layers = FAMILIES[family]
    model: Any = build()
    expected = run(model, inputs())
    with enable(model, DENSE) as handle:
        assert_near(run(model, inputs()), expected)
    assert handle.stats().summary()["fallbacks"] == {"density is 1": layers}
    with enable(model, ALL_BLOCKS) as handle:
        assert_near(run(model, inputs()), expected)
    assert handle.stats().summary()["sparse_calls"] == layers


@pytest.mark.parametrize("family", FAMILIES)
def test_disable_restores_outputs_processors_and_hooks(family: str) -> None:
    build, inputs, _ = FAMILIES[family]
    model: Any = build()
    expected = run(model, inputs())
    processors, names = dict(model.attn_processors), list(model._modules)
    attributes = set(vars(model))
    handle = enable(model)
    assert (run(model, inputs()) - expected).abs().max() > 1e-3
    assert handle.enabled
    handle.disable()
    handle.disable()
    assert not handle.enabled
    after = model.attn_processors
    assert all(after[name] is processor for name, processor in processors.items())
    assert list(model._modules) == names
    assert set(vars(model)) == attributes
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    assert torch.equal(run(model, inputs()), expected)


def test_only_self_attention_over_visual_tokens_is_replaced() -> None:
    for model in (tiny_wan_i2v(), tiny_hunyuan()):
        with enable(model):
            names = {name for name, it in model.attn_processors.items() if isinstance(it, RectifiedProcessor)}
            others = set(model.attn_processors) - names
        assert all("attn2" in name or "token_refiner" in name for name in others)
        assert others
        assert not any("attn2" in name or "token_refiner" in name for name in names)


def test_fused_projections_are_used() -> None:
    model: Any = tiny_wan()
    expected = run(model, wan_inputs())
    with enable(model, ALL_BLOCKS):
        model.fuse_qkv_projections()
        for block in model.blocks:
            block.attn1.to_q = None
        assert_near(run(model, wan_inputs()), expected)


def test_each_sample_of_a_batch_is_as_alone() -> None:
    model: Any = tiny_hunyuan()
    inputs = hunyuan_inputs(text_lengths=(3, 12))
    with enable(model):
        together = run(model, inputs)
        for i in range(2):
            alone = {k: v[i : i + 1] if isinstance(v, Tensor) else v for k, v in inputs.items()}
            assert_near(run(model, alone), together[i : i + 1])


def test_what_stands_in_the_padding_of_the_text_does_not_matter() -> None:
    model: Any = tiny_hunyuan()
    inputs = hunyuan_inputs(text_lengths=(5,))
    with enable(model):
        expected = run(model, inputs)
        inputs["encoder_hidden_states"][:, 5:] = 7.0
        assert_near(run(model, inputs), expected)


def test_dense_layers_are_the_first_and_counted_with_their_reason() -> None:
    model: Any = tiny_hunyuan()
    with enable(model, SPARSE.replace(dense_layers=0.5)) as handle:
        run(model, hunyuan_inputs())
    assert [record.stats.fallback for record in handle.stats().records] == [DENSE_LAYER, DENSE_LAYER, None, None]
    assert [row["density"] == 1 for row in handle.stats().per_layer()] == [True, True, False, False]


@pytest.mark.parametrize("calls", [1, 2])
def test_a_pipeline_run_is_recorded_by_layer_step_and_guidance_call(calls: int) -> None:
    pipeline = tiny_wan_pipeline()
    expected = video(pipeline, guidance_scale=1.0 if calls == 1 else 5.0)
    with enable(pipeline, SMALL.replace(dense_steps=0.3)) as handle:
        for steps in (4, 5):  # the second run replaces the first
            result = video(pipeline, steps, guidance_scale=1.0 if calls == 1 else 5.0)
            places = [record[:4] for record in handle.stats().records]
            assert places == [
                ("transformer", layer, step, call)
                for step in range(steps)
                for call in range(calls)
                for layer in range(3)
            ]
            dense = [record.step for record in handle.stats().records if record.stats.fallback == DENSE_STEP]
            assert sorted(set(dense)) == [0, 1]
            assert len(dense) == 2 * calls * 3
    assert result.shape == expected.shape
    assert torch.equal(video(pipeline, guidance_scale=1.0 if calls == 1 else 5.0), expected)


def test_two_experts_share_the_schedule_and_each_has_its_dense_layers() -> None:
    pipeline = tiny_wan_pipeline(two_experts=True)
    expected = video(pipeline, 8, guidance_scale=4.0)
    with enable(pipeline, DENSE):
        assert_near(video(pipeline, 8, guidance_scale=4.0), expected)
    handle = enable(pipeline, SMALL.replace(dense_layers=0.3, dense_steps=0.5))
    video(pipeline, 8, guidance_scale=4.0)
    records = handle.stats().records
    steps = {name: sorted({r.step for r in records if r.model == name}) for name in ("transformer", "transformer_2")}
    assert steps["transformer"] + steps["transformer_2"] == list(range(8))
    assert min(map(len, steps.values())) > 0
    for record in records:
        wanted = DENSE_LAYER if record.layer == 0 else DENSE_STEP if record.step < 4 else None
        assert record.stats.fallback == wanted
    assert {row["model"] for row in handle.stats().per_layer()} == set(steps)
    handle.disable()
    assert torch.equal(video(pipeline, 8, guidance_scale=4.0), expected)


def test_a_transformer_alone_learns_its_step_from_the_pipeline_that_calls_it() -> None:
    pipeline = tiny_wan_pipeline()
    with enable(pipeline.transformer, SMALL.replace(dense_steps=0.5)) as handle:
        video(pipeline, 10)  # with the timestep range alone, a shift of 3 would make 8 of 10 dense
        dense = {record.step for record in handle.stats().records if record.stats.fallback == DENSE_STEP}
        assert dense == set(range(5))


@pytest.mark.parametrize("name", ["wan ti2v", "wan i2v", "hunyuan"])
def test_other_pipelines_match_at_density_1_and_follow_the_schedule(name: str) -> None:
    if name == "hunyuan":
        pipeline = tiny_hunyuan_pipeline()
        prompt: dict[str, Any] = {"prompt_embeds": None, "negative_prompt_embeds": None} | hunyuan_prompt()
    elif name == "wan i2v":
        pipeline, prompt = tiny_wan_i2v_pipeline(), {"image": torch.rand(1, 3, 64, 64, generator=seeded(0))}
    else:
        pipeline, prompt = tiny_wan_pipeline(expand_timesteps=True, unipc=True), {}
    expected = video(pipeline, prompt=prompt)
    with enable(pipeline, SMALL.replace(top_p=1.0)):
        assert_near(video(pipeline, prompt=prompt), expected, 1e-4)
    with enable(pipeline, SMALL.replace(dense_steps=0.25)) as handle:
        video(pipeline, prompt=prompt)
        dense = {record.step for record in handle.stats().records if record.stats.fallback == DENSE_STEP}
        assert dense == {0}
        assert {record.step for record in handle.stats().records} == {0, 1, 2, 3}
    assert torch.equal(video(pipeline, prompt=prompt), expected)


def test_guidance_in_one_batch_is_one_call() -> None:
    model: Any = tiny_wan()
    with enable(model) as handle:
        for timestep in (900.0, 500.0):
            run(model, wan_inputs(batch=2, timestep=timestep))
        assert {(record.step, record.cfg_call) for record in handle.stats().records} == {(0, 0), (1, 0)}


def test_too_few_tokens_are_dense_and_say_so() -> None:
    model: Any = tiny_wan()
    expected = run(model, wan_inputs())
    with enable_rectified_attention(model, RectifiedAttentionConfig()) as handle:
        assert_near(run(model, wan_inputs()), expected)
    (reason,) = handle.stats().summary()["fallbacks"]
    assert "min_tokens" in reason


@pytest.mark.parametrize("trained", ["to_q", "to_v"])
def test_with_gradients_attention_is_dense_and_they_flow(trained: str) -> None:
    model: Any = tiny_wan().requires_grad_(False)
    weight = getattr(model.blocks[0].attn1, trained).weight.requires_grad_()
    with torch.enable_grad(), enable(model) as handle:
        run(model, wan_inputs()).sum().backward()
    assert handle.stats().summary()["fallbacks"] == {GRADIENTS: 3}
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0


def test_a_mask_or_length_that_is_not_understood_is_dense() -> None:
    model: Any = tiny_hunyuan()
    attention = model.transformer_blocks[0].attn
    visual, text = torch.randn(1, 192, 24, generator=seeded(1)), torch.randn(1, 12, 24, generator=seeded(2))
    mask = torch.ones(1, 1, 204, 204, dtype=torch.bool)
    mask[..., 3] = False
    expected = attention(visual, text, attention_mask=mask)[0]

    handle = enable(model)
    seen: dict[str, Tensor] = {}

    def inside(module: nn.Module, args: Any) -> None:
        """Calls the first attention as a changed model might, while a forward call is going on."""
        seen["mask"] = attention(visual, text, attention_mask=mask)[0]
        attention(visual[:, :100], text, attention_mask=None)

    hook = model.norm_out.register_forward_pre_hook(inside)
    run(model, hunyuan_inputs())
    hook.remove()
    handle.disable()
    assert torch.equal(seen["mask"], expected)
    assert handle.stats().summary()["fallbacks"] == {UNKNOWN_MASK: 1, OTHER_TOKENS: 1}


def test_statistics_are_what_happened() -> None:
    model: Any = tiny_wan()
    with enable(model) as handle:
        run(model, wan_inputs())
    summary = handle.stats().summary()
    assert summary["density"] == pytest.approx(3 / 12)
    assert 3 / 12 < summary["estimated_recall"] < 1
    assert 0 <= summary["compensated_share"] < 1
    assert summary["rectification_factor"] == pytest.approx(1 - summary["compensated_share"])
    assert (summary["calls"], summary["sparse_calls"], summary["fallbacks"]) == (3, 3, {})
    assert summary["executor"] == "reference"
    assert all(len(record.stats.recall_per_head) == 2 for record in handle.stats().records)
    assert [row["layer"] for row in handle.stats().per_layer()] == [0, 1, 2]
    assert [row["step"] for row in handle.stats().per_step()] == [0]
    handle.reset()
    assert handle.stats().summary()["calls"] == 0


def test_watched_layers_keep_their_newest_block_map() -> None:
    model: Any = tiny_hunyuan()
    with enable(model) as handle:
        handle.watch(2, step=1)
        run(model, hunyuan_inputs(timestep=900.0))
        assert handle.block_map(2) is None
        run(model, hunyuan_inputs(timestep=500.0))
        chosen = handle.block_map(2)
    assert chosen is not None
    assert chosen.shape == (2, 12, 12)
    assert chosen.mean() == pytest.approx(3 / 12)
    assert handle.block_map(1) is None
    assert all(record.stats.block_map is None for record in handle.stats().records)


def test_callbacks_get_the_tensors_of_the_layers_and_steps_asked_for() -> None:
    model: Any = tiny_hunyuan()
    seen: list[tuple[int, int, torch.Size]] = []
    with enable(model, DENSE) as handle:
        handle.on_attention(lambda layer, step, q, k, v, config: seen.append((layer, step, q.shape)), layers=(1, 3))
        for timestep in (900.0, 500.0):
            run(model, hunyuan_inputs(timestep=timestep))
    shape = (1, 2, 192 + 12, 12)
    assert seen == [(1, 0, shape), (3, 0, shape), (1, 1, shape), (3, 1, shape)]


def test_enabling_twice_is_refused() -> None:
    pipeline = tiny_wan_pipeline()
    handle = enable(pipeline)
    for target in (pipeline, pipeline.transformer):
        with pytest.raises(SparseVideoInputError, match=r"already on .* disable\(\)"):
            enable(target)
    handle.disable()
    enable(pipeline).disable()


def test_what_cannot_be_enabled_is_refused_with_what_can() -> None:
    for target in (nn.Linear(2, 2), object(), None):
        with pytest.raises(SparseVideoInputError, match=r"Wan 2\.1 and 2\.2.*HunyuanVideo"):
            enable(target)
    with pytest.raises(SparseVideoInputError, match=r"'fastest'.*'reference'"):
        enable(tiny_wan(), executor="fastest")
    with pytest.raises(SparseVideoInputError, match=r"dict.*RectifiedAttentionConfig"):
        enable(tiny_wan(), config={"density": 0.5})  # ty: ignore[invalid-argument-type]


def test_a_custom_processor_is_not_lost_and_nothing_is_half_enabled() -> None:
    class Custom(WanAttnProcessor):
        pass

    pipeline = tiny_wan_pipeline(two_experts=True)
    pipeline.transformer_2.blocks[1].attn1.set_processor(Custom())
    with pytest.raises(SparseVideoInputError, match=r"transformer_2, layer 1 .* Custom"):
        enable(pipeline)
    assert isinstance(pipeline.transformer.blocks[0].attn1.processor, WanAttnProcessor)


def test_a_processor_set_meanwhile_stays() -> None:
    model: Any = tiny_wan()
    handle = enable(model)
    mine = WanAttnProcessor()
    model.blocks[1].attn1.set_processor(mine)
    handle.disable()
    assert model.blocks[1].attn1.processor is mine
    assert isinstance(model.blocks[0].attn1.processor, WanAttnProcessor)


def test_context_parallelism_is_refused_before_and_after() -> None:
    model: Any = tiny_wan()
    processor = model.blocks[0].attn1.processor
    processor._parallel_config = object()
    with pytest.raises(SparseVideoInputError, match="context parallelism"):
        enable(model)
    processor._parallel_config = None
    handle = enable(model)
    model.blocks[0].attn1.processor._parallel_config = config = object()
    with pytest.raises(SparseVideoInputError, match="context parallelism"):
        run(model, wan_inputs())
    handle.disable()
    assert processor._parallel_config is config


def test_without_a_configuration_the_preset_holds() -> None:
    pipeline = tiny_wan_pipeline()
    with enable_rectified_attention(pipeline) as handle:
        assert handle.config == preset_for(pipeline).config
    assert preset_for(tiny_hunyuan()).name == "HunyuanVideo"
