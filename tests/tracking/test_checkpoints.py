"""Checkpoints of the pipeline: to disk and back, refused when they are not what they should be, and the code beside."""

from __future__ import annotations

import importlib.machinery
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor
from transformers.dynamic_module_utils import get_imports, get_relative_import_files

from plugins.tracking import SataModel, SataPipeline, SataProcessor, TrackingError
from plugins.tracking.boxes import box_iou
from plugins.tracking.plugin import SPEC
from plugins.tracking.rollout import jittered
from plugins.tracking.scenes import EVALUATION_SEEDS, generate_scene
from plugins.tracking.session import SataSession

from .pipelines import BOX, SIDE, small_scene, tiny_pipeline, tracks_alike

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "tracking"
PUBLISHED = PLUGIN.parents[1] / "hub_cards" / "sata-tiny"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pipe() -> SataPipeline:
    return tiny_pipeline()


@pytest.fixture(scope="module")
def scene() -> Any:
    return small_scene()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("checkpoint") / "sata"
    tiny_pipeline().save_pretrained(place)
    return place


class TestCheckpoints:
    def test_saved_and_loaded_it_tracks_the_same(self, folder, pipe, scene):
        loaded = SataPipeline.from_pretrained(folder, device="cpu")
        prompts = [BOX]
        assert tracks_alike(loaded(scene, task="vos", prompts=prompts), pipe(scene, task="vos", prompts=prompts))
        assert dict(loaded.processor.image_processor.size) == {"longest_edge": SIDE}
        assert (loaded.checkpoint, loaded.revision, loaded.task) == (str(folder), None, SPEC.task)

    def test_processor_and_pipeline_are_saved_with_the_weights(self, folder):
        assert json.loads((folder / "processor_config.json").read_text())["processor_class"] == "SataProcessor"
        assert list(json.loads((folder / "config.json").read_text())["custom_pipelines"]) == [SPEC.task]

    def test_saving_what_was_loaded_changes_nothing(self, folder, tmp_path):
        SataPipeline.from_pretrained(folder, device="cpu").save_pretrained(tmp_path)
        assert sorted(file.name for file in tmp_path.iterdir()) == sorted(file.name for file in folder.iterdir())
        one, two = (load_file(place / "model.safetensors") for place in (folder, tmp_path))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)

    def test_the_shared_expert_is_frozen_after_loading_and_training_leaves_it_alone(self, folder, scene):
        model = SataModel.from_pretrained(folder)
        shared = {name: value for name, value in model.named_parameters() if ".mlp.shared." in name}
        assert shared
        assert not any(value.requires_grad for value in shared.values())
        assert any(value.requires_grad for value in model.parameters())
        before = {name: value.detach().clone() for name, value in shared.items()}
        model.train()
        inputs = SataProcessor.from_pretrained(folder)({name: scene.frames[name][0] for name in ("rgb", "thermal")})
        inputs.pop("original_sizes")
        model(**inputs).logits.sum().backward()
        torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5).step()
        assert all(torch.equal(before[name], value) for name, value in shared.items())

    def test_the_auto_classes_know_it(self, folder):
        assert type(AutoConfig.from_pretrained(folder)).__name__ == "SataConfig"
        assert isinstance(AutoModel.from_pretrained(folder), SataModel)
        assert isinstance(AutoProcessor.from_pretrained(folder), SataProcessor)
        assert type(AutoImageProcessor.from_pretrained(folder)).__name__ == "SataImageProcessor"

    def test_half_precision_finds_nearly_the_same(self, scene):
        """Of trained weights: routers of random ones are undecided, and a rounding changes experts."""
        full, half = (SataPipeline.from_pretrained(PUBLISHED, dtype=dtype, device="cpu") for dtype in (None, "bf16"))
        inputs = full.processor({name: scene.frames[name][0] for name in ("rgb", "thermal")})
        inputs.pop("original_sizes")
        with torch.no_grad():
            one, two = (each.model(**inputs).logits.sigmoid() for each in (full, half))
        assert one.max() > 0.3
        assert 0 < (one - two).abs().mean() < 1e-3
        assert (one - two).abs().max() < 0.05
        assert half(scene, task="vos", prompts=[BOX]).run["dtype"] == "bfloat16"

    def test_it_moves_with_its_sessions(self, pipe, scene):
        assert pipe.to("cpu") is pipe
        with pytest.raises(TrackingError, match="cannot be used here"):
            pipe.to("nowhere")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"device": "tpu"}, "device 'tpu' cannot be used"),
            ({"dtype": "int8"}, "dtype is 'int8'"),
            ({"attention": "magic"}, "attention 'magic' is unknown"),
            ({"attention": "flash_attention_2"}, "needs CUDA"),
            ({"revision": "main"}, "which has none"),
        ],
    )
    def test_what_cannot_be_done_here_is_refused(self, folder, options, message):
        with pytest.raises(TrackingError, match=message):
            SataPipeline.from_pretrained(folder, **({"device": "cpu"} | options))

    @pytest.mark.parametrize(
        "name", ["/nowhere", "./nowhere", "hub_cards/nowhere", "a/b/c", "x" * 5000, "a\0b", "../..", "spaces in it"]
    )
    def test_a_name_of_nothing_is_refused(self, name):
        with pytest.raises(TrackingError, match=r"there is no checkpoint|holds no config\.json"):
            SataPipeline.from_pretrained(name, local_files_only=True)

    def test_a_repository_that_is_not_in_the_cache_is_refused_offline(self, tmp_path):
        with pytest.raises(TrackingError, match="cannot be fetched"):
            SataPipeline.from_pretrained("nobody/nothing", local_files_only=True, cache_dir=tmp_path)

    def test_pickles_are_refused(self, folder, tmp_path):
        damaged = copy_of(folder, tmp_path)
        weights = load_file(damaged / "model.safetensors")
        (damaged / "model.safetensors").unlink()
        torch.save(weights, damaged / "pytorch_model.bin")
        with pytest.raises(TrackingError, match="a pickle can run code"):
            SataPipeline.from_pretrained(damaged)

    @pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
    def test_weights_that_do_not_fit_are_refused(self, folder, tmp_path, change):
        damaged = copy_of(folder, tmp_path)
        weights = load_file(damaged / "model.safetensors")
        if change == "missing":
            del weights["temperature"]
        elif change == "unexpected":
            weights["another"] = torch.zeros(2)
        else:
            weights["stem.weight"] = torch.zeros(2, 2)
        save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(TrackingError, match="download the checkpoint again"):
            SataPipeline.from_pretrained(damaged)

    @pytest.mark.parametrize(
        ("file", "content", "message"),
        [
            ("config.json", "{", "is not JSON"),
            ("config.json", "[]", "not a JSON object"),
            ("config.json", '{"model_type": "bert"}', "type 'bert', not 'sata'"),
            ("model.safetensors", "junk", "cannot be loaded"),
            ("processor_config.json", "{", "holds no SataProcessor"),
        ],
    )
    def test_a_damaged_checkpoint_is_refused(self, folder, tmp_path, file, content, message):
        damaged = copy_of(folder, tmp_path)
        (damaged / file).write_text(content)
        with pytest.raises(TrackingError, match=re.escape(message)):
            SataPipeline.from_pretrained(damaged)

    def test_a_shard_outside_the_folder_is_refused(self, folder, tmp_path):
        damaged = copy_of(folder, tmp_path)
        index = {"metadata": {}, "weight_map": {"temperature": "../model.safetensors"}}
        (damaged / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(TrackingError, match="which is not there"):
            SataPipeline.from_pretrained(damaged)


def fake_xformers(monkeypatch: pytest.MonkeyPatch, factor: float = 1.0) -> list[tuple[int, ...]]:
    """A package of that name, whose attention is SDPA times a factor; returns the shapes of its queries."""
    calls: list[tuple[int, ...]] = []

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None = None) -> torch.Tensor:
        calls.append(tuple(query.shape))
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        return factor * functional.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2)

    package, operations = ModuleType("xformers"), ModuleType("xformers.ops")
    package.__spec__ = importlib.machinery.ModuleSpec("xformers", None)
    operations.memory_efficient_attention = attend  # ty: ignore[missing-attribute]
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", operations)
    return calls


class TestAttention:
    def test_xformers_is_used_when_asked_for_and_finds_the_same(self, folder, scene, monkeypatch):
        calls = fake_xformers(monkeypatch)
        chosen = SataPipeline.from_pretrained(folder, device="cpu", attention="xformers")
        probes = len(calls)
        tracks = chosen(scene, task="vos", prompts=[BOX])
        assert len(calls) - probes == 4 * 5  # frames, blocks
        assert tracks.run["attention"]["backend"] == "xformers"
        assert tracks_alike(
            tracks, SataPipeline.from_pretrained(folder, device="cpu")(scene, task="vos", prompts=[BOX])
        )

    def test_xformers_that_differs_from_sdpa_is_refused(self, folder, monkeypatch):
        fake_xformers(monkeypatch, factor=1.1)
        with pytest.raises(TrackingError, match="differs from SDPA"):
            SataPipeline.from_pretrained(folder, device="cpu", attention="xformers")


def copy_of(folder: Path, place: Path) -> Path:
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    return place


FRESH = """
import json, sys
sys.modules["torchvision"] = None  # importing it fails, as where it is not installed or does not fit torch
import numpy as np, torch
from transformers import AutoModel, AutoProcessor, pipeline
torch.set_num_threads(1)
folder, frames, out = sys.argv[1:]
video = dict(np.load(frames))
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor({name: part[0] for name, part in video.items()})
inputs.pop("original_sizes")
with torch.no_grad():
    logits = model(**inputs).logits
pipe = pipeline(model=folder, trust_remote_code=True, device="cpu")
tracks = pipe(video, task="mots", prompts=[{"id": 7, "frame": 0, "box": [5, 5, 30, 30]}])
arrays = {f"{name}{t}": getattr(one, name) for t, one in enumerate(tracks.frames)
          for name in ("ids", "xyxy", "masks", "scores")}
np.savez(out, logits=logits, **arrays)
house = [name for name in sys.modules if name.split(".")[0] in ("plugins", "core")]
print(json.dumps({"task": pipe.task, "house": house}))
"""


class TestPublished:
    def test_of_twins_that_touch_more_are_found_where_both_are_expected(self):
        model, generator = SataPipeline.from_pretrained(PUBLISHED, device="cpu").model, torch.Generator().manual_seed(0)
        session = SataSession(model, "mots", modalities=("rgb", "thermal"))
        touching, found = 0, {"untold": 0, "told": 0}
        for seed in range(EVALUATION_SEEDS + 100, EVALUATION_SEEDS + 104):
            scene = generate_scene(seed, twins=True)
            for index in range(0, len(scene), 3):
                boxes = torch.tensor(list(scene.boxes[index].values())) / 128
                middles = (boxes[:, :2] + boxes[:, 2:]) / 2
                nearest = 128 * (torch.cdist(middles, middles) + 9 * torch.eye(len(boxes))).amin(1)
                near = boxes[(nearest > 8) & (nearest < 14)]
                if not len(near):
                    continue
                touching += len(near)
                looked = session.look({name: scene.frames[name][index] for name in ("rgb", "thermal")})
                assert looked is not None
                about = jittered(boxes, 0.1, generator)
                with torch.inference_mode():
                    for name, expected in (("untold", None), ("told", [about])):
                        (detected,) = model.detect(looked.features, expected)
                        found[name] += int((box_iou(near, detected.boxes) > 0.6).any(1).sum())
        assert touching > 30
        assert found["told"] > 0.75 * touching
        assert found["told"] > 1.1 * found["untold"]

    def test_a_fresh_process_gets_the_same_from_the_folder_alone_and_without_torchvision(self, folder, scene, tmp_path):
        video = {name: scene.frames[name][:3] for name in ("rgb", "thermal")}
        np.savez(tmp_path / "video.npz", **video)
        environment = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [sys.executable, "-c", FRESH, str(folder), str(tmp_path / "video.npz"), str(tmp_path / "out.npz")],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout.splitlines()[-1]) == {"task": SPEC.task, "house": []}
        direct = SataPipeline.from_pretrained(folder, device="cpu")
        inputs = direct.processor({name: part[0] for name, part in video.items()})
        inputs.pop("original_sizes")
        found = np.load(tmp_path / "out.npz")
        with torch.no_grad():
            np.testing.assert_array_equal(found["logits"], direct.model(**inputs).logits.numpy())
        for t, frame in enumerate(direct(video, task="mots", prompts=[BOX]).frames):
            for name in ("ids", "xyxy", "masks", "scores"):
                np.testing.assert_array_equal(found[f"{name}{t}"], getattr(frame, name))

    def test_the_published_list_is_what_the_pipeline_needs(self, folder):
        needed = {Path(file).name for file in get_relative_import_files(PLUGIN / "pipeline_sata.py")}
        assert set(SPEC.published) == needed | {"pipeline_sata.py"}
        assert {file.name for file in folder.glob("*.py")} == set(SPEC.published)

    @pytest.mark.parametrize("name", SPEC.published)
    def test_a_published_file_needs_only_packages_that_everyone_with_the_pipeline_has(self, name):
        plain = {"torch", "numpy", "scipy", "transformers", "safetensors", "huggingface_hub", "PIL", "av"}
        wanted = set(get_imports(PLUGIN / name)) - sys.stdlib_module_names - plain
        assert wanted == set()
