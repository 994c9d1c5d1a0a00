"""SparseVideoPipeline: what it refuses, the checkpoints it loads, and the dense backend it takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.wan.pipeline_wan import WanPipeline

from plugins.sparse_video import dense, generation
from plugins.sparse_video.config import RectifiedAttentionConfig
from plugins.sparse_video.enable import enable_rectified_attention
from plugins.sparse_video.errors import SparseVideoInputError
from plugins.sparse_video.pipeline import SparseVideoPipeline

from .pipelines import (
    ATTENTION,
    PROMPT,
    SMALL,
    latents,
    load,
    make_pipeline,
)
from .tiny_models import (
    seeded,
    tiny_wan_components,
    tiny_wan_i2v_pipeline,
    tiny_wan_pipeline,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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
