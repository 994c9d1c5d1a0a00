"""Tiny models with random weights of every family, with their real processors; built without a network.

Weights come from a seed, not from the global generator, and are larger than a fresh model's, so that the image and the
text both matter to what the model decides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    BlipConfig,
    BlipForQuestionAnswering,
    BlipProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    ViltConfig,
    ViltForQuestionAnswering,
    ViltProcessor,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil

from plugins.attribution.configuration_two_stream import TwoStreamConfig
from plugins.attribution.examples import Example
from plugins.attribution.model_loading import Parts
from plugins.attribution.modeling_two_stream import TwoStreamForClassification
from plugins.attribution.processing_two_stream import TwoStreamProcessor

WORDS = ("what", "colour", "is", "the", "big", "small", "shape", "and", "behind", "it", "red", "green", "blue", "yes")
WORDS += ("no", "not", "sure", "USER", "ASSISTANT", ":", "user", "assistant", "?", "\n")
OPTIONS = ("red", "green", "blue")
KINDS = ("clip", "vilt", "blip", "llava", "qwen2_5_vl", "two_stream")
QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
TEXT_SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}


def examples(n: int = 6, *, seed: int = 0, sizes: tuple[tuple[int, int], ...] = ((40, 40),)) -> list[Example]:
    """Noise pictures with questions of one to seven words, each with a label."""
    generator = np.random.default_rng(seed)
    found = []
    for i in range(n):
        width, height = sizes[i % len(sizes)]
        noise = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        # Blocks of one colour, so that resizing leaves pictures that differ.
        colour = generator.integers(0, 256, 3, dtype=np.uint8)
        noise[: height // 2] = colour
        text = " ".join(generator.choice(WORDS[:10], size=1 + i % 7))
        found.append(Example(Image.fromarray(noise), text, OPTIONS[i % 3], f"picture {i}"))
    return found


def tiny(kind: str, seed: int = 0) -> tuple[Any, Any]:
    """A model of that model_type in evaluation mode, and its processor."""
    makers = {
        "clip": tiny_clip,
        "vilt": tiny_vilt,
        "blip": tiny_blip,
        "llava": tiny_llava,
        "qwen2_5_vl": tiny_qwen,
        "two_stream": tiny_two_stream,
    }
    model, processor = makers[kind]()
    randomise(model, seed)
    return model.eval(), processor


def options_of(kind: str) -> tuple[str, ...] | None:
    """What the tiny model of that kind may decide; None where it has labels of its own."""
    return None if kind in ("vilt", "two_stream") else OPTIONS


def save(kind: str, folder: Path) -> None:
    """The tiny model as a published repository lies."""
    model, processor = tiny(kind)
    model.save_pretrained(folder)
    if isinstance(processor, Parts):  # Qwen2.5-VL's own processor needs torchvision
        processor.image_processor.save_pretrained(folder)
        processor.tokenizer.save_pretrained(folder)
    else:
        processor.save_pretrained(folder)


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Fill every parameter from `seed`: matrices keep their scale, norms stay near one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name.lower() and parameter.ndim == 1 and name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            elif parameter.ndim > 1:
                parameter.copy_(1.5 * noise / parameter[0].numel() ** 0.5)
            elif parameter.ndim == 1:
                parameter.copy_(0.1 * noise)


def word_tokenizer(special: dict[str, str], template: str | None = None, **options: Any) -> PreTrainedTokenizerFast:
    """Whole words; `special` names the markers; `template` puts some around a text."""
    extra = options.get("additional_special_tokens", [])
    # Markers last, as CLIP has them: it takes the largest id for the end of the text.
    entries = {word: i for i, word in enumerate(dict.fromkeys((*WORDS, *special.values(), *extra)))}
    tokenizer = Tokenizer(models.WordLevel(entries, unk_token=special["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        marks = [(mark, entries[mark]) for mark in template.split() if mark in entries]
        tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=marks)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special, **options)


def bert_tokenizer() -> PreTrainedTokenizerFast:
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return word_tokenizer(special, "[CLS] $A [SEP]", additional_special_tokens=["[DEC]"], model_max_length=16)


def vision(**sizes: Any) -> dict[str, Any]:
    return {**TEXT_SIZES, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8} | sizes


def square(processor: Any) -> Any:
    return processor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def tiny_clip(**sizes: Any) -> tuple[Any, Any]:
    special = {"unk_token": "<|unk|>", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    special |= {"pad_token": "<|endoftext|>"}
    tokenizer = word_tokenizer(special, "<|startoftext|> $A <|endoftext|>", model_max_length=12)
    text = {**TEXT_SIZES, "num_hidden_layers": 3, "vocab_size": len(tokenizer), "max_position_embeddings": 12}
    text |= {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    text |= {"pad_token_id": tokenizer.pad_token_id}
    config = CLIPConfig(text_config=text | sizes, vision_config=vision() | sizes, projection_dim=24)
    return CLIPModel(config), CLIPProcessor(square(CLIPImageProcessorPil), tokenizer)


def tiny_vilt() -> tuple[Any, Any]:
    tokenizer = bert_tokenizer()
    labels = dict(enumerate(OPTIONS))
    config = ViltConfig(
        **vision(image_size=64, patch_size=16),
        vocab_size=len(tokenizer),
        max_position_embeddings=16,
        max_image_length=-1,
        id2label=labels,
        label2id={label: i for i, label in labels.items()},
        pad_token_id=tokenizer.pad_token_id,
    )
    images = ViltImageProcessorPil(size={"shortest_edge": 32}, size_divisor=16)
    return ViltForQuestionAnswering(config), ViltProcessor(images, tokenizer)


def tiny_blip() -> tuple[Any, Any]:
    tokenizer = bert_tokenizer()
    text = {**TEXT_SIZES, "num_hidden_layers": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    text |= {"encoder_hidden_size": 32, "pad_token_id": tokenizer.pad_token_id, "sep_token_id": tokenizer.sep_token_id}
    text |= {"bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]")}
    config = BlipConfig(text_config=text, vision_config=vision())
    images = BlipImageProcessorPil(size={"height": 32, "width": 32})
    return BlipForQuestionAnswering(config), BlipProcessor(images, tokenizer)


def tiny_llava(template: str | None = LLAVA_TEMPLATE, **sizes: Any) -> tuple[Any, Any]:
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = word_tokenizer(special, "<s> $A", additional_special_tokens=["<image>"], model_max_length=512)
    text = {**TEXT_SIZES, "model_type": "llama", "num_hidden_layers": 3, "vocab_size": len(tokenizer)}
    text |= {"num_key_value_heads": 2, "max_position_embeddings": 512}
    marker: dict[str, Any] = {"image_token_id": tokenizer.convert_tokens_to_ids("<image>")}
    config = LlavaConfig(
        text_config=text | sizes,
        vision_config={**vision(num_hidden_layers=3), "model_type": "clip_vision_model"},
        **marker,
    )
    processor = LlavaProcessor(
        square(LlavaImageProcessorPil),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    return LlavaForConditionalGeneration(config), processor


def tiny_qwen(**sizes: Any) -> tuple[Any, Any]:
    marks = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    special = {"unk_token": "<|unk|>", "eos_token": "<|end|>", "pad_token": "<|endoftext|>"}
    tokenizer = word_tokenizer(special, additional_special_tokens=marks, model_max_length=512)
    tokenizer.chat_template = QWEN_TEMPLATE
    ids: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in _QWEN_IDS.items()}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = {**TEXT_SIZES, "num_hidden_layers": 3, "vocab_size": len(tokenizer), "num_key_value_heads": 2}
    seen: dict[str, Any] = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 32,
    }
    seen |= {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}
    text |= {"max_position_embeddings": 512, "rope_parameters": rope}
    text |= {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = Qwen2_5_VLConfig(text_config=text | sizes, vision_config=seen, **ids)
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16})
    return Qwen2_5_VLForConditionalGeneration(config), Parts(images, tokenizer)


_QWEN_IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


def tiny_two_stream() -> tuple[Any, Any]:
    labels = dict(enumerate(OPTIONS))
    config = TwoStreamConfig(
        hidden_size=32,
        intermediate_size=48,
        stem_size=8,
        vocab_size=len(WORDS) + 2,
        max_position_embeddings=16,
        id2label=labels,
        label2id={label: i for i, label in labels.items()},
    )
    return TwoStreamForClassification(config), TwoStreamProcessor.for_words(WORDS[:-1], side=32, most_words=16)
