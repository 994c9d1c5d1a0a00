"""Where a checkpoint of Qwen2.5-VL's kind lies, whether it may be loaded, and on what it runs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, errors, snapshot_download
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText

from .errors import UIActionInputError

WEIGHTS = "model.safetensors"
KINDS = ("qwen2_5_vl",)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_PATTERNS = ("*.json", "*.jinja", "*.safetensors", "merges.txt")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")
_CARDS = Path(__file__).resolve().parents[2] / "hub_cards"  # only in a checkout of the suite
_ALLOWED = (
    "a folder such as 'hub_cards/ui-action-tiny', or 'owner/name' on the Hub, such as 'ByteDance-Seed/UI-TARS-1.5-7B'"
)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_DTYPES |= {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that may be loaded: safetensors, of a model of Qwen2.5-VL's kind.

    Attributes:
        source: as it was asked for. folder: where its files are now.
        revision: commit on the Hub; None for a folder.
    """

    source: str
    folder: Path
    revision: str | None = None


def find_checkpoint(
    repo_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
) -> Checkpoint:
    """Find it here or on the Hub, and check it before anything of it is loaded. No code of it is run.

    Raises:
        UIActionInputError: there is no such checkpoint, it is of another kind, or its weights are not safetensors.
    """
    name = os.fspath(repo_or_folder)
    folder, commit = _find_folder(name), None
    if folder is not None and revision is not None:
        raise UIActionInputError(f"revision {revision!r} was given for the folder {folder}, which has none: drop it")
    if folder is None:
        folder = _download(name, revision, local_files_only, cache_dir, token)
        commit = folder.name
    kind = _read(folder / "config.json").get("model_type")
    if kind not in KINDS:
        raise UIActionInputError(f"{name} holds a model of type {str(kind)[:40]!r}, not {KINDS[0]!r}: give {_ALLOWED}")
    _check_weights(folder)
    return Checkpoint(name, folder, commit)


def _find_folder(name: str) -> Path | None:
    # os.path, unlike Path, answers False for names that no file system takes (too long, a NUL).
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return Path(path).resolve()
    card = name.removeprefix("hub_cards/")
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", card) and os.path.isdir(_CARDS / card):
        return _CARDS / card
    looks_local = os.path.isabs(path) or os.path.isfile(path) or name.startswith((".", "~", "hub_cards/"))
    if looks_local or name.count("/") > 1:
        raise UIActionInputError(f"there is no checkpoint folder {name[:200]!r}: give {_ALLOWED}")
    return None


def _download(
    name: str,
    revision: str | None,
    local_files_only: bool,
    cache_dir: str | os.PathLike[str] | None,
    token: str | bool | None,
) -> Path:
    try:
        validate_repo_id(name)
    except errors.HFValidationError as error:
        raise UIActionInputError(f"there is no checkpoint {name[:200]!r}: give {_ALLOWED}") from error
    if revision is not None and (".." in revision or not _REVISION.fullmatch(revision)):
        raise UIActionInputError(f"revision is {revision!r}: give a branch, a tag or a commit of {name}")
    offline = local_files_only or constants.HF_HUB_OFFLINE
    try:
        found = snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(_PATTERNS),
            local_files_only=offline,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            token=token,
        )
    except (errors.HfHubHTTPError, OSError) as error:
        why = "local_files_only or HF_HUB_OFFLINE forbids downloading it" if offline else " ".join(str(error).split())
        raise UIActionInputError(
            f"{name} cannot be fetched ({why[:200]}): check the name, run 'hf download {name}' where there is a "
            "network, or give a folder"
        ) from error
    return Path(found)


def _check_weights(folder: Path) -> None:
    index = folder / f"{WEIGHTS}.index.json"
    if index.is_file():
        weights = _read(index).get("weight_map")
        shards = set(weights.values()) if isinstance(weights, dict) else {None}
        lost = [str(name) for name in shards if name != os.path.basename(str(name)) or not (folder / name).is_file()]
        if lost:
            raise UIActionInputError(
                f"{index} names {lost[0][:100]!r}, which is not there: download the checkpoint again"
            )
        return
    if (folder / WEIGHTS).is_file():
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _PICKLES)
    if pickles:
        raise UIActionInputError(
            f"{folder} holds pickle weights ({', '.join(pickles[:3])}) and no {WEIGHTS}: a pickle can run code when "
            "it is loaded and is not accepted; convert it where you trust it, with save_pretrained"
        )
    raise UIActionInputError(f"{folder} holds no {WEIGHTS}: download the checkpoint again")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UIActionInputError(f"{path.parent} holds no {path.name}: give {_ALLOWED}") from error
    except (ValueError, RecursionError) as error:
        raise UIActionInputError(f"{path} is not JSON: download the checkpoint again") from error
    if not isinstance(found, dict):
        raise UIActionInputError(f"{path} is not a JSON object: download the checkpoint again")
    return found


def resolve_device(device: str | int | torch.device | None) -> torch.device:
    """The device of that name; None and "auto" take CUDA, then MPS, then the CPU.

    Raises:
        UIActionInputError: it is not here.
    """
    if device is None or device == "auto":
        here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        device = next((name for name, found in here.items() if found), "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise UIActionInputError(
            f"device {str(device)!r} cannot be used here: choose 'auto', 'cpu' or 'cuda'"
        ) from error


def resolve_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The number format of that name; None and "auto" take bfloat16 on an accelerator and float32 on a CPU.

    Raises:
        UIActionInputError: it is not one.
    """
    if dtype is None or dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    found = _DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise UIActionInputError(f"dtype is {dtype!r}: choose 'auto', 'fp32', 'bf16' or 'fp16'")
    return found


def load_model(found: Checkpoint, dtype: torch.dtype, device: torch.device, *, four_bit: bool = False) -> Any:
    """The model with every weight of it loaded, on its device.

    Args:
        four_bit: NF4 of bitsandbytes, on CUDA only: 7B then needs about 8 GB.

    Raises:
        UIActionInputError: weights are damaged, missing, left over or of another shape than the config says; or four
            bits where they cannot be had.
    """
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "local_files_only": True}
    if four_bit:
        options |= {"quantization_config": _four_bits(device, dtype), "device_map": {"": device}}
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            found.folder, attn_implementation="sdpa", output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise UIActionInputError(
            f"{found.source} cannot be loaded ({' '.join(str(error).split())[:300]}): download the checkpoint again"
        ) from error
    model, report = loaded
    wrong = [key for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in report[kind]]
    if wrong:
        raise UIActionInputError(
            f"{found.source} does not fit its own config: {len(wrong)} weights are missing, left over or of another "
            f"shape, {str(sorted(map(str, wrong))[0])!r} for one: download the checkpoint again"
        )
    return (model if four_bit else model.to(device)).eval()


def _four_bits(device: torch.device, dtype: torch.dtype) -> Any:
    if device.type != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        raise UIActionInputError(
            "four_bit needs CUDA and the package bitsandbytes: install it, or load without four_bit"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
