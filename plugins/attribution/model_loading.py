"""A vision-language checkpoint of a known family, from a folder or the Hub: safetensors only, no code of it is run."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
from transformers.utils.hub import cached_file

from .errors import AttributionInputError
from .families import FAMILIES, TwoStreamFamily
from .files import some
from .modeling_two_stream import TwoStreamForClassification
from .processing_two_stream import TwoStreamImageProcessor

_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_DTYPES |= {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FAILURES = (OSError, ValueError, RuntimeError, TypeError, KeyError, ImportError, SafetensorError)


@dataclass(frozen=True)
class Parts:
    """What a processor is made of. Some of transformers' own need torchvision for videos; its parts do not.

    Attributes:
        image_processor: of transformers, with Pillow.
        tokenizer: of the same checkpoint.
        chat_template: Jinja; None where the checkpoint has none.
    """

    image_processor: Any
    tokenizer: Any
    chat_template: str | None = None


def load_for_capture(
    folder_or_id: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    attention: str | None = None,
) -> tuple[Any, Parts]:
    """A model in evaluation mode and its processor's parts.

    Args:
        folder_or_id: a folder that save_pretrained wrote, or "owner/name" on the Hub.
        device: None and "auto" take CUDA, then MPS, then the CPU.
        dtype: None and "auto" take bfloat16 on an accelerator and float32 on a CPU.
        revision: branch, tag or commit on the Hub.
        local_files_only: download nothing; HF_HUB_OFFLINE=1 does the same.
        attention: as transformers names implementations, such as "sdpa" or "eager"; None and "auto": its own choice.

    Raises:
        AttributionInputError: no such checkpoint, of no known family, without safetensors, or incomplete.
    """
    name = _checked_name(os.fspath(folder_or_id), revision)
    where, number = _device(device), _dtype(dtype)
    options: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only or constants.HF_HUB_OFFLINE}
    options["trust_remote_code"] = False
    try:
        config: Any = AutoConfig.from_pretrained(name, **options)
        model_class = _class_of(name, config)
        parts = _parts(name, config, options)
        model, report = _model(model_class, name, options, number or _usual(where), attention)
    except AttributionInputError:
        raise
    except _FAILURES as error:
        raise AttributionInputError(
            f"{name} cannot be loaded ({' '.join(str(error).split())[:300]}): give a folder that save_pretrained wrote "
            "or 'owner/name' of a repository with safetensors that can be reached"
        ) from error
    lost = sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in report[kind])
    if lost:
        raise AttributionInputError(
            f"{name} lacks {len(lost)} weights of {model_class.__name__}, such as {lost[0]!r}: give a checkpoint that "
            "was trained to decide, not one of the bare model"
        )
    return model.to(where).eval(), parts


def _checked_name(name: str, revision: str | None) -> str:
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        if revision is not None:
            raise AttributionInputError(f"revision {revision!r} was given for a folder, which has none: drop it")
        return path
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise AttributionInputError(
            f"there is no checkpoint {name[:200]!r}: give a folder, or 'owner/name' on the Hub"
        ) from error
    if os.path.isabs(path) or name.startswith("."):
        raise AttributionInputError(f"there is no checkpoint folder {name[:200]!r}: check the path")
    if revision is not None and (".." in revision or not _REVISION.fullmatch(revision)):
        raise AttributionInputError(f"revision is {revision[:100]!r}: give a branch, a tag or a commit")
    return name


def _class_of(name: str, config: Any) -> Any:
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise AttributionInputError(
            f"{name} holds a model of type {str(config.model_type)[:40]!r}, known are {some(list(FAMILIES))}: load "
            "another kind yourself and describe it with a DescribedFamily"
        )
    if family is TwoStreamFamily:
        return TwoStreamForClassification
    return getattr(transformers, family.title)


def _parts(name: str, config: Any, options: dict[str, Any]) -> Parts:
    """The same images on every machine: Pillow's processors, with torchvision or without."""
    if FAMILIES[config.model_type] is TwoStreamFamily:
        images: Any = TwoStreamImageProcessor.from_pretrained(name, **options)
    else:
        images = AutoImageProcessor.from_pretrained(name, backend="pil", config=config, **options)
    tokenizer: Any = AutoTokenizer.from_pretrained(name, **options)
    return Parts(images, tokenizer, tokenizer.chat_template or _older_template(name, options))


def _older_template(name: str, options: dict[str, Any]) -> str | None:
    """Where processors of transformers 4 kept it."""
    places = {key: options[key] for key in ("revision", "local_files_only")}
    found = cached_file(
        name,
        "chat_template.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **places,
    )
    if not isinstance(found, str):
        return None
    with open(found, encoding="utf-8") as file:
        template = json.load(file).get("chat_template")
    return template if isinstance(template, str) else None


def _model(kind: Any, name: str, options: dict[str, Any], dtype: torch.dtype, attention: str | None) -> Any:
    chosen = {} if attention in (None, "auto") else {"attn_implementation": attention}
    places = {key: options[key] for key in ("revision", "local_files_only")}
    return kind.from_pretrained(name, dtype=dtype, use_safetensors=True, output_loading_info=True, **chosen, **places)


def _device(device: str | torch.device | None) -> torch.device:
    if device is None or device == "auto":
        here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        device = next((name for name, found in here.items() if found), "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise AttributionInputError(
            f"device {str(device)!r} cannot be used here: choose 'auto', 'cpu' or 'cuda'"
        ) from error


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or dtype == "auto":
        return None
    found = _DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise AttributionInputError(f"dtype is {dtype!r}: choose 'auto', 'fp32', 'bf16' or 'fp16'")
    return found


def _usual(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "cpu" else torch.bfloat16
