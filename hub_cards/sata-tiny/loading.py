"""Where a SATA checkpoint lies, whether it may be loaded, and on what it runs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, errors, snapshot_download
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from torch.nn import functional
from transformers import AttentionInterface

from .errors import TrackingError
from .modeling_sata import SataModel

WEIGHTS = "model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_PATTERNS = ("*.json", "*.safetensors")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")
_CARDS = Path(__file__).resolve().parents[2] / "hub_cards"  # only in a checkout of the suite
_ALLOWED = "a folder that save_pretrained wrote, such as 'hub_cards/sata-tiny', or 'owner/name' on the Hub"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_DTYPES |= {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_ATTENTIONS = ("auto", "sdpa", "eager", "xformers", "flash_attention_2", "flash_attention_3")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that may be loaded: safetensors, of a SATA model.

    Attributes:
        source: as it was asked for. folder: where its files are now.
        revision: commit on the Hub; None for a folder.
    """

    source: str
    folder: Path
    revision: str | None = None


@dataclass(frozen=True)
class Attention:
    """What computes attention: the backend, one clause on why, and what was asked for."""

    backend: str
    reason: str
    requested: str = "auto"

    def as_dict(self) -> dict[str, str]:
        """As a run record holds it."""
        return asdict(self)


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
        TrackingError: there is no such checkpoint, it is no SATA model, or its weights are not safetensors.
    """
    name = os.fspath(repo_or_folder)
    folder, commit = _find_folder(name), None
    if folder is not None and revision is not None:
        raise TrackingError(f"revision {revision!r} was given for the folder {folder}, which has none: drop it")
    if folder is None:
        folder = _download(name, revision, local_files_only, cache_dir, token)
        commit = folder.name
    _check_kind(folder)
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
        raise TrackingError(f"there is no checkpoint folder {name[:200]!r}: give {_ALLOWED}")
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
        raise TrackingError(f"there is no checkpoint {name[:200]!r}: give {_ALLOWED}") from error
    if revision is not None and (".." in revision or not _REVISION.fullmatch(revision)):
        raise TrackingError(f"revision is {revision!r}: give a branch, a tag or a commit of {name}")
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
        raise TrackingError(
            f"{name} cannot be fetched ({why[:200]}): check the name, run 'hf download {name}' where there is a "
            "network, or give a folder"
        ) from error
    return Path(found)


def _check_kind(folder: Path) -> None:
    kind = _read(folder / "config.json").get("model_type")
    if kind != "sata":
        raise TrackingError(f"{folder} holds a model of type {str(kind)[:40]!r}, not 'sata': give {_ALLOWED}")


def _check_weights(folder: Path) -> None:
    index = folder / f"{WEIGHTS}.index.json"
    if index.is_file():
        weights = _read(index).get("weight_map")
        shards = set(weights.values()) if isinstance(weights, dict) else {None}
        lost = [str(name) for name in shards if name != os.path.basename(str(name)) or not (folder / name).is_file()]
        if lost:
            raise TrackingError(f"{index} names {lost[0][:100]!r}, which is not there: download the checkpoint again")
        return
    if (folder / WEIGHTS).is_file():
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _PICKLES)
    if pickles:
        raise TrackingError(
            f"{folder} holds pickle weights ({', '.join(pickles[:3])}) and no {WEIGHTS}: a pickle can run code when "
            "it is loaded and is not accepted; convert it where you trust it, with save_pretrained"
        )
    raise TrackingError(f"{folder} holds no {WEIGHTS}: download the checkpoint again")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TrackingError(f"{path.parent} holds no {path.name}: give {_ALLOWED}") from error
    except (ValueError, RecursionError) as error:
        raise TrackingError(f"{path} is not JSON: download the checkpoint again") from error
    if not isinstance(found, dict):
        raise TrackingError(f"{path} is not a JSON object: download the checkpoint again")
    return found


def resolve_device(device: str | int | torch.device | None) -> torch.device:
    """The device of that name; None and "auto" take CUDA, then MPS, then the CPU.

    Raises:
        TrackingError: it is not here.
    """
    if device is None or device == "auto":
        here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        device = next((name for name, found in here.items() if found), "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise TrackingError(f"device {str(device)!r} cannot be used here: choose 'auto', 'cpu' or 'cuda'") from error


def resolve_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """The number format of that name; None and "auto" take float32, in which a small model is as fast.

    Raises:
        TrackingError: it is not one.
    """
    if dtype is None or dtype == "auto":
        return torch.float32
    found = _DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise TrackingError(f"dtype is {dtype!r}: choose 'auto', 'fp32', 'bf16' or 'fp16'")
    return found


def choose_attention(requested: str, device: torch.device, dtype: torch.dtype = torch.float32) -> Attention:
    """Which of transformers' attention functions the encoder uses.

    "auto" is SDPA everywhere: the windows are small, and SDPA takes the flash kernel on CUDA by itself.

    Raises:
        TrackingError: an unknown name, or one that cannot work here.
    """
    if requested not in _ATTENTIONS:
        raise TrackingError(f"attention {requested!r} is unknown: choose one of {', '.join(_ATTENTIONS)}")
    if requested == "auto":
        return Attention("sdpa", "windows are small, and SDPA takes the fastest kernel of torch by itself")
    failure = None
    if requested == "xformers":
        failure = _xformers_failure(device, dtype)
        AttentionInterface.register("xformers", _xformers_attention)
    elif requested.startswith("flash"):
        package = "flash_attn" if requested.endswith("2") else "flash_attn_3"
        if device.type != "cuda" or importlib.util.find_spec(package) is None:
            failure = f"it needs CUDA and the package {package}"
    if failure is not None:
        raise TrackingError(f"attention {requested!r} cannot be used on {device}: {failure}; choose 'sdpa' or 'auto'")
    return Attention(requested, "asked for", requested)


def _xformers_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' AttentionInterface: [B, H, S, D] in, [B, S, H, D] out; the encoder passes no masks."""
    if attention_mask is not None:
        raise TrackingError("this xformers attention takes no masks: choose attention='sdpa'")
    operations = importlib.import_module("xformers.ops")
    parts = (part.transpose(1, 2).contiguous() for part in (query, key, value))
    return operations.memory_efficient_attention(*parts, scale=scaling), None


def _xformers_failure(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why xformers cannot be used here, found by running it beside SDPA; None when they agree."""
    if importlib.util.find_spec("xformers") is None:
        return "xformers is not installed"
    generator = torch.Generator().manual_seed(0)  # of its own: the caller's seeded stream must not move
    query, key, value = (torch.randn(2, 2, 64, 48, generator=generator).to(device, dtype) for _ in range(3))
    try:
        found, _ = _xformers_attention(None, query, key, value, None)
    # A backend fails in many ways (missing library, no kernel, unsupported GPU): all mean "not here".
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    truth = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    deviation = float((found.float() - truth.float()).abs().max())
    return (
        None if deviation < (5e-3 if dtype == torch.float32 else 3e-2) else f"it differs from SDPA by {deviation:.3g}"
    )


def load_model(found: Checkpoint, dtype: torch.dtype, attention: Attention) -> SataModel:
    """The model with every weight of it loaded.

    Raises:
        TrackingError: weights are damaged, missing, left over or of another shape than the config says.
    """
    try:
        loaded: Any = SataModel.from_pretrained(
            found.folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            attn_implementation=attention.backend,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise TrackingError(
            f"{found.source} cannot be loaded ({' '.join(str(error).split())[:300]}): download the checkpoint again"
        ) from error
    model, report = loaded
    wrong = [key for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in report[kind]]
    if wrong:
        raise TrackingError(
            f"{found.source} does not fit its own config: {len(wrong)} weights are missing, left over or of another "
            f"shape, {str(sorted(map(str, wrong))[0])!r} for one: download the checkpoint again"
        )
    return model


def peak_memory(device: torch.device) -> int | None:
    """High-water mark so far, bytes: of the accelerator, or of the process; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        resource = importlib.import_module("resource")
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
