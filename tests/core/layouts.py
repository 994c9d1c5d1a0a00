"""Miniatures of public repositories: their file names, their settings as they are written there, tiny random weights.

The listings are of the repositories' main branches without pictures and examples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import CLIPConfig, CLIPModel

from plugins.ui_action.small_model import CHAT_TEMPLATE, new_model, new_tokenizer
from tests.sparse_video.pipelines import hunyuan_text_encoders
from tests.sparse_video.tiny_models import WORDS, tiny_hunyuan_pipeline, tiny_wan_pipeline


def shards(stem: str, count: int) -> tuple[str, ...]:
    """The names of a checkpoint in that many files."""
    names = (f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1))
    return (*names, f"{stem}.safetensors.index.json")


def inside(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


_HEAD = (".gitattributes", "README.md")
_SPECIAL = ("special_tokens_map.json", "tokenizer_config.json")
_QWEN = ("chat_template.json", "config.json", "generation_config.json", "merges.txt", "preprocessor_config.json")
_QWEN += ("tokenizer.json", "tokenizer_config.json", "vocab.json")
LISTINGS = {
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": (
        *_HEAD,
        "model_index.json",
        "scheduler/scheduler_config.json",
        *inside("text_encoder", "config.json", *shards("model", 5)),
        *inside("tokenizer", *_SPECIAL, "spiece.model", "tokenizer.json"),
        *inside("transformer", "config.json", *shards("diffusion_pytorch_model", 2)),
        *inside("vae", "config.json", "diffusion_pytorch_model.safetensors"),
    ),
    "hunyuanvideo-community/HunyuanVideo": (
        *_HEAD,
        "model_index.json",
        "scheduler/scheduler_config.json",
        *inside("text_encoder", "config.json", *shards("model", 4)),
        *inside("text_encoder_2", "config.json", "model.safetensors"),
        *inside("tokenizer", *_SPECIAL, "tokenizer.json"),
        *inside("tokenizer_2", *_SPECIAL, "merges.txt", "vocab.json"),
        *inside("transformer", "config.json", *shards("diffusion_pytorch_model", 3)),
        *inside("vae", "config.json", "diffusion_pytorch_model.safetensors"),
    ),
    "Qwen/Qwen2.5-VL-3B-Instruct": (*_HEAD, "LICENSE", *_QWEN, *shards("model", 2)),
    "ByteDance-Seed/UI-TARS-1.5-7B": (
        *_HEAD,
        *_QWEN,
        "added_tokens.json",
        "special_tokens_map.json",
        *shards("model", 7),
    ),
    "facebook/sam2.1-hiera-tiny": (
        *_HEAD,
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "sam2.1_hiera_t.yaml",
        "sam2.1_hiera_tiny.pt",
        "video_preprocessor_config.json",
    ),
    "openai/clip-vit-large-patch14": (
        *_HEAD,
        *_SPECIAL,
        "config.json",
        "flax_model.msgpack",
        "merges.txt",
        "model.safetensors",
        "preprocessor_config.json",
        "pytorch_model.bin",
        "tf_model.h5",
        "tokenizer.json",
        "vocab.json",
    ),
}


def finish(folder: Path, name: str) -> Path:
    """Add the files that nothing here reads, and make sure that the listing is the public repository's."""
    for file in LISTINGS[name]:
        if not (folder / file).exists():
            assert Path(file).suffix not in {".safetensors"}, file
            (folder / file).write_text("{}" if file.endswith(".json") else "not read\n")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(LISTINGS[name])
    return folder


def split(folder: Path, stem: str, count: int) -> None:
    """Cut a checkpoint of one file into that many, with their index."""
    whole = load_file(folder / f"{stem}.safetensors")
    (folder / f"{stem}.safetensors").unlink()
    *names, index = shards(stem, count)
    place = {key: names[number % count] for number, key in enumerate(sorted(whole))}
    for name in names:
        part = {key: value for key, value in whole.items() if place[key] == name}
        save_file(part, folder / name, metadata={"format": "pt"})
    size = sum(value.nbytes for value in whole.values())
    write(folder / index, {"metadata": {"total_size": size}, "weight_map": place})


def write(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def rewrite(file: Path, changes: Mapping[str, Any], without: tuple[str, ...] = ()) -> None:
    settings = json.loads(file.read_text(encoding="utf-8")) | dict(changes)
    write(file, {name: value for name, value in settings.items() if name not in without})


def empty(folder: Path) -> Path:
    """The folder without the files in it."""
    for file in folder.iterdir():
        file.unlink()
    return folder


def t5_tokenizer(folder: Path) -> None:
    """Unigram, as T5's."""
    special = ("<pad>", "</s>", "<unk>")
    words = [(f"▁{word}", -1.0) for word in WORDS]
    letters = [(letter, -6.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    made = Tokenizer(models.Unigram([*((token, 0.0) for token in special), *words, *letters], unk_id=2))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made.save(str(folder / "tokenizer.json"))
    tokens = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    write(folder / "special_tokens_map.json", tokens)
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "model_max_length": 512}
    write(folder / "tokenizer_config.json", tokens | settings)


def llama_tokenizer(folder: Path) -> None:
    """Byte-level BPE that knows the words of the text that HunyuanVideo puts around a prompt."""
    special = ("<|begin_of_text|>", "<|end_of_text|>", "<pad>")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([DEFAULT_PROMPT_TEMPLATE["template"]], trainer)
    made.save(str(folder / "tokenizer.json"))
    tokens = dict(zip(("bos_token", "eos_token", "pad_token"), special, strict=True))
    write(folder / "special_tokens_map.json", tokens)
    write(folder / "tokenizer_config.json", tokens | {"tokenizer_class": "LlamaTokenizer", "padding_side": "right"})


def clip_tokenizer(folder: Path) -> None:
    """Bytes, within and at the end of words."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = (*alphabet, *(f"{letter}</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>")
    write(folder / "vocab.json", {token: number for number, token in enumerate(words)})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    end = dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    tokens = {"bos_token": "<|startoftext|>", **end}
    write(folder / "special_tokens_map.json", tokens)
    write(folder / "tokenizer_config.json", tokens | {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})


def wan(folder: Path) -> Path:
    """Wan 2.1: its index knows no second expert and no settings."""
    tiny_wan_pipeline(unipc=True).save_pretrained(folder)
    later = ("transformer_2", "boundary_ratio", "expand_timesteps")
    changes = {"tokenizer": ["transformers", "T5TokenizerFast"], "_diffusers_version": "0.33.0.dev0"}
    rewrite(folder / "model_index.json", changes, later)
    t5_tokenizer(empty(folder / "tokenizer"))
    split(folder / "text_encoder", "model", 5)
    split(folder / "transformer", "diffusion_pytorch_model", 2)
    return finish(folder, "Wan-AI/Wan2.1-T2V-1.3B-Diffusers")


def hunyuan(folder: Path) -> Path:
    """HunyuanVideo: a Llama and a CLIP read the prompt."""
    pipeline = tiny_hunyuan_pipeline()
    encoders = hunyuan_text_encoders()
    for name in ("text_encoder", "text_encoder_2"):
        encoders[name].resize_token_embeddings(600)  # as many as the tokenizers have
    pipeline.register_modules(**encoders)
    pipeline.save_pretrained(folder)
    classes = {"tokenizer": "LlamaTokenizerFast", "tokenizer_2": "CLIPTokenizer"}
    changes = {name: ["transformers", kind] for name, kind in classes.items()}
    rewrite(folder / "model_index.json", changes | {"_diffusers_version": "0.32.0.dev0"})
    llama_tokenizer(empty(folder / "tokenizer"))
    clip_tokenizer(empty(folder / "tokenizer_2"))
    split(folder / "text_encoder", "model", 4)
    split(folder / "transformer", "diffusion_pytorch_model", 3)
    return finish(folder, "hunyuanvideo-community/HunyuanVideo")


def qwen(folder: Path) -> Path:
    """Qwen2.5-VL: settings of the language model on the first level, its output tied to its input."""
    _qwen(folder, 2, tied=True)
    return finish(folder, "Qwen/Qwen2.5-VL-3B-Instruct")


def ui_tars(folder: Path) -> Path:
    """UI-TARS-1.5: Qwen2.5-VL 7B's, with an output matrix of its own."""
    tokenizer = _qwen(folder, 7, tied=False)
    write(folder / "added_tokens.json", tokenizer.get_added_vocab())
    write(folder / "special_tokens_map.json", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    return finish(folder, "ByteDance-Seed/UI-TARS-1.5-7B")


def _qwen(folder: Path, count: int, *, tied: bool) -> Any:
    torch.manual_seed(0)
    tokenizer = new_tokenizer(["Thought: there.\nAction: click(start_box='(98,82)')"])
    new_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink()
    rewrite(folder / "tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer", "chat_template": CHAT_TEMPLATE})
    write(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    learned = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    write(folder / "vocab.json", learned["vocab"])
    lines = (pair if isinstance(pair, str) else " ".join(pair) for pair in learned["merges"])
    (folder / "merges.txt").write_text("\n".join(("#version: 0.2", *lines)) + "\n", encoding="utf-8")
    weights = load_file(folder / "model.safetensors")
    if not tied:
        weights["lm_head.weight"] = torch.randn(weights["model.embed_tokens.weight"].shape)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    split(folder, "model", count)
    _flatten(folder / "config.json", tied)
    write(folder / "preprocessor_config.json", _PREPROCESSOR)
    return tokenizer


_PREPROCESSOR = {
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
}


def _flatten(file: Path, tied: bool) -> None:
    """The settings as transformers 4.49 wrote them."""
    found = json.loads(file.read_text(encoding="utf-8"))
    text, vision = found.pop("text_config"), found.pop("vision_config")
    rope = text.pop("rope_parameters")
    for name in ("model_type", "layer_types", "dtype", "bos_token_id", "pad_token_id", "tie_word_embeddings"):
        text.pop(name, None)
    text |= {"rope_theta": rope["rope_theta"], "sliding_window": 32768, "torch_dtype": "float32"}
    text["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    vision = {"in_chans": vision.pop("in_channels"), "spatial_patch_size": vision["patch_size"], **vision}
    for name in ("model_type", "dtype", "initializer_range", "rope_parameters"):
        vision.pop(name, None)
    for name in ("prompt_family", "dtype"):
        found.pop(name, None)
    write(file, found | text | {"vision_config": vision, "tie_word_embeddings": tied, "transformers_version": "4.49.0"})


def sam(folder: Path) -> Path:
    """SAM 2.1: Meta's own pickle lies beside the safetensors of transformers."""
    folder.mkdir()
    settings = {"architectures": ["Sam2VideoModel"], "model_type": "sam2_video", "torch_dtype": "float32"}
    write(folder / "config.json", settings)
    save_file({"no_memory_embedding": torch.randn(1, 1, 8)}, folder / "model.safetensors", metadata={"format": "pt"})
    torch.save({"model": {}}, folder / "sam2.1_hiera_tiny.pt")
    return finish(folder, "facebook/sam2.1-hiera-tiny")


def clip(folder: Path) -> Path:
    """CLIP: weights of three libraries beside the safetensors."""
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = size | {"vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513, "projection_dim": 8}
    vision = size | {"image_size": 28, "patch_size": 14, "projection_dim": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    model.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    clip_tokenizer(folder)
    return finish(folder, "openai/clip-vit-large-patch14")
