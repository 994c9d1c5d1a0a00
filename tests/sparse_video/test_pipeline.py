"""SparseVideoPipeline: the families it runs, what it returns, callbacks and previews."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from diffusers.callbacks import PipelineCallback
from diffusers.configuration_utils import FrozenDict
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import HunyuanVideoPipeline
from PIL import Image

from core.runs import build_run_record
from plugins.sparse_video.errors import SparseVideoInputError
from plugins.sparse_video.output import SparseVideoOutput

from .pipelines import (
    PROMPT,
    SMALL,
    hunyuan_text_encoders,
    latents,
    make_pipeline,
)
from .tiny_models import (
    hunyuan_prompt,
    seeded,
    tiny_hunyuan_pipeline,
    tiny_wan_components,
    tiny_wan_i2v_pipeline,
    tiny_wan_pipeline,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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
