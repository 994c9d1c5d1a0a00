"""Checkpoints laid out as the public repositories lay theirs out are found, and load in the technique they are for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPModel

from core.errors import InputError, UnavailableError
from core.hub import resolve_checkpoint
from plugins.sparse_video.config import RectifiedAttentionConfig
from plugins.tracking import SataPipeline, TrackingError
from plugins.ui_action.backends.base import Prompt
from plugins.ui_action.pipeline_ui_action import UIActionPipeline
from tests.sparse_video.pipelines import ATTENTION, PROMPT, SMALL, latents, load

from . import layouts

MAKERS: dict[str, Callable[[Path], Path]] = {
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": layouts.wan,
    "hunyuanvideo-community/HunyuanVideo": layouts.hunyuan,
    "Qwen/Qwen2.5-VL-3B-Instruct": layouts.qwen,
    "ByteDance-Seed/UI-TARS-1.5-7B": layouts.ui_tars,
    "facebook/sam2.1-hiera-tiny": layouts.sam,
    "openai/clip-vit-large-patch14": layouts.clip,
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("layouts")
    return {name: make(place / name.partition("/")[2]) for name, make in MAKERS.items()}


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Every weight of a folder, whatever file it is in."""
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


@pytest.mark.parametrize("name", list(MAKERS))
def test_the_layout_is_found_and_its_weights_are_accepted(folders, name):
    assert resolve_checkpoint(folders[name]).path == folders[name]


@pytest.mark.parametrize("name", [name for name in MAKERS if any("-of-" in file for file in layouts.LISTINGS[name])])
def test_a_lost_shard_is_missed_in_every_layout_that_has_shards(folders, name):
    shard = folders[name] / next(file for file in layouts.LISTINGS[name] if "-of-" in file)
    kept = shard.rename(shard.with_suffix(".away"))
    try:
        with pytest.raises(UnavailableError, match=f"{shard.name} is missing"):
            resolve_checkpoint(folders[name])
    finally:
        kept.rename(shard)


def test_clips_older_layout_with_a_pickle_alone_is_refused(folders, tmp_path):
    for file in folders["openai/clip-vit-large-patch14"].iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match=r"pytorch_model\.bin.*run code"):
        resolve_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("name", "family"),
    [("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "wan"), ("hunyuanvideo-community/HunyuanVideo", "hunyuan")],
)
def test_sparse_video_makes_a_clip_with_it(folders, name, family):
    pipeline: Any = load(folders[name])
    assert pipeline.family.name == family
    for part in ("transformer", "text_encoder", "vae"):
        loaded = getattr(pipeline, part).state_dict()
        weights = stored(folders[name] / part)
        assert weights
        assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    dense = latents(pipeline, PROMPT, **SMALL, attention="dense")
    rectified = latents(pipeline, PROMPT, **SMALL, config=RectifiedAttentionConfig.from_dict(ATTENTION))
    assert dense.shape == rectified.shape == (1, 4, 3, 12, 12)
    assert dense.isfinite().all()
    assert rectified.isfinite().all()


@pytest.mark.parametrize(
    ("name", "family"),
    [("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2.5-vl"), ("ByteDance-Seed/UI-TARS-1.5-7B", "ui-tars-1.5")],
)
def test_ui_action_asks_it_in_its_own_way(folders, name, family):
    pipe = UIActionPipeline.from_pretrained(folders[name], device="cpu")
    assert pipe.family == family
    loaded = {value.sum().item() for value in pipe.model.state_dict().values()}
    assert {value.sum().item() for value in stored(folders[name]).values()} <= loaded
    text = pipe.model.config.text_config
    assert (text.num_hidden_layers, text.rope_parameters["mrope_section"]) == (4, [4, 6, 6])
    tied = pipe.model.lm_head.weight is pipe.model.get_input_embeddings().weight
    assert tied is (family == "qwen2.5-vl")
    screen = Image.new("RGB", (112, 112), (20, 90, 40))
    found = pipe.backend(max_new_tokens=2).complete(Prompt("reason", "Wait", (screen,), "desktop"))
    assert found.output_tokens == 2
    assert pipe.processor.limits == {"min_pixels": 3136, "max_pixels": 12845056}


def test_sam_is_no_model_of_tracking_and_that_is_said(folders):
    with pytest.raises(TrackingError, match="type 'sam2_video', not 'sata'"):
        SataPipeline.from_pretrained(folders["facebook/sam2.1-hiera-tiny"])


def test_clip_loads_with_transformers_from_where_it_was_found(folders):
    folder = resolve_checkpoint(folders["openai/clip-vit-large-patch14"]).path
    loaded = CLIPModel.from_pretrained(folder, use_safetensors=True).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in stored(folder).items())
