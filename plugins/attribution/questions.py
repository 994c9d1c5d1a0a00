"""What is asked of a captured model: one question for the decision, and one for each layer.

Two kinds of profile by depth, and the report names which one it shows:

* stream by depth: the target stays, one stream is read at layer l, the other at its modality-pure source. Where
  information of the other modality arrives in the stream, what was unique to the other becomes redundant.
* target by depth: both sources stay, the target is what the model would decide if it stopped at layer l.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .errors import AttributionInputError
from .inputs import MAX_CLASSES, Streams, check_streams

if TYPE_CHECKING:
    from .model_capture import Captured

DECISION = "decision"  # name of the question about the modality-pure sources
OTHER = "other"  # rare answers, merged
RARE = 0.01  # of the examples
Target = Literal["decision", "label"]
Kind = Literal["decision", "stream", "target"]
TARGETS = ("decision", "label")


@dataclass(frozen=True)
class Question:
    """One decomposition.

    Attributes:
        name: "decision", or the layer's name with "@" and the kind: "text.3@stream".
        kind: "decision" (pure sources, target), "stream" (one stream at the layer) or "target" (readout at the layer).
        layer: its name, "" for the decision.
        stream: which stream the layer belongs to, "" for the decision.
        depth: the layer's place in its stream, from 0; -1 for the decision.
    """

    name: str
    kind: Kind
    layer: str = ""
    stream: str = ""
    depth: int = -1


def ask(captured: Captured, target: str, layers: Sequence[str] | Literal["all"]) -> Iterator[tuple[Question, Streams]]:
    """The questions about a captured model with their data, the decision first, then layers in order of depth.

    Args:
        target: "decision" (what the model says) or "label" (what is true).
        layers: names of captured layers, or "all".

    Raises:
        AttributionInputError: no labels where they are the target, one class only, or a layer that was not captured.
    """
    y = merge_rare(target_of(captured, target))
    if len(np.unique(y)) < 2:
        raise AttributionInputError(
            f"the {target} is {y[0] if len(y) else 'nothing'!r} for every example, so nothing can be explained: give "
            "examples with different answers, and check that the options fit the model"
        )
    yield Question(DECISION, "decision"), check_streams(*captured.sources, y, captured.names)
    for question in questions_about(captured, layers):
        at_layer = y if question.kind == "stream" else merge_rare(captured.readouts[question.layer])
        if len(np.unique(at_layer)) > 1:  # a readout that always says the same has no information to split
            yield question, check_streams(*_pair(captured, question), at_layer, captured.names)


def ask_again(
    captured: Captured, asked: Sequence[Question], target: str, classes: Mapping[str, Sequence[str]]
) -> Iterator[tuple[Question, Streams]]:
    """The same questions about more data, however little; answers that are not among the classes are "other".

    Args:
        asked: questions that were asked before. classes: of each one's target, by question name.
    """
    y = target_of(captured, target)
    for question in asked:
        if question.kind == "target" and question.layer not in captured.readouts:
            raise AttributionInputError(f"the readout at {question.layer} was not captured: ask for readouts")
        if question.kind == "stream" and question.layer not in captured.layers:
            raise AttributionInputError(f"the layer {question.layer} was not captured: ask for it")
        answers = captured.readouts[question.layer] if question.kind == "target" else y
        known = [str(name) for name in classes[question.name]]
        if OTHER in known:
            answers = np.where(np.isin(answers, known), answers, OTHER)
        yield question, check_streams(*_pair(captured, question), answers, captured.names, fitted=(None, None))


def questions_about(captured: Captured, layers: Sequence[str] | Literal["all"]) -> Iterator[Question]:
    """A question for each chosen layer, and one for its readout where there is one."""
    wanted = chosen(captured, layers)
    depths: dict[str, int] = {}
    for layer, stream in captured.layer_streams.items():
        depth = depths[stream] = depths.get(stream, -1) + 1
        if layer in wanted and layer in captured.layers:
            yield Question(f"{layer}@stream", "stream", layer, stream, depth)
        if layer in wanted and layer in captured.readouts:
            yield Question(f"{layer}@target", "target", layer, stream, depth)


def chosen(captured: Captured, layers: Sequence[str] | Literal["all"]) -> tuple[str, ...]:
    """The names of the layers that are asked about; unknown ones are refused with the nearest names."""
    known = tuple(captured.layer_streams)
    if layers == "all":
        return known
    if isinstance(layers, str):
        raise AttributionInputError(f'layers is {layers!r}: give "all", or a list of names such as {known[:2]}')
    for name in layers:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
            raise AttributionInputError(f"there is no layer {name!r}: the nearest are {', '.join(near) or 'none'}")
    return tuple(layers)


def target_of(captured: Captured, target: str) -> np.ndarray:
    """What is to be explained, [n] texts."""
    if target not in TARGETS:
        raise AttributionInputError(f"target is {target!r}: choose decision (what the model says) or label")
    if target == "decision":
        return captured.decision
    if captured.label is None:
        raise AttributionInputError("the examples have no labels: give a label with each, or take the decision")
    return captured.label


def merge_rare(answers: np.ndarray) -> np.ndarray:
    """Answers, [n], with what is given in under one in a hundred examples, or beyond the most classes, as "other"."""
    names, index, counts = np.unique(answers.astype(np.str_), return_inverse=True, return_counts=True)
    least = max(2, RARE * len(answers))
    kept = [each for each in np.argsort(-counts, kind="stable")[: MAX_CLASSES - 1] if counts[each] >= least]
    while kept and 0 < len(answers) - counts[kept].sum() < least:  # "other" must not be rare itself
        kept.pop()
    merged = np.full(len(names), OTHER, dtype=object)
    merged[kept] = names[kept]
    return merged.astype(np.str_)[index]


def _pair(captured: Captured, question: Question) -> tuple[np.ndarray, np.ndarray]:
    """Both sources, or one of them and the other stream read at the layer."""
    image, text = captured.sources
    if question.kind != "stream":
        return image, text
    at_layer = captured.layers[question.layer]
    return (at_layer, text) if question.stream == captured.names[0] else (image, at_layer)
