"""What a user holds while rectified attention is on: its statistics, its block maps, and the way back."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from .config import RectifiedAttentionConfig
from .executors.choose import ExecutorChoice
from .schedule import Step
from .stats import AttentionStats

if TYPE_CHECKING:
    from .enable import Attachment

# layer, step, query, key, value [batch, heads, tokens, head_dim] in the model's order, text last, and the settings
AttentionCallback = Callable[[int, int, Tensor, Tensor, Tensor, RectifiedAttentionConfig], None]


class AttentionRecord(NamedTuple):
    """One self-attention call: the model's name ("transformer", "transformer_2"), layer and step from 0 (step -1:
    the layer was called outside of the model), cfg_call (see `Step.call`), and what attention did."""

    model: str
    layer: int
    step: int
    cfg_call: int
    stats: AttentionStats


@dataclass(frozen=True)
class HandleStats:
    """Self-attention of the newest run (earlier ones are forgotten).

    Attributes:
        records: one per self-attention call, in order.
        executor: name of the executor of the sparse calls; "dense" where there was none.
        reason: why this executor, or why every call was dense.
    """

    records: tuple[AttentionRecord, ...]
    executor: str
    reason: str

    def summary(self) -> dict[str, Any]:
        """Means over the run, for JSON.

        `density` is over all calls, dense ones counted as 1, so it is what the run really computed; `sparse_density`
        and the other means are over the sparse calls (1, and 0 compensated, where there was none). `fallbacks` counts
        the dense calls by reason, those that the schedule asks for among them.
        """
        return _means(self.records) | {"executor": self.executor, "reason": self.reason}

    def per_layer(self) -> list[dict[str, Any]]:
        """One row per model and layer: `model`, `layer`, and the means as in `summary`."""
        return self._rows(("model", "layer"))

    def per_step(self) -> list[dict[str, Any]]:
        """One row per model and step: `model`, `step`, and the means as in `summary`."""
        return self._rows(("model", "step"))

    def to_dict(self) -> dict[str, Any]:
        """For JSON: summary, rows per layer and per step."""
        return {"summary": self.summary(), "per_layer": self.per_layer(), "per_step": self.per_step()}

    def _rows(self, keys: tuple[str, ...]) -> list[dict[str, Any]]:
        groups: dict[tuple[Any, ...], list[AttentionRecord]] = {}
        for record in self.records:
            groups.setdefault(tuple(getattr(record, key) for key in keys), []).append(record)
        return [dict(zip(keys, group, strict=True)) | _means(records) for group, records in sorted(groups.items())]


def _means(records: Sequence[AttentionRecord]) -> dict[str, Any]:
    sparse = [record.stats for record in records if record.stats.fallback is None]
    reasons = Counter(record.stats.fallback for record in records if record.stats.fallback is not None)

    def mean(values: Iterable[float], default: float) -> float:
        values = list(values)
        return fmean(values) if values else default

    return {
        "calls": len(records),
        "sparse_calls": len(sparse),
        "density": mean((record.stats.density for record in records), 1.0),
        "sparse_density": mean((stats.density for stats in sparse), 1.0),
        "estimated_recall": mean((stats.estimated_recall for stats in sparse), 1.0),
        "rectification_factor": mean((stats.rectification_factor for stats in sparse), 1.0),
        "compensated_share": mean((stats.compensated_share for stats in sparse), 0.0),
        "fallbacks": dict(reasons),
    }


@dataclass(frozen=True)
class _Wanted:
    """Layers and steps that someone asked for; None: all."""

    layers: frozenset[int] | None
    steps: frozenset[int] | None

    @classmethod
    def of(cls, layers: Collection[int] | None, steps: Collection[int] | None) -> _Wanted:
        return cls(None if layers is None else frozenset(layers), None if steps is None else frozenset(steps))

    def __contains__(self, place: tuple[int, int]) -> bool:
        layer, step = place
        return (self.layers is None or layer in self.layers) and (self.steps is None or step in self.steps)


class Recorder:
    """Collects what attention did; shared by the models of one handle."""

    def __init__(self) -> None:
        self.choice: ExecutorChoice | None = None
        self.watched: list[_Wanted] = []
        self.callbacks: list[tuple[_Wanted, AttentionCallback]] = []
        self.reset()

    def reset(self) -> None:
        self.records: list[AttentionRecord] = []
        self.maps: dict[tuple[str, int], np.ndarray] = {}
        self._run = -1

    def start(self, step: Step) -> None:
        """A forward call begins; one of a new run makes the records of the run before it obsolete."""
        if step.run != self._run:
            self.reset()
            self._run = step.run

    def wants_map(self, layer: int, step: Step | None) -> bool:
        return step is not None and step.call == 0 and any((layer, step.index) in wanted for wanted in self.watched)

    def wants_tensors(self, layer: int, step: Step | None) -> list[AttentionCallback]:
        if step is None:
            return []
        return [callback for wanted, callback in self.callbacks if (layer, step.index) in wanted]

    def add(self, model: str, layer: int, step: Step | None, stats: AttentionStats) -> None:
        if stats.block_map is not None:  # kept once per layer: thousands of records would fill the memory
            self.maps[model, layer] = stats.block_map
            stats = dataclasses.replace(stats, block_map=None)
        index, call = (-1, 0) if step is None else (step.index, step.call)
        self.records.append(AttentionRecord(model, layer, index, call, stats))


class RectifiedAttentionHandle:
    """Returned by `enable_rectified_attention`; as a context manager it switches off at the end of the block.

    Attributes:
        config: the settings.
        executor: what was asked for ("auto", ...); `stats()` says what ran, and why.
    """

    def __init__(
        self,
        config: RectifiedAttentionConfig,
        executor: str,
        attachments: Sequence[Attachment],
        recorder: Recorder,
    ) -> None:
        self.config = config
        self.executor = executor
        self._attachments = tuple(attachments)
        self._recorder = recorder
        self._enabled = True

    @property
    def enabled(self) -> bool:
        """Is it on? False after `disable()`."""
        return self._enabled

    def stats(self) -> HandleStats:
        """What self-attention did in the newest run so far; also during a run, and after `disable()`."""
        records, choice = tuple(self._recorder.records), self._recorder.choice
        reasons = Counter(record.stats.fallback for record in records)
        if choice is not None and None in reasons:
            return HandleStats(records, choice.name, choice.reason)
        dense = f"all calls were dense, most often: {reasons.most_common(1)[0][0]}" if reasons else "no call yet"
        return HandleStats(records, "dense", dense)

    def reset(self) -> None:
        """Forget records and block maps; what is watched stays watched."""
        self._recorder.reset()

    def watch(self, layer: int | Collection[int] | None = None, step: int | Collection[int] | None = None) -> None:
        """Keep the map of chosen blocks of these layers at these steps from now on; None: of all.

        Of several steps the newest stays, of two calls under classifier-free guidance the one with the prompt.
        """
        self._recorder.watched.append(_Wanted.of(_collected(layer), _collected(step)))

    def block_map(self, layer: int, model: str | None = None) -> np.ndarray | None:
        """The newest map of a watched layer: float32 [heads, query blocks, key blocks], share of the batch that chose
        the block. None: not watched, or always dense. `model` picks one of two experts; by default the first that
        has a map.
        """
        maps = self._recorder.maps
        names = [attachment.name for attachment in self._attachments] if model is None else [model]
        return next((maps[name, layer] for name in names if (name, layer) in maps), None)

    def on_attention(
        self, callback: AttentionCallback, layers: Collection[int] | None = None, steps: Collection[int] | None = None
    ) -> None:
        """Hand query, key and value of these layers and steps (None: all) to `callback`, dense calls included.

        callback(layer, step, query, key, value, config): tensors [batch, heads, tokens, head_dim] in the model's token
        order, rotary positions applied, text last; they are views, to be copied by whoever keeps them.
        """
        self._recorder.callbacks.append((_Wanted.of(layers, steps), callback))

    def disable(self) -> None:
        """Put everything back as it was: the same processor objects, no hooks. Again does nothing.

        A processor that the user has set in the meantime is left alone.
        """
        for attachment in self._attachments:
            attachment.detach()
        self._enabled = False

    def __enter__(self) -> RectifiedAttentionHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.disable()


def _collected(value: int | Collection[int] | None) -> Collection[int] | None:
    return (value,) if isinstance(value, int) else value
