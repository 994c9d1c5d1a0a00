"""Checkpoints: a folder, one of our own names, or a repository on the Hugging Face Hub.

Only safetensors weights are accepted: a pickle can run code when it is loaded. Nothing is downloaded when
HF_HUB_OFFLINE=1 or `local_files_only` says so.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import InputError, UnavailableError

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
DEFAULT_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.py", "*.md")

_CARDS = Path(__file__).resolve().parents[2] / "hub_cards"
_CARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A revision becomes part of a path in the cache: a branch, tag or commit, and nothing that climbs out.
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")
_CONVERT = (
    "Ask its author for safetensors, or convert it where you trust it: load it once with its own library and "
    "call save_pretrained(folder)."
)


@dataclass(frozen=True)
class ResolvedCheckpoint:
    """Where a checkpoint lies on this machine.

    Attributes:
        path: The folder that holds it.
        repo_id: Its Hub id; None for a folder.
        revision: The Hub commit that was resolved; None for a folder.
    """

    path: Path
    repo_id: str | None = None
    revision: str | None = None


def resolve_checkpoint(
    repo_or_folder: str | Path,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    allow_patterns: Sequence[str] = DEFAULT_PATTERNS,
) -> ResolvedCheckpoint:
    """Find a checkpoint: a folder that exists, else `hub_cards/<name>`, else a Hub repository.

    Args:
        repo_or_folder: "path/to/folder", the name of one of our own checkpoints, or "owner/name" on the Hub.
        revision: Branch, tag or commit on the Hub; "main" when None.
        local_files_only: Use what the Hub cache holds and contact nothing; HF_HUB_OFFLINE=1 does the same.
        allow_patterns: Which files to download; pickles never are.

    Raises:
        InputError: no such folder or repository, a name that cannot be one, or weights that are only pickles.
        UnavailableError: the Hub cannot be reached, access is refused, or files are missing.
    """
    name = str(repo_or_folder)
    folder = _find_folder(name)
    if folder is None:
        return _from_hub(name, revision, local_files_only, allow_patterns)
    if revision is not None:
        raise InputError(f"revision {revision!r} was given for the folder {folder}, which has none; drop it.")
    check_weights(folder)
    return ResolvedCheckpoint(folder)


def _find_folder(name: str) -> Path | None:
    """The local folder that `name` means, or None when it can only be a Hub id."""
    # os.path, unlike Path, answers False for names that no file system takes (too long, a NUL).
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return Path(path).resolve()
    if os.path.isfile(path):
        raise InputError(f"{name!r} is a file; give the folder that holds the checkpoint.")
    card = name.removeprefix("hub_cards/")
    if _CARD_NAME.fullmatch(card) and os.path.isdir(_CARDS / card):
        return _CARDS / card
    if os.path.isabs(path) or name.startswith((".", "~", "hub_cards/")):
        raise InputError(f"There is no checkpoint folder {name[:200]!r}; check the path.")
    return None


def check_weights(folder: Path) -> None:
    """Accept a checkpoint folder only when its weights are safetensors and complete.

    Raises:
        InputError: a folder in it holds pickle weights and no safetensors, or a shard name leaves the folder.
        UnavailableError: a shard that an index names is missing.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    with_safetensors = {path.parent for path in files if path.suffix == ".safetensors"}
    pickles = [path for path in files if path.suffix.lower() in PICKLE_SUFFIXES]
    alone = sorted(str(path.relative_to(folder)) for path in pickles if path.parent not in with_safetensors)
    if alone:
        raise _refuse_pickles(str(folder), alone)
    for index in (path for path in files if path.name.endswith(".safetensors.index.json")):
        _check_shards(index)


def _refuse_pickles(name: str, pickles: Sequence[str]) -> InputError:
    shown = ", ".join(pickles[:3]) + (f" and {len(pickles) - 3} more" if len(pickles) > 3 else "")
    return InputError(
        f"{name} holds pickle weights without safetensors beside them ({shown}). A pickle can run code when "
        f"it is loaded, so only safetensors are accepted. {_CONVERT}"
    )


def _check_shards(index: Path) -> None:
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is not a safetensors index; download the checkpoint again.") from error
    outside = [shard for shard in shards if not isinstance(shard, str) or Path(shard).name != shard]
    if outside:
        raise InputError(f"{index} names the file {outside[0]!r} outside its folder; do not use this checkpoint.")
    missing = sorted(shard for shard in shards if not (index.parent / shard).is_file())
    if missing:
        raise UnavailableError(
            f"{index.parent} is incomplete: {', '.join(missing[:3])} is missing ({len(missing)} of "
            f"{len(shards)} files).",
            "Download it again.",
        )


def is_revision(name: str) -> bool:
    """Whether it can be a branch, a tag or a commit that stays inside the cache."""
    return _REVISION.fullmatch(name) is not None and ".." not in name


def _from_hub(
    repo_id: str, revision: str | None, local_files_only: bool, allow_patterns: Sequence[str]
) -> ResolvedCheckpoint:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(
            f"{repo_id[:200]!r} is neither a folder here nor a Hub id such as 'owner/name'; check it."
        ) from error
    if revision is not None and not is_revision(revision):
        raise InputError(f"{revision!r} is not a revision; give a branch, a tag or a commit hash.")
    offline = local_files_only or constants.HF_HUB_OFFLINE
    try:
        path = snapshot_download(
            repo_id,
            revision=revision,
            local_files_only=offline,
            allow_patterns=list(allow_patterns),
            ignore_patterns=list(_pickle_patterns()),
        )
    except Exception as error:
        raise _explain(error, repo_id, revision, local_files_only) from error
    folder = Path(path)
    if not offline and not any(folder.rglob("*.safetensors")):
        _refuse_pickles_on_hub(repo_id, folder.name)
    check_weights(folder)
    return ResolvedCheckpoint(folder, repo_id, folder.name)


def _pickle_patterns() -> Iterator[str]:
    for suffix in PICKLE_SUFFIXES:
        yield from (f"*{suffix}", f"*{suffix.upper()}")


def _refuse_pickles_on_hub(repo_id: str, revision: str) -> None:
    """A repository that gave no safetensors may hold only pickles, which were not downloaded: say so."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().list_repo_files(repo_id, revision=revision)
    except Exception:
        return  # the cache answered because the network is down: nothing more can be learned
    pickles = [name for name in files if name.lower().endswith(PICKLE_SUFFIXES)]
    if pickles:
        raise _refuse_pickles(repo_id, pickles)


def _explain(error: Exception, repo_id: str, revision: str | None, local_files_only: bool) -> Exception:
    """The Hub's error in our words; an error that is not the Hub's is given back as it is."""
    from huggingface_hub import constants, errors

    what = repo_id if revision is None else f"{repo_id} at {revision!r}"
    if isinstance(error, errors.GatedRepoError):
        return UnavailableError(
            f"{repo_id} asks for its terms to be accepted.",
            f"Accept them at https://huggingface.co/{repo_id}, then run 'hf auth login'.",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"The Hub has no model {repo_id!r} that you can see; check the spelling, or run 'hf auth login' "
            "if it is private."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"{repo_id} has no revision {revision!r}; give a branch, a tag or a commit hash.")
    if isinstance(error, errors.LocalEntryNotFoundError):
        if local_files_only or constants.HF_HUB_OFFLINE:
            asked = "local_files_only" if local_files_only else "HF_HUB_OFFLINE=1"
            return UnavailableError(
                f"{what} is not complete in the Hub cache ({constants.HF_HUB_CACHE}), and {asked} forbids "
                "downloading it.",
                f"Run 'hf download {repo_id}' where there is a network, or give a folder.",
            )
        return UnavailableError(
            f"{what} is not in the Hub cache and the Hub cannot be reached.",
            "Check the network connection, or give a folder.",
        )
    network = isinstance(error, (errors.HfHubHTTPError, OSError)) or type(error).__module__.startswith("httpx")
    if network:
        return UnavailableError(f"Fetching {what} failed: {error}.", "Try again later, or give a folder.")
    return error
