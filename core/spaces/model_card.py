"""What a model card has to say for the Hub to file the checkpoint where people look for it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import InputError
from core.spaces.card_text import (
    front_matter_source,
    license_problems,
    one_of,
    refuse,
    repository_ids,
    split_card,
    tag_problems,
    text_list,
)
from core.spaces.hub_terms import TASKS

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

RELATIONS = ("finetune", "quantized", "adapter", "merge")
# A checkpoint that fits none of the Hub's tasks says why, as a comment in its front matter.
_NO_TASK = re.compile(r"^#\s*no pipeline_tag:\s*\S.*$", re.MULTILINE)
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]{2,4})?|code|multilingual")
_LIBRARY = re.compile(r"[a-z][a-z0-9._-]*")


def check_model_card(path: Path) -> None:
    """Check a README.md of a model repository, beside the files that it describes.

    Raises:
        InputError: there is no card, or it lists every problem of it.
    """
    if not path.is_file():
        raise InputError(f"There is no card at {path.name}: write one that begins with a YAML block.")
    refuse(f"The card of {path.parent.name}", model_card_problems(path.read_text(encoding="utf-8"), path.parent))


def model_card_problems(text: str, folder: Path | None = None) -> tuple[str, ...]:
    """Everything in a model card's front matter that the Hub refuses, ignores or misreads.

    Args:
        text: the whole card.
        folder: where its checkpoint lies; None leaves out whether the two agree.
    """
    document, _ = split_card(text)
    return (
        *_licence(document),
        *_library(document, folder),
        *_task(document, front_matter_source(text)),
        *_languages(document),
        *tag_problems(document),
        *_origins(document),
        *_results(document),
        *_unfounded(document, folder),
    )


def eval_results(text: str) -> tuple[EvalResult, ...]:
    """The evaluation that a card's `model-index` states, as huggingface_hub reads it.

    Raises:
        InputError: huggingface_hub cannot read it; says what is wrong.
    """
    document, _ = split_card(text)
    problems = tuple(_index_problems(document))
    refuse("The card's model-index", problems)
    return _read_results(document)


def _licence(document: Mapping[str, Any]) -> Iterator[str]:
    if not document.get("license"):
        yield "license is missing: without one nobody may use the checkpoint"
    yield from license_problems(document)


def _library(document: Mapping[str, Any], folder: Path | None) -> Iterator[str]:
    """The Hub does not tell the library from the files: it has to be named."""
    name = document.get("library_name")
    if not name:
        yield "library_name is missing: name what loads the checkpoint, such as transformers or diffusers"
        return
    if not isinstance(name, str) or not _LIBRARY.fullmatch(name):
        yield f"library_name is {name!r}: write one name in lower case"
    elif folder is not None and name in ("diffusers", "transformers"):
        file = {"diffusers": "model_index.json", "transformers": "config.json"}[name]
        if not (folder / file).is_file():
            yield f"library_name is {name}, which cannot load a checkpoint without {file}"


def _task(document: Mapping[str, Any], source: str) -> Iterator[str]:
    if "pipeline_tag" in document:
        yield from one_of({"pipeline_tag": document["pipeline_tag"] or ""}, "pipeline_tag", TASKS)
    elif not _NO_TASK.search(source):
        yield "pipeline_tag is missing: name a task, or say why in a comment, '# no pipeline_tag: the reason'"


def _languages(document: Mapping[str, Any]) -> Iterator[str]:
    value = document.get("language")
    for item in value if isinstance(value, list) else [] if value is None else [value]:
        if not isinstance(item, str) or not _LANGUAGE.fullmatch(item):
            # YAML reads the Norwegian "no" as False.
            yield f"language has {item!r}: write a code such as en, in quotes where YAML would read it as a truth value"


def _origins(document: Mapping[str, Any]) -> Iterator[str]:
    for key in ("base_model", "datasets", "new_version"):
        yield from repository_ids(document, key)
    yield from one_of(document, "base_model_relation", RELATIONS)
    yield from text_list(document, "metrics")


def _results(document: Mapping[str, Any]) -> Iterator[str]:
    problems = tuple(_index_problems(document))
    yield from problems
    if problems:
        return
    seen = set()
    for result in _read_results(document):
        what = f"{result.metric_type} on {result.dataset_name}"
        if result.task_type not in TASKS:
            yield f"model-index: {what} is of the task {result.task_type!r}, which the Hub does not have"
        value = result.metric_value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            yield f"model-index: {what} is {value!r}: write a number"
        key = (*result.unique_identifier, result.metric_name)
        if key in seen:
            yield f"model-index: {what} is stated twice"
        seen.add(key)


def _unfounded(document: Mapping[str, Any], folder: Path | None) -> Iterator[str]:
    """Figures that are not those of the folder's own evaluation.json, in which `args.evaluation` points at each."""
    file = folder / "evaluation.json" if folder else None
    if file is None or not file.is_file() or any(_index_problems(document)):
        return
    measured = json.loads(file.read_text(encoding="utf-8"))
    for result in _read_results(document):
        what = f"{result.metric_name or result.metric_type} on {result.dataset_name}"
        pointer = (result.metric_args or {}).get("evaluation")
        found = _at(measured, pointer)
        if not isinstance(found, int | float):
            yield f"model-index: {what} points at no number in evaluation.json: add args, evaluation: /where/it/is"
        elif not math.isclose(found, result.metric_value, abs_tol=_half_a_digit(result.metric_value)):
            yield f"model-index: {what} is {result.metric_value}, but evaluation.json has {found} at {pointer}"


def _at(document: Any, pointer: object) -> Any:
    """What a JSON pointer (RFC 6901) leads to; None where it leads nowhere."""
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        return None
    for part in pointer[1:].split("/"):
        try:
            document = document[int(part)] if isinstance(document, list) else document[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return document


def _half_a_digit(value: float) -> float:
    """Half of the last decimal that a figure is written with."""
    return 0.5 * 10.0 ** -len(repr(float(value)).partition(".")[2])


def _index_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """Why huggingface_hub cannot read the model-index, if it cannot."""
    if "model-index" not in document:
        return
    try:
        _read_results(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]
        yield f"model-index cannot be read ({missing}): every result needs a task, a dataset and metrics"


def _read_results(document: Mapping[str, Any]) -> tuple[EvalResult, ...]:
    from huggingface_hub.repocard_data import model_index_to_eval_results

    index = document.get("model-index")
    if index is None:
        return ()
    if not isinstance(index, list) or len(index) != 1:
        raise ValueError("it has to be a list of one model")
    return tuple(model_index_to_eval_results(index)[1])
