"""What a Space's README has to say for the platform to run it, checked before anything is uploaded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from core.errors import InputError
from core.spaces.card_text import license_problems, one_of, refuse, repository_ids, split_card, tag_problems
from core.spaces.hub_terms import COLOURS, HEADERS, MAX_SHORT_DESCRIPTION, SDKS, SPACE_KEYS, hardware_names

REQUIRED = ("title", "emoji", "colorFrom", "colorTo", "sdk")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_PYTHON = re.compile(r"3\.\d{1,2}(\.\d{1,2})?")
_DURATION = re.compile(r"\d+(s|m|h)")
_JOINER, _VARIATION = "\u200d", "\ufe0f"
_KEYCAP = re.compile("[0-9#*]\ufe0f?\u20e3")
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]{2}")
_SKIN = re.compile("[\U0001f3fb-\U0001f3ff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceCard:
    """The front matter of a Gradio Space; making one checks it.

    Attributes:
        title: name on the Space's card.
        emoji: one emoji.
        color_from: first colour of the gradient behind it, of `COLOURS`.
        color_to: second colour.
        sdk_version: a whole version of gradio, as X.Y.Z.
        python_version: as 3.Y or 3.Y.Z.
        short_description: at most 60 characters.
        app_file: what the platform runs, relative to the Space's folder.
        license: id from the Hub's list.
        suggested_hardware: what a copy of the Space should run on.
        models: ids of the model repositories that it uses, owner/name.
        tags: words that describe it.
        pinned: whether it stays on top of its owner's profile.
    """

    title: str
    emoji: str
    color_from: str
    color_to: str
    sdk_version: str
    python_version: str
    short_description: str
    app_file: str = "app.py"
    license: str = "apache-2.0"
    suggested_hardware: str = "cpu-basic"
    models: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    pinned: bool = False

    def __post_init__(self) -> None:
        refuse(f"The card of the Space {self.title!r}", space_problems(self.to_dict()))

    def to_dict(self) -> dict[str, Any]:
        """The front matter in the Hub's spelling, without what is empty."""
        document = {
            "title": self.title,
            "emoji": self.emoji,
            "colorFrom": self.color_from,
            "colorTo": self.color_to,
            "sdk": "gradio",
            "sdk_version": self.sdk_version,
            "python_version": self.python_version,
            "app_file": self.app_file,
            "short_description": self.short_description,
            "license": self.license,
            "models": list(self.models),
            "tags": list(self.tags),
            "suggested_hardware": self.suggested_hardware,
            "pinned": self.pinned,
        }
        return {key: value for key, value in document.items() if value != []}

    def to_text(self, body: str) -> str:
        """A README: the front matter, then the body."""
        from huggingface_hub.utils import yaml_dump

        return f"---\n{yaml_dump(self.to_dict(), sort_keys=False)}---\n\n{body.strip()}\n"

    @classmethod
    def from_text(cls, text: str) -> SpaceCard:
        """The card that a README begins with. Raises InputError with everything that is wrong with it."""
        document, _ = split_card(text)
        refuse("This README", space_problems(document))
        missing = {"sdk_version", "python_version", "short_description"} - document.keys()
        if missing or document["sdk"] != "gradio":
            raise InputError(f"This README is not that of a Gradio Space: add {', '.join(sorted(missing)) or 'sdk'}.")
        kept = ("title", "emoji", "sdk_version", "python_version", "short_description")
        optional = ("app_file", "license", "suggested_hardware", "pinned")
        return cls(
            color_from=document["colorFrom"],
            color_to=document["colorTo"],
            models=tuple(document.get("models") or ()),
            tags=tuple(document.get("tags") or ()),
            **{key: document[key] for key in kept},
            **{key: document[key] for key in optional if key in document},
        )


def check_space(folder: Path, *, gradio: str | None = None) -> None:
    """Check the README of a folder that is to be a Space.

    Args:
        folder: holds README.md and the app.
        gradio: the versions of gradio that the app works with, such as ">=6.28,<7".

    Raises:
        InputError: lists every problem.
    """
    readme = folder / "README.md"
    if not readme.is_file():
        raise InputError(f"{folder} has no README.md, which a Space begins with: build it again.")
    document, _ = split_card(readme.read_text(encoding="utf-8"))
    app = document.get("app_file")
    files = [app] if isinstance(app, str) and (folder / app).is_file() else []
    refuse(f"{readme.name} of {folder.name}", space_problems(document, files=files, gradio=gradio))


def space_problems(
    document: Mapping[str, Any], *, files: Collection[str] | None = None, gradio: str | None = None
) -> tuple[str, ...]:
    """Everything in a Space's front matter that the Hub refuses, ignores or misreads.

    Args:
        document: the front matter.
        files: the paths in the Space's repository; None leaves out whether those that are named are there.
        gradio: the versions of gradio that the app works with, such as ">=6.28,<7".
    """
    return (
        *_missing(document),
        *_unknown(document),
        *_words(document),
        *_versions(document, gradio),
        *_files(document, files),
        *_lists(document),
    )


def is_one_emoji(text: str) -> bool:
    """Whether the text is a single emoji, joined ones (families, professions), flags and keycaps included."""
    if _KEYCAP.fullmatch(text) or _FLAG.fullmatch(text):
        return True
    return bool(text) and all(_is_element(part) for part in text.split(_JOINER))


def _is_element(part: str) -> bool:
    """One symbol, perhaps with a skin tone or the sign that asks for its coloured form."""
    symbol, rest = part[:1], part[1:].replace(_VARIATION, "", 1)
    if not symbol or (rest and not _SKIN.fullmatch(rest)) or _FLAG.match(symbol * 2):
        return False
    # Arrows and a few signs are mathematical or punctuation; they are emoji in their coloured form only.
    return unicodedata.category(symbol) == "So" or (_VARIATION in part and unicodedata.category(symbol) in ("Sm", "Po"))


def _missing(document: Mapping[str, Any]) -> Iterator[str]:
    for key in (*REQUIRED, *(("sdk_version", "app_file") if document.get("sdk") == "gradio" else ())):
        if document.get(key) in (None, ""):
            yield f"{key} is missing"


def _unknown(document: Mapping[str, Any]) -> Iterator[str]:
    for key in document:
        if key == "hardware":
            yield "hardware has no effect: write suggested_hardware, and choose the hardware in the Space's settings"
        elif key not in SPACE_KEYS:
            near = get_close_matches(key, sorted(SPACE_KEYS), n=1)
            yield f"{key} is no key that a Space has" + (f": did you mean {near[0]}?" if near else "")


def _words(document: Mapping[str, Any]) -> Iterator[str]:
    for key in ("title", "short_description", "emoji", "app_file"):
        value = document.get(key)
        if value is not None and not isinstance(value, str):
            yield f"{key} is {value!r}: write it in quotes"
    emoji = document.get("emoji")
    if isinstance(emoji, str) and emoji and not is_one_emoji(emoji):
        yield f"emoji is {emoji!r}: use exactly one emoji and nothing else"
    for key in ("colorFrom", "colorTo"):
        yield from one_of(document, key, COLOURS)
    yield from one_of(document, "sdk", SDKS)
    yield from one_of(document, "header", HEADERS)
    yield from one_of(document, "suggested_hardware", hardware_names())
    yield from license_problems(document)
    said = document.get("short_description")
    if isinstance(said, str) and len(said) > MAX_SHORT_DESCRIPTION:
        yield f"short_description has {len(said)} characters, limit {MAX_SHORT_DESCRIPTION}: shorten it"
    for key in ("pinned", "fullWidth", "hf_oauth", "disable_embedding"):
        if not isinstance(document.get(key, False), bool):
            yield f"{key} is {document[key]!r}: write true or false"
    timeout = document.get("startup_duration_timeout")
    if timeout is not None and not (isinstance(timeout, str) and _DURATION.fullmatch(timeout)):
        yield f"startup_duration_timeout is {timeout!r}: write it as 30m or 1h"


def _versions(document: Mapping[str, Any], gradio: str | None) -> Iterator[str]:
    python = document.get("python_version")
    if python is not None and not (isinstance(python, str) and _PYTHON.fullmatch(python)):
        # YAML reads 3.10 as the number 3.1.
        yield f'python_version is {python!r}: write it in quotes, as "3.12"'
    version = document.get("sdk_version")
    if version is None or document.get("sdk") != "gradio":
        return
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        yield f"sdk_version is {version!r}: name one release in full, such as 6.31.0"
    elif gradio is not None:
        from packaging.specifiers import SpecifierSet

        if version not in SpecifierSet(gradio):
            yield f"sdk_version is {version}, but the app needs gradio{gradio}: name a release in that range"


def _files(document: Mapping[str, Any], files: Collection[str] | None) -> Iterator[str]:
    app = document.get("app_file")
    if not isinstance(app, str):
        return
    path = PurePosixPath(app)
    if path.is_absolute() or ".." in path.parts:
        yield f"app_file is {app!r}: name a file inside the Space"
    elif files is not None and str(path) not in files:
        yield f"app_file is {app!r}, and there is no such file: write it, or name another"


def _lists(document: Mapping[str, Any]) -> Iterator[str]:
    yield from repository_ids(document, "models")
    yield from repository_ids(document, "datasets")
    yield from tag_problems(document)
    preload = document.get("preload_from_hub")
    for item in preload if isinstance(preload, list) else [] if preload is None else [preload]:
        if not isinstance(item, str) or not 1 <= len(item.split()) <= 3:
            yield f"preload_from_hub has {item!r}: write 'owner/name', then perhaps 'file1,file2' and a commit"
        else:
            yield from repository_ids({"preload_from_hub": item.split()[0]}, "preload_from_hub")
