"""Run a vision-language model over examples and keep, of every layer, one pooled row per example."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from .errors import AttributionInputError
from .examples import Example, Skipped
from .families import Batch, Family, family_of
from .hooks import PooledCapture, Stream, Tap, nearest

Callback = Callable[[float, str], None]
Chosen = Literal["all"] | Sequence[str] | None
READOUT = "readout/"
SOURCE = "source/"
DECISION = "decision/"


@dataclass(frozen=True)
class Timings:
    """Where the time of a capture went.

    Attributes:
        model: seconds in forward passes and decisions, hooks taken out.
        hooks: seconds in hooks and pooling; on an accelerator, of queueing that work and of fetching its results.
        inputs: seconds reading, decoding, tokenising and padding.
        n: examples.
    """

    model: float
    hooks: float
    inputs: float
    n: int


@dataclass(frozen=True)
class Captured:
    """What a model held of each example, pooled.

    Attributes:
        sources: image [n, d1] and text [n, d2], float32, each before it meets the other.
        layers: by key such as "text.3": [n, d], float32, in order of depth.
        layer_streams: whose positions each layer was pooled over. At positions, not of a modality: behind fusion, text
            positions hold the image too.
        decision: [n], what the model chose, texts.
        label: [n], texts; None where an example had none.
        readouts: by layer: [n], what the model's head would choose at that depth.
        names: of the two sources.
        skipped: examples that were left out, and why.
    """

    sources: tuple[np.ndarray, np.ndarray]
    layers: dict[str, np.ndarray]
    layer_streams: dict[str, Stream]
    decision: np.ndarray
    label: np.ndarray | None
    readouts: dict[str, np.ndarray]
    names: tuple[str, str]
    skipped: tuple[Skipped, ...]
    timings: Timings


class RowStore:
    """Rows of batches by key, each key in one array that doubles when it is full.

    Kept as they come, thousands of small arrays between the large ones of forward passes would hold the heap open: the
    process grew by fifty times the size of its rows.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._counts: dict[str, int] = {}

    def add(self, key: str, rows: np.ndarray) -> None:
        """Copy rows [B, ...] behind those that are there."""
        start = self._counts.get(key, 0)
        end = start + len(rows)
        array = self._arrays.get(key)
        if array is None or end > len(array):
            larger = np.empty((max(2 * end, 256), *rows.shape[1:]), rows.dtype)
            if array is not None:
                larger[:start] = array[:start]
            self._arrays[key] = array = larger
        array[start:end] = rows
        self._counts[key] = end

    def of(self, key: str) -> np.ndarray:
        """All rows of a key, [n, ...]."""
        return self._arrays[key][: self._counts[key]].copy()


@dataclass
class _Rows:
    """What has been captured so far: pooled rows and decisions, nothing else grows."""

    kept: RowStore = field(default_factory=RowStore)
    labels: list[str | None] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    model: float = 0.0
    inputs: float = 0.0


class ModelCapture:
    """Inference with hooks. The model's weights, mode and outputs stay as they are.

    Args:
        model: of a known family (`families.FAMILIES`), or any module with `family`.
        processor: with an `image_processor` and a `tokenizer`; None with `family`.
        family: a description of the model, for models that are not known.
        options: what the model may decide; ViLT and our own model have labels of their own.
        layers: "all", keys such as "text.3", or None for the sources alone.
        readouts: as `layers`: at which of them the model's head is read.
        batch_size: examples at once.

    Raises:
        AttributionInputError: an unknown model or layer, or a model without two streams.
    """

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        *,
        family: Family | None = None,
        options: Sequence[str] | None = None,
        layers: Chosen = "all",
        readouts: Chosen = None,
        batch_size: int = 16,
    ) -> None:
        if family is not None and options is not None:
            raise AttributionInputError("give either a family, which has its own labels, or options, not both")
        if not 1 <= batch_size <= 4096:
            raise AttributionInputError(f"batch_size is {batch_size}: give 1 to 4096")
        self.model = model
        self.family = family_of(model, processor, options) if family is None else family
        self.batch_size = batch_size
        self.layers = _choose(self.family.layers, layers, "layer")
        self.readouts = _choose(self.family.readout_taps, readouts, "readout")
        image, text = self.family.sources()
        self.taps = (
            replace(image, key=SOURCE + "image"),
            replace(text, key=SOURCE + "text"),
            *self.layers,
            *(replace(tap, key=READOUT + tap.key) for tap in self.readouts),
        )

    def __call__(self, examples: Iterable[Example | Skipped], *, callback: Callback | None = None) -> Captured:
        """Capture examples.

        Args:
            examples: read as they are needed; those that cannot be used are listed in the result.
            callback: called with (fraction, message) before each batch; may raise to stop. The fraction is 0 until the
                end where `examples` has no length.

        Raises:
            AttributionInputError: no example could be used, the image does not reach the model, or a layer's output is
                not finite.
        """
        tell = callback or (lambda fraction, message: None)
        total = len(examples) if isinstance(examples, Sized) else None
        rows = _Rows()
        checked = False
        with _evaluating(self.model), PooledCapture(self.model, self.taps, self.family.observers()) as capture:
            for batch in self._batches(examples, rows):
                seen = len(rows.labels) + len(rows.skipped)
                tell(min(1.0, seen / total) if total else 0.0, f"{seen:,} examples, {len(rows.skipped):,} left out")
                if not checked and not image_reaches(self.family, batch):
                    raise AttributionInputError(
                        f"another image changes nothing in what {type(self.model).__name__} decides: the image does "
                        "not reach it; check the processor and how the model is called"
                    )
                checked = True
                self._one(batch, capture, rows)
        tell(1.0, f"{len(rows.labels):,} examples, {len(rows.skipped):,} left out")
        return self._captured(rows, capture.seconds)

    def _one(self, batch: Batch, capture: PooledCapture, rows: _Rows) -> None:
        """One batch through the model."""
        before, started = capture.seconds, time.perf_counter()
        with torch.inference_mode(), _seeded():
            capture.expect(batch.positions)
            output = self.family.forward(batch)
            pooled = capture.take()
            rows.kept.add(DECISION, self._decided(self.family.scores(output, batch)))
            for tap in self.readouts:
                state = pooled[READOUT + tap.key].to(self.family.device, self.family.dtype)
                read = self._decided(self.family.readout(tap.key, state, output, batch))
                rows.kept.add(READOUT + tap.key, read)
        for tap in self.taps[: 2 + len(self.layers)]:
            rows.kept.add(tap.key, pooled[tap.key].numpy())
        rows.model += time.perf_counter() - started - (capture.seconds - before)

    def _decided(self, scores: Tensor) -> np.ndarray:
        """Index of the best class, [B]."""
        if not bool(torch.isfinite(scores).all()):
            raise AttributionInputError(
                f"{type(self.model).__name__} scored NaN or infinity: load it in bfloat16 or float32"
            )
        return scores.argmax(1).cpu().numpy()

    def _batches(self, examples: Iterable[Example | Skipped], rows: _Rows) -> Iterator[Batch]:
        """Encoded and padded; what is not this generator's time is the model's."""
        encoded: list[Any] = []
        started = time.perf_counter()
        for row in self._encoded(examples, rows):
            encoded.append(row)
            if len(encoded) == self.batch_size:
                batch = self._padded(encoded)
                rows.inputs += time.perf_counter() - started
                yield batch
                encoded, started = [], time.perf_counter()
        batch = self._padded(encoded) if encoded else None
        rows.inputs += time.perf_counter() - started
        if batch is not None:
            yield batch

    def _padded(self, encoded: Sequence[Any]) -> Batch:
        return self.family.collate(encoded).to(self.family.device, self.family.dtype)

    def _encoded(self, examples: Iterable[Example | Skipped], rows: _Rows) -> Iterator[Any]:
        """What the model can take; the rest is listed."""
        for example in examples:
            if isinstance(example, Skipped):
                rows.skipped.append(example)
                continue
            try:
                if example.image is None:
                    raise AttributionInputError("it has no image")
                encoded = self.family.encode(example.image, example.text)
            except AttributionInputError as error:
                rows.skipped.append(Skipped(example.name, str(error)))
                continue
            rows.labels.append(example.label)
            yield encoded

    def _captured(self, rows: _Rows, hooks: float) -> Captured:
        if not rows.labels:
            first = f", the first, {rows.skipped[0].name!r}, because {rows.skipped[0].reason}" if rows.skipped else ""
            raise AttributionInputError(
                f"no example could be used: {len(rows.skipped):,} were left out{first}; give images with texts"
            )
        kept, classes = rows.kept, np.array(self.family.classes)
        labelled = all(label is not None for label in rows.labels)
        return Captured(
            sources=(kept.of(SOURCE + "image"), kept.of(SOURCE + "text")),
            layers={tap.key: kept.of(tap.key) for tap in self.layers},
            layer_streams={tap.key: tap.stream for tap in self.layers},
            decision=classes[kept.of(DECISION)],
            label=np.array(rows.labels, dtype=str) if labelled else None,
            readouts={tap.key: classes[kept.of(READOUT + tap.key)] for tap in self.readouts},
            names=("image", "text"),
            skipped=tuple(rows.skipped),
            timings=Timings(rows.model, hooks, rows.inputs, len(rows.labels)),
        )


def _choose(known: Callable[[], tuple[Tap, ...]], wanted: Chosen, what: str) -> tuple[Tap, ...]:
    """Taps by key, in order of depth."""
    if wanted is None:
        return ()
    taps = {tap.key: tap for tap in known()}
    if isinstance(wanted, str):
        if wanted != "all":
            raise AttributionInputError(f"{what}s are {wanted[:40]!r}: give 'all', a list of keys, or None")
        return tuple(taps.values())
    for key in wanted:
        if key not in taps:
            raise AttributionInputError(f"there is no {what} {str(key)[:40]!r}{nearest(str(key), list(taps))}")
    return tuple(tap for key, tap in taps.items() if key in set(wanted))


@torch.inference_mode()
def image_reaches(family: Family, batch: Batch) -> bool:
    """Whether noise in place of the images changes what the model scores."""
    pixels = batch.inputs.get(family.image_input)
    if not isinstance(pixels, Tensor):
        return False
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0)).to(pixels)
    other = replace(batch, inputs={**batch.inputs, family.image_input: noise})
    with _seeded():
        plain = family.scores(family.forward(batch), batch)
    with _seeded():
        noisy = family.scores(family.forward(other), other)
    return not torch.equal(plain, noisy)


@contextmanager
def _seeded() -> Generator[None]:
    """The same draws in every pass: ViLT shuffles its patches. The caller's generator stays where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@contextmanager
def _evaluating(model: nn.Module) -> Generator[None]:
    """No dropout while this lasts."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
