"""A script that loads checkpoints as their users do, and prints what it got as JSON; copied away before it runs.

`python loading.py suite WAYS` loads with the pipelines of a checkout that is on the path, `... alone WAYS` with
transformers, diffusers and the code that lies in the repositories. WAYS is JSON: [[slug, repository or folder, options
of from_pretrained], ...]. The slug "pause" asks the Hub for /pause, so that the server can tell what came before from
what comes after.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from huggingface_hub.utils import disable_progress_bars
from PIL import Image

Found = dict[str, Any]


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """Of names, types and bytes."""
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def frame(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def tracking(pipe: Any) -> Found:
    inputs = pipe.processor({"rgb": frame(128, 128), "thermal": frame(128, 128)})
    inputs.pop("original_sizes")
    return {
        "weights": digest(pipe.model.state_dict()),
        "output": digest({"logits": pipe.model(**inputs).logits}),
        "setting": pipe.model.config.match_threshold,
    }


def sparse_video(pipe: Any) -> Found:
    pipe.set_progress_bar_config(disable=True)
    size = {"num_frames": 5, "height": 96, "width": 96, "num_inference_steps": 1, "executor": "reference"}
    clip = pipe("a red square moves right", seed=0, attention="rectified", output_type="latent", **size)
    return {
        "weights": digest(pipe.transformer.state_dict()),
        "output": digest({"latents": clip.frames}),
        "setting": pipe.config["fps"],
    }


def ui_action(pipe: Any) -> Found:
    picture = {"type": "image", "image": Image.fromarray(frame(112, 112))}
    encoded = pipe.processor.encode([{"role": "user", "content": [picture, {"type": "text", "text": "Wait"}]}])
    batch = pipe.processor.batch([encoded])
    del batch["labels"]
    return {
        "weights": digest(pipe.model.state_dict()),
        "output": digest({"logits": pipe.model(**batch).logits}),
        "setting": pipe.model.config.text_config.max_window_layers,
        "pixels": digest({"pixels": batch["pixel_values"]}),
    }


def attribution(pipe: Any) -> Found:
    pixels = pipe.processor.image_processor(images=[frame(32, 32)], return_tensors="pt")["pixel_values"]
    words = pipe.processor.tokenizer(["Which shape is it? The label says plus."], return_tensors="pt")
    given = {name: words[name] for name in ("input_ids", "attention_mask")}
    return {
        "weights": digest(pipe.model.state_dict()),
        "output": digest({"logits": pipe.model(pixel_values=pixels, **given).logits}),
        "setting": pipe.model.config.initializer_range,
    }


PROBES = {"tracking": tracking, "sparse-video": sparse_video, "ui-action": ui_action, "attribution": attribution}


def with_suite(slug: str, source: str, options: dict[str, Any]) -> Found:
    """Through the technique's own pipeline."""
    from core.registry import find, load_object

    pipe = load_object(find(slug).pipeline).from_pretrained(source, device="cpu", **options)
    return PROBES[slug](pipe) | {"revision": getattr(pipe, "revision", None)}


def alone(slug: str, source: str, options: dict[str, Any]) -> Found:
    """Through the classes that anyone has."""
    loaders = {
        "tracking": tracking_alone,
        "sparse-video": sparse_video_alone,
        "ui-action": ui_action_alone,
        "attribution": attribution_alone,
    }
    return loaders[slug](source, options)


def refusal(loader: Any, source: str, options: dict[str, Any]) -> str:
    """What is said where the code is not trusted."""
    try:
        loader.from_pretrained(source, **{**options, "trust_remote_code": False})
    except ValueError as error:
        return str(error)
    return ""


def tracking_alone(source: str, options: dict[str, Any]) -> Found:
    from transformers import AutoModel, AutoProcessor, pipeline

    untrusted = refusal(AutoModel, source, options)
    model, processor = (each.from_pretrained(source, **options) for each in (AutoModel, AutoProcessor))
    pipe = pipeline(model=source, device="cpu", **options)
    found = tracking(SimpleNamespace(model=model.eval(), processor=processor))
    piped = {"pipeline": [type(pipe).__name__, pipe.task], "piped": tracking(pipe)["output"]}
    return found | piped | {"untrusted": untrusted}


def sparse_video_alone(source: str, options: dict[str, Any]) -> Found:
    from diffusers import DiffusionPipeline

    untrusted = refusal(DiffusionPipeline, source, options)
    pipe = DiffusionPipeline.from_pretrained(source, **options)
    return sparse_video(pipe) | {"pipeline": [type(pipe).__name__], "untrusted": untrusted}


def attribution_alone(source: str, options: dict[str, Any]) -> Found:
    from transformers import AutoModelForSequenceClassification, AutoProcessor

    untrusted = refusal(AutoModelForSequenceClassification, source, options)
    model = AutoModelForSequenceClassification.from_pretrained(source, **options)
    processor = AutoProcessor.from_pretrained(source, **options)
    found = attribution(SimpleNamespace(model=model.eval(), processor=processor))
    return found | {"pipeline": [type(model).__name__], "untrusted": untrusted}


def ui_action_alone(source: str, options: dict[str, Any]) -> Found:
    """transformers' own classes; and of a folder its code too, imported as a package."""
    from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    model = AutoModelForImageTextToText.from_pretrained(source, **options)
    tokenizer: Any = AutoTokenizer.from_pretrained(source, **options)
    images = Qwen2VLImageProcessorPil.from_pretrained(source, **options)
    pixels = images(images=[Image.fromarray(frame(112, 112))], return_tensors="pt")["pixel_values"]
    found = {
        "pipeline": [type(model).__name__],
        "weights": digest(model.state_dict()),
        "pixels": digest({"pixels": pixels}),
        "tokens": tokenizer("Wait")["input_ids"],
    }
    try:
        found["processor"] = type(AutoProcessor.from_pretrained(source, **options)).__name__
    except ImportError as error:
        found["processor"] = " ".join(str(error).split())
    if os.path.isdir(source):
        sys.path.append(str(Path(source).parent))
        package = importlib.import_module(f"{Path(source).name}.pipeline_ui_action")
        found |= ui_action(package.UIActionPipeline.from_pretrained(source, device="cpu"))
    return found


def main() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    disable_progress_bars()
    look = {"suite": with_suite, "alone": alone}[sys.argv[1]]
    found = []
    for slug, source, options in json.loads(sys.argv[2]):
        if slug == "pause":
            with contextlib.suppress(urllib.error.HTTPError):  # the Hub has nothing to say to that
                urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/pause").close()
        else:
            found.append({"slug": slug, "source": source} | look(slug, source, options))
    house = sorted({name.split(".")[0] for name in sys.modules} & {"plugins", "core", "apps"})
    print(json.dumps({"house": house, "found": found}))


if __name__ == "__main__":
    main()
