"""Looking inside a model while it runs: each layer's output is pooled where it arises, and nothing larger is kept."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from .errors import AttributionInputError
from .files import some

Stream = Literal["image", "text"]
Pooling = Literal["mean", "first", "last", "none"]
_END = {"first": 0, "last": -1}


@dataclass(frozen=True)
class Positions:
    """Which positions of a layer's output belong to each example of a batch; one of the two is given.

    Attributes:
        mask: [B, N], true where a position counts; for outputs [B, N, d].
        counts: [B], how many consecutive rows each example has; for packed outputs [sum of counts, d].
    """

    mask: Tensor | None = None
    counts: Tensor | None = None


@dataclass(frozen=True)
class Tap:
    """One place to look at.

    Attributes:
        key: its name in results, such as "text.3".
        module: dotted path from the model.
        stream: whose positions these are.
        positions: which entry of the batch's positions to pool over; None: all of them.
        pool: "mean" over positions, the "first" (CLS) or "last" of them, or "none" for outputs that are [B, d] already.
        through: dotted path of a module that each position goes through before it is pooled, such as a final norm.
    """

    key: str
    module: str
    stream: Stream
    positions: str | None = None
    pool: Pooling = "mean"
    through: str | None = None


@dataclass(frozen=True)
class Observer:
    """A module whose output says which positions count, for models that choose them in their forward pass.

    Attributes:
        read: from the module's output and the batch's positions so far, further positions by name.
    """

    module: str
    read: Callable[[Any, Mapping[str, Positions]], dict[str, Positions]]


class PooledCapture:
    """Forward hooks on named modules; each pools its output at once. A context manager: its hooks go when it closes.

    The model's own output is not touched. One forward pass lies between `expect` and `take`; any other pass, before
    `expect` or after `take`, is not recorded.

    Args:
        model: any module.
        taps: with keys that differ.
        observers: run before the taps of modules that come later.

    Attributes:
        seconds: spent in hooks so far. On an accelerator this is the time of queueing their work.
    """

    def __init__(self, model: nn.Module, taps: Iterable[Tap], observers: Iterable[Observer] = ()) -> None:
        self.model, self.taps, self.observers = model, tuple(taps), tuple(observers)
        keys = [tap.key for tap in self.taps]
        if len(set(keys)) != len(keys):
            raise AttributionInputError(f"two taps have the same key: {some(sorted(keys))}; give each its own")
        self._modules = {path: find_module(model, path) for path in _paths(self.taps, self.observers)}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._positions: dict[str, Positions] = {}
        self._pooled: dict[str, Tensor] = {}
        self._recording = False
        self.seconds = 0.0

    def __enter__(self) -> Self:
        try:
            for observer in self.observers:
                self._register(observer.module, self._observe(observer))
            for tap in self.taps:
                self._register(tap.module, self._pool(tap))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove every hook and forget what was pooled."""
        while self._handles:
            self._handles.pop().remove()
        self._pooled, self._positions, self._recording = {}, {}, False

    def expect(self, positions: Mapping[str, Positions]) -> None:
        """Say which positions count in the next forward pass, and record it.

        Raises:
            AttributionInputError: an example has no position of some kind.
        """
        self._positions, self._pooled, self._recording = {}, {}, True
        self._add(positions)

    def take(self) -> dict[str, Tensor]:
        """What the forward pass since `expect` gave, by key: [B, d], float32, on the CPU.

        Raises:
            AttributionInputError: a module did not run, or its output holds NaN or infinity.
        """
        started = time.perf_counter()
        self._recording = False
        silent = [tap for tap in self.taps if tap.key not in self._pooled]
        if silent:
            raise AttributionInputError(
                f"{silent[0].module} did not run in this forward pass: choose modules that the model's forward calls"
            )
        pooled = {tap.key: self._pooled[tap.key].to("cpu") for tap in self.taps}
        self._pooled, self._positions = {}, {}
        for tap in self.taps:
            if not torch.isfinite(pooled[tap.key]).all():
                raise AttributionInputError(
                    f"the output of {tap.module} holds NaN or infinity: check the inputs, or load the model in "
                    "bfloat16 or float32 (float16 overflows in some models)"
                )
        self.seconds += time.perf_counter() - started
        return pooled

    def _register(self, path: str, see: Callable[[Any], None]) -> None:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if self._recording:
                started = time.perf_counter()
                see(output)
                self.seconds += time.perf_counter() - started

        self._handles.append(self._modules[path].register_forward_hook(hook))

    def _observe(self, observer: Observer) -> Callable[[Any], None]:
        return lambda output: self._add(observer.read(output, self._positions))

    def _add(self, positions: Mapping[str, Positions]) -> None:
        for name, found in positions.items():
            _check_counts(found, name)
            self._positions[name] = found

    def _pool(self, tap: Tap) -> Callable[[Any], None]:
        def see(output: Any) -> None:
            if tap.key in self._pooled:
                raise AttributionInputError(
                    f"{tap.module} ran twice in one forward pass, so that its output is not one per example: choose "
                    "a module that runs once"
                )
            if tap.positions is not None and tap.positions not in self._positions:
                raise AttributionInputError(
                    f"{tap.key} pools over {tap.positions!r} positions, which this batch does not have: choose from "
                    f"{some(sorted(self._positions))}"
                )
            positions = Positions() if tap.positions is None else self._positions[tap.positions]
            states = tensor_of(output, tap.module)
            if tap.through is not None:  # its forward, not its call, which would run hooks of its own
                states = self._modules[tap.through].forward(states)
            self._pooled[tap.key] = pool(states, positions, tap.pool, tap.module)

        return see


def _paths(taps: Sequence[Tap], observers: Sequence[Observer]) -> list[str]:
    through = [tap.through for tap in taps if tap.through is not None]
    return [*(observer.module for observer in observers), *(tap.module for tap in taps), *through]


def find_module(model: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path.

    Raises:
        AttributionInputError: there is none; the message offers the nearest names.
    """
    modules = dict(model.named_modules())
    if path in modules:
        return modules[path]
    raise AttributionInputError(f"{type(model).__name__} has no module {path!r}{nearest(path, list(modules))}")


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of a sentence that offers the names most like this one."""
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
    return f": the nearest are {some(close)}" if close else f": choose from {some([each for each in known if each])}"


def tensor_of(output: Any, name: str) -> Tensor:
    """The states in a module's output: a tensor, the first of a tuple, or a ModelOutput's last_hidden_state.

    Raises:
        AttributionInputError: it holds no tensor.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        states = output.get("last_hidden_state")
        found = states if states is not None else next((each for each in output.values() if each is not None), None)
    else:
        found = output[0] if isinstance(output, list | tuple) and output else None
    if not isinstance(found, Tensor):
        raise AttributionInputError(
            f"the output of {name} is a {type(output).__name__} that does not begin with a tensor: choose a module "
            "whose output is a tensor, a tuple that begins with one, or a ModelOutput"
        )
    return found


def pool(states: Tensor, positions: Positions, how: Pooling, name: str) -> Tensor:
    """States as one float32 row per example, on their device.

    Args:
        states: [B, N, d]; [sum of counts, d] where positions are counts; [B, d] for "none".
        name: of the layer, for messages.

    Returns:
        [B, d].

    Raises:
        AttributionInputError: shapes do not fit.
    """
    if how == "none":
        _check(states.ndim == 2, name, states, "[examples, features]")
        return _row(states)
    if positions.counts is not None:
        return _pool_packed(states, positions.counts, how, name)
    _check(states.ndim == 3, name, states, "[examples, positions, features]")
    mask = positions.mask
    if mask is None:
        return states.detach().mean(1, dtype=torch.float32) if how == "mean" else _row(states[:, _END[how]])
    mask = mask.to(states.device)
    _check(tuple(mask.shape) == tuple(states.shape[:2]), name, states, f"{[*mask.shape]} positions, as the mask has")
    return _pool_masked(states.detach(), mask.bool(), how)


def _row(states: Tensor) -> Tensor:
    """A copy: a view would keep the whole output alive."""
    return states.detach().to(torch.float32, copy=True)


def _pool_masked(states: Tensor, mask: Tensor, how: Pooling) -> Tensor:
    counts = mask.sum(1)
    if how == "mean":
        # Filled, not multiplied: padding may hold NaN, which times zero stays NaN.
        kept = states.masked_fill(~mask[..., None], 0)
        return kept.sum(1, dtype=torch.float32) / counts[:, None]
    weights = mask.int().cumsum(1)
    wanted = torch.ones_like(counts) if how == "first" else counts
    place = (weights >= wanted[:, None]).int().argmax(1)
    return states[torch.arange(len(states), device=states.device), place].float()


def _pool_packed(states: Tensor, counts: Tensor, how: Pooling, name: str) -> Tensor:
    states = states.detach().flatten(0, -2)
    total = int(counts.sum())
    _check(len(states) == total, name, states, f"{total} packed rows, as the counts add up to,")
    counts = counts.to(states.device)
    if how == "mean":
        owner = torch.repeat_interleave(torch.arange(len(counts), device=states.device), counts)
        sums = states.new_zeros((len(counts), states.shape[-1]), dtype=torch.float32)
        return sums.index_add_(0, owner, states.float()) / counts[:, None]
    ends = counts.cumsum(0)
    return states[ends - counts if how == "first" else ends - 1].float()


def _check(fits: bool, name: str, states: Tensor, wanted: str) -> None:
    if not fits:
        raise AttributionInputError(
            f"the output of {name} has shape {[*states.shape]}, {wanted} are expected: choose another module, or "
            "other positions and pooling for it"
        )


def _check_counts(positions: Positions, name: str) -> None:
    counts = positions.counts if positions.mask is None else positions.mask.sum(1)
    if counts is not None and not bool((counts > 0).all()):
        row = int((counts == 0).int().argmax())
        raise AttributionInputError(
            f"example {row + 1} of this batch has no {name} positions: give every example an image and a text"
        )
