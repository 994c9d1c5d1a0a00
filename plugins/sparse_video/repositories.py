"""Where a checkpoint lies, and whether it is one that may be loaded: a known pipeline, safetensors only.

Published beside the checkpoints, so it stands alone. Errors say what is allowed.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants, errors, hf_hub_download
from huggingface_hub.utils import validate_repo_id

from .errors import SparseVideoInputError
from .families import CLASSES

INDEX = "model_index.json"
OWN_CLASS = "SparseVideoPipeline"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")
_CARDS = Path(__file__).resolve().parents[2] / "hub_cards"  # only in a checkout of the suite
_ALLOWED = (
    f"a folder or repository whose {INDEX} says {OWN_CLASS}, {', '.join(CLASSES)}, such as "
    "'Wan-AI/Wan2.1-T2V-1.3B-Diffusers' or 'hunyuanvideo-community/HunyuanVideo'"
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that may be loaded.

    Attributes:
        source: folder, or repository on the Hub.
        family: its family; None when only its transformer can tell.
        revision: commit on the Hub; None for a folder.
    """

    source: str
    family: str | None
    revision: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it lies here, outside the Hub's cache."""
        return os.path.isdir(self.source)


def find_checkpoint(
    repo_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
) -> Checkpoint:
    """Find it and read its index; of a repository on the Hub nothing else is downloaded yet.

    Raises:
        SparseVideoInputError: there is no such checkpoint, it is of no known family, or it holds pickles only.
    """
    name = os.fspath(repo_or_folder)
    folder = _find_folder(name)
    if folder is None:
        index = _download_index(name, revision, local_files_only, cache_dir, token)
        return Checkpoint(name, _family(name, _read(index)), Path(index).parent.name)
    if revision is not None:
        raise SparseVideoInputError(f"revision {revision!r} was given for the folder {folder}, which has none; drop it")
    if not (folder / INDEX).is_file():
        raise SparseVideoInputError(f"{folder} holds no {INDEX}, so it is no pipeline; give {_ALLOWED}")
    check_weights(folder)
    return Checkpoint(str(folder), _family(name, _read(folder / INDEX)))


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
        raise SparseVideoInputError(f"there is no checkpoint folder {name[:200]!r}; give {_ALLOWED}")
    return None


def check_weights(folder: Path) -> None:
    """Accept a folder only where every folder in it that holds weights holds them as safetensors, all of them.

    Raises:
        SparseVideoInputError: only pickles, or a shard is missing or lies elsewhere.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    safe = {path.parent for path in files if path.suffix == ".safetensors"}
    pickles = sorted(str(path.relative_to(folder)) for path in files if _is_pickle(path) and path.parent not in safe)
    if pickles:
        raise SparseVideoInputError(
            f"{folder} holds pickle weights ({', '.join(pickles[:3])}) and no safetensors beside them; a pickle can "
            "run code when it is loaded, so only safetensors are accepted: convert it where you trust it, with "
            "save_pretrained, or ask its author"
        )
    for index in (path for path in files if path.name.endswith(".safetensors.index.json")):
        shards = set(_read(index).get("weight_map", {}).values())
        lost = sorted(
            str(shard) for shard in shards if Path(shard).name != shard or not (index.parent / shard).is_file()
        )
        if lost:
            raise SparseVideoInputError(f"{index} names {lost[0]!r}, which is not there; download the checkpoint again")


def _is_pickle(path: Path) -> bool:
    return path.suffix.lower() in _PICKLES


def _read(path: str | Path) -> dict[str, Any]:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise SparseVideoInputError(f"{path} is not JSON; download the checkpoint again") from error
    if not isinstance(found, dict):
        raise SparseVideoInputError(f"{path} is not a JSON object; download the checkpoint again")
    return found


def class_name(index: dict[str, Any]) -> str:
    """The pipeline's class; an index for trust_remote_code holds [module, class]."""
    name = index.get("_class_name")
    return str(name[-1] if isinstance(name, list) and name else name)


def _family(name: str, index: dict[str, Any]) -> str | None:
    kind = class_name(index)
    if kind == OWN_CLASS:
        return index.get("family")
    if kind not in CLASSES:
        raise SparseVideoInputError(f"{name[:200]!r} is a {kind}, which is not of a known family; give {_ALLOWED}")
    return CLASSES[kind]


def _download_index(
    name: str,
    revision: str | None,
    local_files_only: bool,
    cache_dir: str | os.PathLike[str] | None,
    token: str | bool | None,
) -> str:
    try:
        validate_repo_id(name)
    except errors.HFValidationError as error:
        raise SparseVideoInputError(f"there is no checkpoint {name[:200]!r}; give {_ALLOWED}") from error
    if revision is not None and (".." in revision or not _REVISION.fullmatch(revision)):
        raise SparseVideoInputError(f"revision is {revision!r}; give a branch, a tag or a commit of {name}")
    offline = local_files_only or constants.HF_HUB_OFFLINE
    try:
        folder = None if cache_dir is None else Path(cache_dir)
        return hf_hub_download(name, INDEX, revision=revision, cache_dir=folder, token=token, local_files_only=offline)
    except Exception as error:
        raise explain(error, name, revision, offline=offline) from error


def explain(error: Exception, name: str, revision: str | None, *, offline: bool) -> Exception:
    """An error of the Hub or of diffusers' download in our words; any other is given back as it is."""
    what = name if revision is None else f"{name} at {revision!r}"
    text = str(error)
    if "safetensors" in text and isinstance(error, OSError):
        return SparseVideoInputError(
            f"{what} has no safetensors for every component ({' '.join(text.split())[:200]}); pickles are not loaded: "
            "ask its author for safetensors"
        )
    if isinstance(error, errors.GatedRepoError):
        return SparseVideoInputError(
            f"{name} asks for its terms to be accepted: accept them at https://huggingface.co/{name}, then run "
            "'hf auth login'"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return SparseVideoInputError(f"the Hub has no model {name!r} that you can see; give {_ALLOWED}")
    if isinstance(error, errors.RevisionNotFoundError):
        return SparseVideoInputError(f"{name} has no revision {revision!r}; give a branch, a tag or a commit")
    if isinstance(error, (errors.LocalEntryNotFoundError, FileNotFoundError)):
        why = "local_files_only or HF_HUB_OFFLINE forbids downloading it" if offline else "the Hub cannot be reached"
        return SparseVideoInputError(
            f"{what} is not complete in the Hub's cache, and {why}: run 'hf download {name}' where there is a network, "
            "or give a folder"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return SparseVideoInputError(f"{what} holds no {INDEX}, so it is no diffusers pipeline; give {_ALLOWED}")
    if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
        return SparseVideoInputError(
            f"{what} cannot be fetched ({' '.join(text.split())[:200]}): try again, or give a folder"
        )
    return error
