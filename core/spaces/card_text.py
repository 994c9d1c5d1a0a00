"""A card's front matter as data, and the checks that Space cards and model cards share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from core.errors import InputError

# As huggingface_hub.repocard finds it: a block between two lines of dashes, at the very beginning.
_BLOCK = re.compile(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\n|$))")
_ARXIV = re.compile(r"\d{4}\.\d{4,5}")


def split_card(text: str) -> tuple[dict[str, Any], str]:
    """The front matter and the text under it.

    Raises:
        InputError: there is no front matter, or it is not a YAML mapping.
    """
    import yaml

    block = _BLOCK.match(text)
    if block is None:
        raise InputError("The card has no front matter: begin it with a YAML block between two lines of '---'.")
    try:
        document = yaml.safe_load(block[2])
    except yaml.YAMLError as error:
        where = str(error).splitlines()
        raise InputError(f"The card's front matter is not YAML ({where[0]}): correct it.") from error
    if not isinstance(document, dict):
        raise InputError("The card's front matter is not a mapping: write one 'key: value' a line.")
    return {str(key): value for key, value in document.items()}, text[block.end() :]


def front_matter_source(text: str) -> str:
    """The YAML of the front matter as it is written, comments too; "" where there is none."""
    block = _BLOCK.match(text)
    return block[2] if block else ""


def one_of(document: Mapping[str, Any], key: str, allowed: tuple[str, ...] | frozenset[str]) -> Iterator[str]:
    """A problem where the key is there and its value is not among the allowed ones."""
    value = document.get(key)
    if value is None or (isinstance(value, str) and value in allowed):
        return
    near = get_close_matches(str(value), sorted(allowed), n=3)
    if len(allowed) <= 12:
        hint = f"use one of {', '.join(allowed)}"
    else:
        hint = f"did you mean {' or '.join(near)}?" if near else "take one from the Hub's list"
    yield f"{key} is {value!r}: {hint}"


def text_list(document: Mapping[str, Any], key: str) -> Iterator[str]:
    """A problem where the key is there and is not a list of different, non-empty texts."""
    value = document.get(key)
    if value is None:
        return
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        yield f"{key} is not a list of words: write one '- word' a line"
    elif len(set(value)) < len(value):
        twice = sorted({item for item in value if value.count(item) > 1})
        yield f"{key} has {', '.join(twice)} twice: name each once"


def repository_ids(document: Mapping[str, Any], key: str) -> Iterator[str]:
    """A problem for every value of the key that cannot be a repository's id; a single text is taken as a list."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    value = document.get(key)
    if value is None:
        return
    for item in value if isinstance(value, list) else [value]:
        try:
            validate_repo_id(item)
            owned = item.count("/") == 1
        except HFValidationError:
            owned = False
        if not owned:
            yield f"{key} names {item!r}, which is not an id: write owner/name"


def tag_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """Problems of the tags, those that name a paper included."""
    yield from text_list(document, "tags")
    tags = document.get("tags")
    for tag in tags if isinstance(tags, list) else []:
        if isinstance(tag, str) and tag.startswith("arxiv:") and not _ARXIV.fullmatch(tag.removeprefix("arxiv:")):
            yield f"tag {tag!r} names no paper: write arxiv:2511.12345"


def license_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """Problems of the licence; "other" has to be named."""
    from core.spaces.hub_terms import LICENSES

    value = document.get("license")
    for item in value if isinstance(value, list) else [value]:
        yield from one_of({"license": item}, "license", LICENSES)
    if value == "other" and not document.get("license_name"):
        yield "license is 'other' and has no name: add license_name, and license_link or a file LICENSE"


def refuse(what: str, problems: tuple[str, ...]) -> None:
    """Raise InputError that lists every problem; nothing where there is none."""
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise InputError(f"{what} would be refused or misread by the Hub:\n{listed}")
