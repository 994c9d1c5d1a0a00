"""Files of a saved pipeline or a model: from a folder, the Hub's cache, or the Hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, constants, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from .errors import AttributionInputError

CONFIG_FILE = "config.json"
SETTINGS_FILE = "attribution.json"
LARGEST_CONFIG = 5_000_000  # bytes


@dataclass(frozen=True)
class Source:
    """Where a checkpoint is to come from; the fields are those of `hf_hub_download`."""

    repo_or_folder: str
    revision: str | None = None
    cache_dir: str | Path | None = None
    force_download: bool = False
    local_files_only: bool = False
    token: str | bool | None = None

    def file(self, name: str) -> Path | None:
        """The file of that name, or None where there is none.

        Raises:
            LocalEntryNotFoundError: it may be on the Hub, which cannot be reached.
        """
        folder = Path(self.repo_or_folder)
        if folder.is_dir():
            return folder / name if (folder / name).is_file() else None
        try:
            return Path(
                hf_hub_download(
                    self.repo_or_folder,
                    name,
                    revision=self.revision,
                    cache_dir=self.cache_dir,
                    force_download=self.force_download,
                    local_files_only=self.local_files_only,
                    token=self.token,
                )
            )
        except LocalEntryNotFoundError:
            known = try_to_load_from_cache(self.repo_or_folder, name, cache_dir=self.cache_dir, revision=self.revision)
            if known is _CACHED_NO_EXIST:  # the repository is here, and has no such file
                return None
            raise
        except EntryNotFoundError:
            return None

    def folder(self, name: str) -> Path | None:
        """The folder of that name with its files, or None where it has none."""
        found = Path(self.repo_or_folder)
        if not found.is_dir():
            found = Path(
                snapshot_download(
                    self.repo_or_folder,
                    revision=self.revision,
                    cache_dir=self.cache_dir,
                    force_download=self.force_download,
                    local_files_only=self.local_files_only,
                    token=self.token,
                    allow_patterns=[f"{name}/*.json", f"{name}/*.safetensors"],
                )
            )
        return found / name if (found / name).is_dir() else None

    def file_if_here(self, name: str) -> Path | None:
        """As `file`, but None too where it may be on the Hub and that cannot be reached."""
        try:
            return self.file(name)
        except LocalEntryNotFoundError:
            return None

    def settings(self, name: str) -> dict[str, Any]:
        """A JSON object, empty where there is no such file here."""
        path = self.file_if_here(name)
        if path is None:
            return {}
        try:
            if path.stat().st_size > LARGEST_CONFIG:
                raise ValueError("it is too large")
            found = json.loads(path.read_text("utf-8"))
            if not isinstance(found, dict):
                raise ValueError("it is no object")
            return found
        except (ValueError, OSError) as error:
            raise AttributionInputError(f"{name} of {self.repo_or_folder} cannot be read ({error})") from error

    def model_type(self) -> str | None:
        """Of a transformers model that lies there; None for a pipeline's own folder.

        Raises:
            LocalEntryNotFoundError: the Hub cannot be reached, which is not asked file after file.
        """
        if not (self.local_files_only or constants.HF_HUB_OFFLINE):
            self.file(CONFIG_FILE)
        found = self.settings(CONFIG_FILE).get("model_type")
        return found if isinstance(found, str) else None
