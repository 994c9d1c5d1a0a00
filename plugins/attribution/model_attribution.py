"""From a captured model to a report: one decomposition for the decision and one for each layer."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from .errors import AttributionInputError
from .fitting import Callback, Fitted, scaled
from .layers import DroppingTest, LayerReading, ModelRecord
from .pinned import LayerTables, PinnedDiscretisers
from .questions import DECISION, Question, ask, ask_again
from .report import AttributionReport

if TYPE_CHECKING:
    from torch import nn

    from .inputs import Streams
    from .model_capture import Captured

Layers = Sequence[str] | Literal["all", "none"]


Fit = Callable[["Streams", Callback], "Fitted"]
Explain = Callable[["Fitted", Callback], AttributionReport]


@dataclass(frozen=True)
class ReadModel:
    """A model whose layers have been read.

    Attributes:
        name: without folders of this machine. family: its family.
        sources_fingerprint: of the parameters that make the two sources. model_fingerprint: of all.
        captured: the pooled rows.
        dropping: the dropping test, where it was asked for.
    """

    name: str
    family: str
    sources_fingerprint: str
    model_fingerprint: str
    captured: Captured
    dropping: DroppingTest | None = None

    def record(self, target: str, seconds_analysing: float) -> ModelRecord:
        timings = self.captured.timings
        return ModelRecord(
            model=self.name,
            family=self.family,
            target=target,
            examples=len(self.captured.decision),
            skipped=tuple((each.name, each.reason) for each in self.captured.skipped),
            seconds_preparing=timings.inputs,
            seconds_in_model=timings.model,
            seconds_pooling=timings.hooks,
            seconds_analysing=seconds_analysing,
            dropping=self.dropping,
        )


def attribute(
    read: ReadModel, fit: Fit, explain_fitted: Explain, *, target: str, layers: Layers, tell: Callback
) -> tuple[AttributionReport, PinnedDiscretisers]:
    """Decompose the decision (or the label) and then each layer.

    Args:
        fit: makes a discretiser and codes of one pair of streams. explain_fitted: decomposes them.
        target: "decision" or "label". layers: names, "all" or "none".
        tell: called with (fraction, message); may raise to stop.
    """
    began = time.perf_counter()
    reports: dict[str, AttributionReport] = {}
    pinned = PinnedDiscretisers.empty(read, target)
    for question, fitted, rest in fit_questions(read, fit, target=target, layers=layers, tell=tell):
        reports[question.name] = explain_fitted(fitted, rest)
        pinned = pinned.adding(question, fitted.discretiser)
    record = read.record(target, time.perf_counter() - began)
    return with_layers(reports, pinned.questions, record), pinned


def fit_questions(
    read: ReadModel, fit: Fit, *, target: str, layers: Layers, tell: Callback
) -> Iterator[tuple[Question, Fitted, Callback]]:
    """Each question with its discretiser and codes, and the progress that is left for it."""
    asked = list(questions(read.captured, target, layers))
    for place, (question, streams) in enumerate(asked):
        part = _within(tell, place / len(asked), (place + 1) / len(asked), question.layer or "the decision")
        yield question, fit(streams, scaled(part, 0.0, 0.6)), scaled(part, 0.6, 1.0)


def count(read: ReadModel, pinned: PinnedDiscretisers, layers: Layers = "all") -> LayerTables:
    """Count a captured model under pinned discretisers; errors as of `same_questions`."""
    return pinned.count(dict(same_questions(read, pinned, layers)))


def same_questions(
    read: ReadModel, pinned: PinnedDiscretisers, layers: Layers = "all"
) -> Iterator[tuple[str, Streams]]:
    """The pinned questions about more data, by name.

    Raises:
        AttributionInputError: the discretisers are another model's, or a layer was not captured.
    """
    asked = [q for q in pinned.questions if q.name == DECISION or layers == "all" or q.layer in layers]
    pinned.check_model(read.sources_fingerprint, read.model_fingerprint, (q.name for q in asked))
    classes = {name: each.classes for name, each in pinned.discretisers.items()}
    for question, streams in ask_again(read.captured, asked, pinned.target, classes):
        yield question.name, streams


def explain(
    tables: LayerTables, pinned: PinnedDiscretisers, explain_counts: Callable[..., AttributionReport], tell: Callback
) -> AttributionReport:
    """A report from tables, however many shards they were merged from.

    Args:
        explain_counts: called with (counts, discretiser, tell).
    """
    asked = [question for question in pinned.questions if question.name in tables.counts]
    if not asked or asked[0].name != DECISION:
        raise AttributionInputError("these tables do not count the decision: count again with the pinned discretisers")
    reports = {}
    for place, question in enumerate(asked):
        part = _within(tell, place / len(asked), (place + 1) / len(asked), question.layer or "the decision")
        reports[question.name] = explain_counts(tables.counts[question.name], pinned.of(question.name), part)
    return with_layers(reports, asked, None)


def questions(captured: Captured, target: str, layers: Layers) -> Iterator[tuple[Question, Streams]]:
    """As `ask`; "none" is the decision alone."""
    return ask(captured, target, () if layers == "none" else layers)


def with_layers(
    reports: Mapping[str, AttributionReport], asked: Iterable[Question], record: ModelRecord | None
) -> AttributionReport:
    """The decision's report with the layers' decompositions in it."""
    layers = tuple(_reading(question, reports[question.name]) for question in asked if question.name != DECISION)
    return replace(reports[DECISION], layers=layers, model=record)


def _reading(question: Question, report: AttributionReport) -> LayerReading:
    probes = tuple(reading.usable_information for reading in report.readings)
    return LayerReading(
        layer=question.layer,
        stream=question.stream,
        depth=question.depth,
        kind=question.kind,
        quantities=report.quantities,
        usable_information=(probes[0], probes[1]) if len(probes) == 2 else None,
        shape=report.shape,
        samples_per_cell=report.samples_per_cell,
        target_entropy=report.target_entropy,
        gap=report.gap,
        discretiser=report.discretiser,
    )


def fingerprint(module: nn.Module, prefixes: Sequence[str] = ("",)) -> str:
    """SHA-256 over names, shapes and values of parameters and buffers whose names begin with one of the prefixes."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, torch.Tensor) and name.startswith(tuple(prefixes)):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _within(tell: Callback, low: float, high: float, what: str) -> Callback:
    return lambda fraction, message: tell(low + (high - low) * fraction, f"{what}: {message}")


def run_parameters(target: str, layers: Layers, options: Sequence[str] | None) -> dict[str, Any]:
    """What the run record keeps of the call."""
    return {"target": target, "layers": layers if isinstance(layers, str) else list(layers), "options": options}
