"""SparseVideoPipeline: diffusers' conventions, what it refuses, and what it records."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from diffusers.callbacks import PipelineCallback
from diffusers.configuration_utils import FrozenDict
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import HunyuanVideoPipeline
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

from core.runs import build_run_record
from plugins.sparse_video import dense, generation
from plugins.sparse_video.config import RectifiedAttentionConfig
from plugins.sparse_video.enable import enable_rectified_attention
from plugins.sparse_video.errors import SparseVideoInputError
from plugins.sparse_video.output import SparseVideoOutput
from plugins.sparse_video.pipeline import SparseVideoPipeline

from .tiny_models import (
    hunyuan_prompt,
    seeded,
    tiny_hunyuan_pipeline,
    tiny_tokenizer,
    tiny_wan_components,
    tiny_wan_i2v_pipeline,
    tiny_wan_pipeline,
)

PROMPT = "a red square moves right"
SMALL: dict[str, Any] = {"num_frames": 9, "height": 96, "width": 96, "num_inference_steps": 2}  # 3 x 6 x 6 = 108 tokens
ATTENTION: dict[str, Any] = {"density": 0.3, "block_size": 16, "neighbors": False, "min_tokens": 16}
DEFAULTS: dict[str, Any] = {f"default_{name}": value for name, value in SMALL.items()} | {
    "default_attention": ATTENTION
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Typed as Any below: half of these calls are wrong on purpose.
def make_pipeline(**options: Any) -> Any:
    components = options.pop("components", None) or tiny_wan_components()
    settings: dict[str, Any] = {**components, "default_guidance_scale": 1.0, **DEFAULTS, **options}
    pipeline = SparseVideoPipeline(**settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipe() -> Any:
    return make_pipeline()


def latents(pipeline: Any, prompt: Any = PROMPT, **arguments: Any) -> torch.Tensor:
    """The result before decoding, with plain PyTorch as executor."""
    settings: dict[str, Any] = {"seed": 0, "executor": "reference", "output_type": "latent", **arguments}
    return pipeline(prompt, **settings).frames


def hunyuan_text_encoders() -> dict[str, Any]:
    """Tiny Llama and CLIP, as wide as the tiny transformer expects."""
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "right"
    llama = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        pad_token_id=0,
    )
    clip = CLIPTextConfig(
        vocab_size=64,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=8,
        eos_token_id=1,
    )
    return {
        "tokenizer": tokenizer,
        "tokenizer_2": tiny_tokenizer(),
        "text_encoder": LlamaModel(llama).eval(),
        "text_encoder_2": CLIPTextModel(clip).eval(),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pipe: Any) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny"
    pipe.save_pretrained(path)
    return path


def load(path: Any, **options: Any) -> Any:
    pipeline = SparseVideoPipeline.from_pretrained(path, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class TestFamilies:
    def test_dense_is_diffusers_own_pipeline_to_the_last_bit(self, pipe: Any) -> None:
        wan = tiny_wan_pipeline()
        expected = wan(PROMPT, **SMALL, guidance_scale=1.0, generator=seeded(3)).frames
        assert np.array_equal(pipe(PROMPT, seed=3, attention="dense").frames, expected)

    def test_dense_with_guidance_and_unipc_is_diffusers_own(self) -> None:
        wan = tiny_wan_pipeline(unipc=True)
        ours = make_pipeline(components=tiny_wan_components(unipc=True))
        negative = "a blue circle"
        arguments = {"guidance_scale": 3.0, "generator": seeded(0), "output_type": "latent"}
        expected = wan(PROMPT, negative, **SMALL, **arguments).frames
        assert torch.equal(latents(ours, negative_prompt=negative, guidance_scale=3.0, attention="dense"), expected)

    def test_density_one_equals_dense(self, pipe: Any) -> None:
        torch.testing.assert_close(latents(pipe, density=1.0), latents(pipe, attention="dense"), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("mode", ["sparse", "rectified"])
    def test_sparse_attention_changes_the_clip_and_leaves_the_model_alone(self, pipe: Any, mode) -> None:
        before = latents(pipe, attention="dense")
        changed = latents(pipe, attention=mode)
        assert (changed - before).abs().max() > 1e-3
        assert torch.equal(latents(pipe, attention="dense"), before)

    def test_sparse_keeps_the_blocks_and_leaves_the_correction_out(self, pipe: Any) -> None:
        sparse, rectified = (pipe(PROMPT, seed=0, attention=mode).stats.summary() for mode in ("sparse", "rectified"))
        assert sparse["rectification_factor"] == pytest.approx(1, abs=1e-6)
        assert rectified["rectification_factor"] < 1
        assert sparse["density"] == pytest.approx(rectified["density"], abs=0.1)

    def test_two_experts_both_run(self) -> None:
        pipeline = make_pipeline(components=tiny_wan_components(two_experts=True), boundary_ratio=0.6)
        result = pipeline(PROMPT, seed=0, num_inference_steps=4, output_type="latent", executor="reference")
        assert {record.model for record in result.stats.records} == {"transformer", "transformer_2"}

    def test_per_token_timesteps_run(self) -> None:
        assert latents(make_pipeline(expand_timesteps=True)).isfinite().all()

    def test_image_to_video_takes_an_image(self) -> None:
        wan = tiny_wan_i2v_pipeline()
        pipeline = make_pipeline(components=wan.components)
        assert pipeline.family.name == "wan-image"
        image = Image.fromarray(np.full((96, 96, 3), 128, np.uint8))
        result = pipeline(PROMPT, image=image, seed=0, output_type="latent", executor="reference")
        assert result.frames.shape == (1, 4, 3, 12, 12)
        assert result.run["params"]["image"] == "Image"
        with pytest.raises(SparseVideoInputError, match="give image"):
            pipeline(PROMPT, seed=0)

    def test_text_to_video_takes_no_image(self, pipe: Any) -> None:
        with pytest.raises(SparseVideoInputError, match="leave image out"):
            pipe(PROMPT, image=Image.new("RGB", (96, 96)))

    def test_hunyuan_video_is_diffusers_own_when_dense(self) -> None:
        hunyuan: HunyuanVideoPipeline = tiny_hunyuan_pipeline()
        pipeline = make_pipeline(components=hunyuan.components, default_guidance_scale=6.0)
        assert pipeline.family.name == "hunyuan"
        expected = hunyuan(**hunyuan_prompt(), **SMALL, generator=seeded(0), output_type="np").frames
        result = pipeline(**hunyuan_prompt(), seed=0, attention="dense")
        assert np.array_equal(result.frames, expected)
        sparse = pipeline(**hunyuan_prompt(), seed=0, executor="reference", output_type="latent")
        assert sparse.run["density"] < 1
        assert pipeline.preview(torch.zeros(1, 4, 3, 12, 12)).shape == (3, 96, 96, 3)

    def test_hunyuan_video_reads_prompts_as_diffusers_does(self) -> None:
        components = tiny_hunyuan_pipeline().components | hunyuan_text_encoders()
        hunyuan = HunyuanVideoPipeline(**components)
        hunyuan.set_progress_bar_config(disable=True)
        pipeline = make_pipeline(components=components, default_guidance_scale=6.0)
        texts = {"negative_prompt": "a blue circle", "true_cfg_scale": 2.0}
        expected = hunyuan(PROMPT, **texts, **SMALL, generator=seeded(0), output_type="latent").frames
        assert torch.equal(latents(pipeline, attention="dense", **texts), expected)
        with pytest.raises(SparseVideoInputError, match="at most 256"):
            pipeline("red " * 400)

    def test_components_can_be_exchanged(self) -> None:
        pipeline = make_pipeline()
        before = latents(pipeline)
        pipeline.scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
        assert not torch.equal(latents(pipeline), before)

    def test_an_unknown_family_is_refused(self) -> None:
        with pytest.raises(SparseVideoInputError, match="'wan', 'wan-image', 'hunyuan'"):
            make_pipeline(family="sora")
        with pytest.raises(SparseVideoInputError, match="WanTransformer3DModel"):
            make_pipeline(components=tiny_wan_components() | {"transformer": torch.nn.Identity()})


class TestResult:
    def test_frames_are_floats_between_0_and_1(self, pipe: Any) -> None:
        result = pipe(PROMPT, seed=0)
        assert isinstance(result, SparseVideoOutput)
        assert result.frames.shape == (1, 9, 96, 96, 3)
        assert result.frames.dtype == np.float32
        assert result.frames.min() >= 0
        assert result.frames.max() <= 1

    def test_output_types(self, pipe: Any) -> None:
        arrays = pipe(PROMPT, seed=0, attention="dense").frames
        tensors = pipe(PROMPT, seed=0, attention="dense", output_type="pt").frames
        images = pipe(PROMPT, seed=0, attention="dense", output_type="pil").frames
        assert np.array_equal(tensors.movedim(2, -1).numpy(), arrays)
        assert np.array_equal(np.asarray(images[0][4]), (arrays[0, 4] * 255).round().astype(np.uint8))

    def test_a_tuple_where_asked_for(self, pipe: Any) -> None:
        frames, stats, run = pipe(PROMPT, seed=0, attention="dense", output_type="latent", return_dict=False)
        assert frames.shape == (1, 4, 3, 12, 12)
        assert stats is None
        assert run["density"] == 1

    def test_the_run_says_what_was_done(self, pipe: Any) -> None:
        run = pipe(PROMPT, seed=5, density=0.5, executor="reference").run
        json.dumps(run, allow_nan=False)
        assert run["params"]["num_frames"] == 9
        assert run["params"]["config"]["density"] == 0.5
        assert run["seed"] == 5
        assert (run["device"], run["dtype"], run["tokens"], run["grid"]) == ("cpu", "float32", 108, [3, 6, 6])
        assert run["executor"]["name"] == "reference"
        assert run["executor"]["reason"]
        assert run["attention"]["backend"] == "sdpa"
        assert set(run["timings"]) == {"text", "denoise", "decode", "total"}
        assert len(run["step_seconds"]) == run["steps_done"] == 2
        assert sum(run["step_seconds"]) == pytest.approx(run["timings"]["denoise"])
        assert run["peak_memory_bytes"] > 2**20
        assert 0 < run["density"] < 0.7
        assert build_run_record("sparse-video", run).seed == 5

    def test_a_drawn_seed_is_written_back_and_repeats_the_clip(self, pipe: Any) -> None:
        first = pipe(PROMPT, output_type="latent", executor="reference")
        assert 0 <= first.run["seed"] < 2**32
        assert torch.equal(latents(pipe, seed=first.run["seed"]), first.frames)

    def test_a_generator_serves_in_place_of_a_seed(self, pipe: Any) -> None:
        result = pipe(PROMPT, generator=seeded(0), output_type="latent", executor="reference")
        assert torch.equal(result.frames, latents(pipe, seed=0))
        assert result.run["seed"] is None
        assert result.run["seeds"] == [0]

    def test_generating_leaves_the_global_random_state_alone(self, pipe: Any) -> None:
        before = torch.get_rng_state()
        pipe(PROMPT, output_type="latent")
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("mode", ["dense", "rectified"])
    def test_a_clip_of_a_batch_is_the_clip_alone(self, pipe: Any, mode: str) -> None:
        prompts = [PROMPT, "the blue circle behind a green triangle"]
        batch = latents(pipe, prompts, seed=7, attention=mode)
        for place, prompt in enumerate(prompts):
            alone = latents(pipe, prompt, seed=7 + place, attention=mode)
            torch.testing.assert_close(batch[place : place + 1], alone, atol=1e-4, rtol=0)

    def test_several_clips_per_prompt(self, pipe: Any) -> None:
        two = latents(pipe, num_videos_per_prompt=2)
        assert len(two) == 2
        assert not torch.equal(two[0], two[1])

    def test_unknown_words_and_an_idle_negative_prompt_are_told(self, pipe: Any) -> None:
        result = pipe("a red elephant", "a blue circle", seed=0, output_type="latent")
        assert "elephant" in result.run["warnings"][0]
        assert "no effect" in result.run["warnings"][1]

    def test_embeddings_serve_in_place_of_a_prompt(self, pipe: Any) -> None:
        with torch.no_grad():
            embeddings, _ = tiny_wan_pipeline().encode_prompt(PROMPT, max_sequence_length=512)
        assert torch.equal(latents(pipe, None, prompt_embeds=embeddings), latents(pipe))

    def test_bfloat16(self) -> None:
        pipeline = make_pipeline().to(torch.bfloat16)
        result = pipeline(PROMPT, seed=0, executor="reference")
        assert result.run["dtype"] == "bfloat16"
        assert np.isfinite(result.frames).all()


class TestCallbacks:
    def test_it_gets_every_step_and_the_tensors_it_names(self, pipe: Any) -> None:
        seen = []

        def look(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            assert pipeline is pipe
            assert pipeline.num_timesteps == 2
            assert pipeline.guidance_scale == 3.0
            seen.append((step, sorted(tensors)))
            return tensors

        names = pipe._callback_tensor_inputs
        pipe(
            PROMPT,
            guidance_scale=3.0,
            callback_on_step_end=look,
            callback_on_step_end_tensor_inputs=names,
            output_type="latent",
        )
        assert seen == [(0, sorted(names)), (1, sorted(names))]

    def test_it_may_change_the_latents_and_may_return_nothing(self, pipe: Any) -> None:
        zeros = latents(pipe, callback_on_step_end=lambda p, i, t, k: {"latents": torch.zeros_like(k["latents"])})
        assert (zeros == 0).all()
        assert torch.equal(latents(pipe, callback_on_step_end=lambda *_: None), latents(pipe))

    def test_a_callback_object_of_diffusers(self, pipe: Any) -> None:
        class NoGuidance(PipelineCallback):
            tensor_inputs = ["prompt_embeds"]  # noqa: RUF012

            def callback_fn(self, pipeline: Any, step_index: Any, timesteps: Any, callback_kwargs: Any) -> Any:
                pipeline._guidance_scale = 0.0
                assert list(callback_kwargs) == self.tensor_inputs
                return callback_kwargs

        guided = {"guidance_scale": 4.0, "negative_prompt": "a blue circle"}
        callback = NoGuidance(cutoff_step_ratio=None, cutoff_step_index=0)
        assert not torch.equal(latents(pipe, **guided, callback_on_step_end=callback), latents(pipe, **guided))

    def test_a_tensor_it_cannot_have(self, pipe: Any) -> None:
        with pytest.raises(SparseVideoInputError, match="latents, prompt_embeds, negative_prompt_embeds"):
            pipe(PROMPT, callback_on_step_end_tensor_inputs=["noise_pred"])

    @pytest.mark.parametrize("how", ["attribute", "method"])
    def test_an_interrupted_call_gives_what_there_is(self, pipe: Any, how: str) -> None:
        kept = {}

        def stop(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            kept[step] = tensors["latents"]
            if step == 1:
                if how == "method":
                    pipeline.interrupt()
                else:
                    pipeline._interrupt = True
            return tensors

        result = pipe(PROMPT, seed=0, num_inference_steps=5, callback_on_step_end=stop, output_type="latent")
        assert torch.equal(result.frames, kept[1])
        assert result.run["interrupted"]
        assert result.run["steps_done"] == 2
        assert not pipe(PROMPT, seed=0, output_type="latent").run["interrupted"]

    @pytest.mark.parametrize("mode", ["dense", "rectified"])
    def test_a_callback_that_raises_leaves_the_pipeline_usable(self, pipe: Any, mode: str) -> None:
        expected = latents(pipe, attention=mode)

        def stop(*_: Any) -> dict[str, Any]:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            latents(pipe, attention=mode, callback_on_step_end=stop)
        assert torch.equal(latents(pipe, attention=mode), expected)

    def test_two_calls_at_once_are_refused(self, pipe: Any) -> None:
        errors = []

        def again(pipeline: Any, *_: Any) -> None:
            def call() -> None:
                with pytest.raises(SparseVideoInputError, match="generating already"):
                    pipeline(PROMPT)
                errors.append(True)

            thread = threading.Thread(target=call)
            thread.start()
            thread.join()

        latents(pipe, callback_on_step_end=again)
        assert errors == [True, True]

    def test_the_handle_is_handed_out_before_the_first_step(self, pipe: Any) -> None:
        handles = []

        def watch(handle: Any) -> None:
            handle.watch(layer=1, step=0)
            handles.append(handle)

        latents(pipe, on_handle=watch)
        assert handles[0].block_map(1).shape == (2, 7, 7)
        assert not handles[0].enabled


class TestPreview:
    def test_every_step_has_one(self, pipe: Any) -> None:
        looks = []
        latents(pipe, callback_on_step_end=lambda pipeline, *_: looks.append(pipeline.preview()))
        assert [(look.shape, look.dtype) for look in looks] == [((3, 96, 96, 3), np.uint8)] * 2

    def test_the_last_clean_estimate_is_the_result(self, pipe: Any) -> None:
        looks = []
        done = latents(pipe, callback_on_step_end=lambda pipeline, *_: looks.append(pipeline.preview()))
        assert np.abs(pipe.preview(done).astype(int) - looks[-1]).max() <= 1

    def test_it_finds_the_colours_of_a_linear_codec(self) -> None:
        from plugins.sparse_video.preview import LatentPreview

        codec = _LinearCodec()
        colours = torch.rand(1, 3, 2, 3, 3, generator=seeded(0))
        shown = LatentPreview.fit(codec, spatial=8)(codec.mix(colours))
        centres = shown[:, 4::8, 4::8]
        expected = (255 * colours[0].movedim(0, -1)).numpy()
        # Bilinear enlargement mixes neighbours a little, even beside a centre.
        assert np.abs(centres - expected).max() < 40

    def test_without_a_step_there_is_none(self, pipe: Any) -> None:
        with pytest.raises(SparseVideoInputError, match="callback_on_step_end"):
            pipe.preview()


class _LinearCodec(torch.nn.Module):
    """A stand-in for a VAE whose latents are a linear map of the mean colour."""

    dtype = torch.float32
    weights = torch.tensor([[1.0, 2.0, -1.0], [0.5, -1.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.3]])

    def __init__(self) -> None:
        super().__init__()
        self.config = FrozenDict({"scaling_factor": 1.0})
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def mix(self, colours: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oc,bcthw->bothw", self.weights, colours)

    def encode(self, clips: torch.Tensor) -> Any:
        colours = torch.nn.functional.avg_pool3d((clips + 1) / 2, (1, 8, 8))[:, :, ::4]
        found = self.mix(colours)
        distribution = type("Distribution", (), {"mode": lambda self: found})()
        return type("Encoded", (), {"latent_dist": distribution})()


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"density": 0.0}, "above 0 and at most 1"),
            ({"density": 1.5}, "above 0 and at most 1"),
            ({"density": float("nan")}, "above 0 and at most 1"),
            ({"attention": "fast"}, "'rectified', 'sparse', 'dense'"),
            ({"attention": "dense", "density": 0.5}, "leave them out"),
            ({"config": {"density": 0.5}}, "give a RectifiedAttentionConfig"),
            ({"num_frames": 10}, r"4k \+ 1 frames: 9 is the nearest"),
            ({"num_frames": 12}, r"4k \+ 1 frames: 13 is the nearest"),
            ({"num_frames": 0}, "1 or more"),
            ({"num_frames": 9.0}, "whole number"),
            ({"height": 100}, "multiples of 16 pixels: 96 is the nearest"),
            ({"width": 8}, "multiples of 16 pixels: 16 is the nearest"),
            ({"num_frames": 1, "height": 16, "width": 16}, "fewer than one block of 16"),
            ({"num_inference_steps": 0}, "1 to 1000"),
            ({"num_inference_steps": 1001}, "1 to 1000"),
            ({"guidance_scale": -1}, "0 or above"),
            ({"guidance_scale": float("inf")}, "0 or above"),
            ({"seed": -1}, "0 to 4294967295"),
            ({"seed": 1.5}, "0 to 4294967295"),
            ({"seed": 1, "generator": seeded(0)}, "give one of them"),
            ({"generator": [seeded(0), seeded(1)]}, "1 clips and 2 generators"),
            ({"generator": 3}, r"torch\.Generator"),
            ({"negative_prompt": ["a", "b"]}, "1 prompts and 2 negative prompts"),
            ({"num_videos_per_prompt": 0}, "1 or more"),
            ({"output_type": "gif"}, "'np', 'pt', 'pil', 'latent'"),
            ({"strength": 0.5}, "unknown argument strength; also allowed: .*latents"),
            ({"executor": "warp"}, "reference"),
        ],
    )
    def test_a_wrong_argument(self, pipe: Any, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(SparseVideoInputError, match=message):
            pipe(PROMPT, **arguments)

    @pytest.mark.parametrize("prompt", [None, 3, [], ["a", None]])
    def test_a_prompt_that_is_no_text(self, pipe: Any, prompt: Any) -> None:
        with pytest.raises(SparseVideoInputError, match="give a text"):
            pipe(prompt)

    def test_a_prompt_too_long_is_not_cut_off(self, pipe: Any) -> None:
        with pytest.raises(SparseVideoInputError, match=r"prompt is \d+ tokens long and this model reads at most 512"):
            pipe("a red square " * 800)
        with pytest.raises(SparseVideoInputError, match="negative_prompt is 601 tokens"):
            pipe(PROMPT, "red " * 600, guidance_scale=2.0)
        with pytest.raises(SparseVideoInputError, match="at most 4: shorten it"):
            pipe(PROMPT, max_sequence_length=4)

    def test_more_tokens_than_the_model_takes(self) -> None:
        pipeline = make_pipeline(max_tokens=100)
        with pytest.raises(SparseVideoInputError, match=r"108 tokens \(3 x 6 x 6\) .* at most 100: lower num_frames"):
            pipeline(PROMPT)

    def test_more_memory_than_there_is(self, pipe: Any) -> None:
        with pytest.raises(SparseVideoInputError, match=r"GiB or more and cpu has .* GiB: lower num_frames"):
            pipe(PROMPT, num_frames=400_001, height=1600, width=1600)

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory."),
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        ],
    )
    def test_running_out_of_memory(self, pipe: Any, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        expected = latents(pipe)

        def full(*_: Any) -> None:
            raise error

        with pytest.raises(
            SparseVideoInputError, match=r"memory ran out at 1 x 9 frames of 96 x 96 .* lower num_frames"
        ):
            pipe(PROMPT, callback_on_step_end=full)
        monkeypatch.setattr(generation, "decode_latents", full)
        with pytest.raises(SparseVideoInputError, match="memory ran out"):
            pipe(PROMPT)
        monkeypatch.undo()
        assert torch.equal(latents(pipe), expected)

    def test_another_runtime_error_is_passed_on(self, pipe: Any) -> None:
        def broken(*_: Any) -> None:
            raise RuntimeError("a defect")

        with pytest.raises(RuntimeError, match="a defect"):
            pipe(PROMPT, callback_on_step_end=broken)

    def test_dense_is_refused_while_a_handle_makes_it_sparse(self, pipe: Any) -> None:
        with (
            enable_rectified_attention(pipe, RectifiedAttentionConfig.from_dict(ATTENTION)),
            pytest.raises(SparseVideoInputError, match="disable"),
        ):
            pipe(PROMPT, attention="dense")


class TestCheckpoints:
    def test_saved_and_loaded_it_gives_the_same_clip(self, pipe: Any, folder: Path) -> None:
        again = load(folder)
        assert torch.equal(latents(again), latents(pipe))
        result = again(PROMPT, seed=0, output_type="latent", executor="reference")
        assert result.run["checkpoint"] == str(folder)
        assert again.attention.reason
        assert [path.name for path in folder.rglob("*.bin")] == []

    def test_an_optional_part_may_be_missing(self, tmp_path: Path) -> None:
        pipeline = make_pipeline(components=tiny_wan_components(two_experts=True), boundary_ratio=0.5)
        pipeline.save_pretrained(tmp_path / "two")
        again = load(tmp_path / "two")
        assert again.config["boundary_ratio"] == 0.5
        assert again.transformer_2 is not None
        assert again.image_encoder is None

    def test_a_folder_of_wan_loads_with_its_settings(self, tmp_path: Path) -> None:
        tiny_wan_pipeline(two_experts=True, boundary_ratio=0.7).save_pretrained(tmp_path / "wan")
        pipeline = load(tmp_path / "wan")
        assert pipeline.family.name == "wan"
        assert pipeline.config["boundary_ratio"] == 0.7
        assert pipeline.default("num_inference_steps") == 50
        assert pipeline.attention_config().density == 0.25
        assert latents(pipeline, **SMALL, attention="dense").isfinite().all()

    def test_a_folder_of_image_to_video_loads(self, tmp_path: Path) -> None:
        tiny_wan_i2v_pipeline().save_pretrained(tmp_path / "wan")
        assert load(tmp_path / "wan").family.takes_image

    @pytest.mark.parametrize("dtype", ["bf16", torch.bfloat16])
    def test_dtype_and_device(self, folder: Path, dtype: Any) -> None:
        pipeline = load(folder, dtype=dtype, device="cpu")
        assert pipeline.transformer.dtype == torch.bfloat16
        assert pipeline.text_encoder.dtype == torch.bfloat16
        assert pipeline.vae.dtype == torch.float32
        assert load(folder, torch_dtype={"default": torch.float16}).vae.dtype == torch.float16

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"dtype": "int8"}, "bf16"),
            ({"device": "tpu"}, "'auto', 'cpu' or 'cuda'"),
            ({"attention": "magic"}, "'auto', 'sdpa', 'native', 'xformers', 'flash'"),
            ({"revision": "main"}, "has none; drop it"),
        ],
    )
    def test_a_wrong_option(self, folder: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(SparseVideoInputError, match=message):
            load(folder, **options)

    def test_pickles_are_refused(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path / "pickled")
        weights = tmp_path / "pickled" / "transformer" / "diffusion_pytorch_model.safetensors"
        weights.rename(weights.with_suffix(".bin"))
        with pytest.raises(SparseVideoInputError, match=r"pickle weights \(transformer/.*\.bin\).*safetensors"):
            load(tmp_path / "pickled")

    def test_a_missing_shard_is_told(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path / "torn")
        index = tmp_path / "torn" / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}}))
        with pytest.raises(SparseVideoInputError, match="model-00002-of-00002"):
            load(tmp_path / "torn")

    @pytest.mark.parametrize("name", ["./nothing-here", "a/b/c", "/no/such/folder", "not a name!", "x" * 5000, "a\0b"])
    def test_a_checkpoint_that_is_not_there(self, name: str) -> None:
        with pytest.raises(SparseVideoInputError, match="WanPipeline, WanImageToVideoPipeline, HunyuanVideoPipeline"):
            load(name)

    def test_a_pipeline_of_another_family(self, tmp_path: Path) -> None:
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
        with pytest.raises(SparseVideoInputError, match="is a StableDiffusionPipeline"):
            load(tmp_path)
        (tmp_path / "model_index.json").write_text("{")
        with pytest.raises(SparseVideoInputError, match="not JSON"):
            load(tmp_path)
        (tmp_path / "model_index.json").unlink()
        with pytest.raises(SparseVideoInputError, match=r"holds no model_index\.json"):
            load(tmp_path)

    def test_the_cache_serves_without_a_network(self, folder: Path, tmp_path: Path) -> None:
        commit = "0123456789abcdef0123456789abcdef01234567"
        repository = tmp_path / "models--somebody--tiny"
        shutil.copytree(folder, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
        pipeline = load("somebody/tiny", local_files_only=True, cache_dir=tmp_path)
        assert (pipeline.checkpoint, pipeline.revision) == ("somebody/tiny", commit)
        with pytest.raises(SparseVideoInputError, match="hf download somebody/other"):
            load("somebody/other", local_files_only=True, cache_dir=tmp_path)

    def test_offline_is_respected(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(SparseVideoInputError, match="HF_HUB_OFFLINE"):
            load("somebody/other", cache_dir=tmp_path)

    def test_an_index_with_code_beside_it_runs_none_of_it(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path / "coded")
        index = tmp_path / "coded" / "model_index.json"
        settings = json.loads(index.read_text()) | {"_class_name": ["pipeline", "SparseVideoPipeline"]}
        index.write_text(json.dumps(settings))
        (tmp_path / "coded" / "pipeline.py").write_text("raise RuntimeError('this code must not run')\n")
        assert latents(load(tmp_path / "coded")).isfinite().all()

    def test_model_offload_hooks_serve_and_go(self, pipe: Any) -> None:
        pipeline = make_pipeline()
        pipeline.enable_model_cpu_offload(device="cpu")
        expected = latents(pipe)
        for _ in range(2):
            assert torch.equal(latents(pipeline), expected)
        pipeline.remove_all_hooks()
        assert torch.equal(latents(pipeline), expected)

    def test_it_is_made_from_another_pipeline(self, pipe: Any) -> None:
        made = SparseVideoPipeline.from_pipe(tiny_wan_pipeline())
        made.set_progress_bar_config(disable=True)
        assert torch.equal(
            latents(made, **SMALL, guidance_scale=1.0, attention="dense"), latents(pipe, attention="dense")
        )
        assert isinstance(WanPipeline.from_pipe(pipe), WanPipeline)


class TestDenseBackend:
    def test_the_choice_and_its_reason_are_kept(self, folder: Path) -> None:
        assert load(folder).attention.as_dict() == {
            "backend": "sdpa",
            "reason": "xformers has no CPU kernel",
            "requested": "auto",
        }
        assert load(folder, attention="sdpa").attention.reason == "asked for"

    def test_xformers_without_a_gpu_is_refused(self, folder: Path) -> None:
        with pytest.raises(SparseVideoInputError, match=r"cannot be used on cpu: .*use attention='sdpa'"):
            load(folder, attention="xformers")

    def test_flash_is_applied_and_recorded(self, folder: Path) -> None:
        pipeline = load(folder, attention="flash")
        assert pipeline.attention.backend == "flash"
        run = pipeline(PROMPT, seed=0, attention="dense", output_type="latent").run
        assert run["attention"]["backend"] == "flash"

    def test_what_diffusers_was_told_since_is_recorded(self, folder: Path) -> None:
        pipeline = load(folder)
        with dense.attention_backend("native"):  # puts the process-wide default back
            pipeline.transformer.set_attention_backend("_native_math")
        run = pipeline(PROMPT, seed=0, attention="dense", output_type="latent").run
        assert run["attention"]["backend"] == "_native_math"
        assert "set_attention_backend" in run["attention"]["reason"]

    def test_a_masked_model_keeps_sdpa(self) -> None:
        device = torch.device("cpu")
        chosen = dense.choose_dense_backend("auto", device=device, dtype=torch.float32, head_dim=12, masked=True)
        assert chosen.backend == "sdpa"
        assert "mask" in chosen.reason
        with pytest.raises(SparseVideoInputError, match="mask"):
            dense.choose_dense_backend("xformers", device=device, dtype=torch.float32, head_dim=12, masked=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
class TestOnAGPU:
    def test_a_seed_means_the_same_noise_and_offload_the_same_clip(self, folder: Path) -> None:
        pipeline = load(folder, device="cuda", dtype="fp32")
        run = pipeline(PROMPT, seed=0, output_type="latent").run
        assert run["device"].startswith("cuda")
        assert pipeline.attention.reason
        on_gpu = latents(pipeline, attention="dense").cpu()
        torch.testing.assert_close(on_gpu, latents(load(folder), attention="dense"), atol=1e-2, rtol=1e-2)
        offloaded = load(folder)
        offloaded.enable_model_cpu_offload()
        torch.testing.assert_close(latents(offloaded, attention="dense").cpu(), on_gpu, atol=1e-4, rtol=1e-4)

    def test_bfloat16_is_the_default(self, folder: Path) -> None:
        pipeline = load(folder, device="cuda")
        assert pipeline.transformer.dtype == torch.bfloat16
        result = pipeline(PROMPT, seed=0)
        assert np.isfinite(result.frames).all()
        assert result.run["peak_memory_bytes"] == torch.cuda.max_memory_allocated()
