"""Looking inside a model while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from plugins.attribution.errors import AttributionInputError
from plugins.attribution.hooks import Observer, PooledCapture, Pooling, Positions, Tap, pool


class Layer(nn.Module):
    """A linear layer whose output comes in one of the wrappings that transformers uses."""

    def __init__(self, wrapping: str) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.wrapping = wrapping

    def forward(self, states: Tensor) -> Any:
        out = self.linear(states)
        return {"tensor": out, "tuple": (out, None), "output": BaseModelOutput(last_hidden_state=out)}[self.wrapping]


class Stack(nn.Module):
    """Three layers, one of each wrapping, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers: Any = nn.ModuleList(Layer(wrapping) for wrapping in ("tensor", "tuple", "output"))
        self.head = nn.Linear(8, 2)
        self.unused = nn.Linear(8, 8)

    def forward(self, states: Tensor) -> Tensor:
        for layer in self.layers:
            states = layer(states)
            states = states if isinstance(states, Tensor) else states[0]
        return self.head(states.mean(1))


TAPS = tuple(Tap(f"text.{i}", f"layers.{i}", "text", "text") for i in range(3))


def inputs(batch: int = 3, length: int = 5) -> Tensor:
    return torch.randn(batch, length, 8, generator=torch.Generator().manual_seed(1))


def everywhere(batch: int = 3, length: int = 5) -> dict[str, Positions]:
    return {"text": Positions(mask=torch.ones(batch, length, dtype=torch.bool))}


def captured(
    model: nn.Module, taps: Sequence[Tap], positions: dict[str, Positions], states: Tensor
) -> dict[str, Tensor]:
    """One forward pass with hooks."""
    with PooledCapture(model, taps) as capture:
        capture.expect(positions)
        model(states)
        return capture.take()


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@given(
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.integers(1, 6),
    st.sampled_from(["mean", "first", "last"]),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_pooling_over_a_mask_is_what_a_loop_over_its_positions_gives(
    seed: int, batch: int, length: int, how: Pooling, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(batch, length, 3, generator=generator).to(dtype)
    mask = torch.rand(batch, length, generator=generator) < 0.5
    mask[torch.arange(batch), torch.randint(length, (batch,), generator=generator)] = True
    states[~mask] = float("nan")
    found = pool(states, Positions(mask=mask), how, "layer")
    for row in range(batch):
        kept = states[row][mask[row]].double()
        wanted = {"mean": kept.mean(0), "first": kept[0], "last": kept[-1]}[how]
        torch.testing.assert_close(found[row].double(), wanted, atol=1e-5, rtol=1e-5)
    assert found.dtype == torch.float32


@given(st.integers(0, 10_000), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from(["mean", "last"]))
def test_packed_rows_are_pooled_example_by_example(seed: int, counts: list[int], how: Pooling) -> None:
    states = torch.randn(sum(counts), 3, generator=torch.Generator().manual_seed(seed))
    found = pool(states, Positions(counts=torch.tensor(counts)), how, "layer")
    for row, part in enumerate(states.split(counts)):
        torch.testing.assert_close(found[row], part.mean(0) if how == "mean" else part[-1], atol=1e-6, rtol=1e-5)


def test_tensors_tuples_and_model_outputs_are_read_alike() -> None:
    model, given_states = Stack(), inputs()
    with PooledCapture(model, TAPS) as capture:
        capture.expect(everywhere())
        model(given_states)
        pooled = capture.take()
    states = given_states
    for i, layer in enumerate(model.layers):
        states = layer.linear(states)
        torch.testing.assert_close(pooled[f"text.{i}"], states.mean(1))


def test_the_models_output_stays_the_same_bit_for_bit() -> None:
    model = Stack()
    before = model(inputs())
    with PooledCapture(model, TAPS) as capture:
        capture.expect(everywhere())
        during = model(inputs())
        capture.take()
    assert torch.equal(before, during)


def test_hooks_are_gone_when_it_closes_and_after_an_exception_too() -> None:
    model = Stack()
    with PooledCapture(model, TAPS):
        assert hooks_of(model) == 3
    assert hooks_of(model) == 0
    with pytest.raises(RuntimeError):
        captured(model, TAPS, everywhere(), torch.zeros(3, 5, 7))
    assert hooks_of(model) == 0


@pytest.mark.parametrize("how", ["mean", "first", "last"])
@pytest.mark.parametrize("positions", ["text", None])
def test_what_is_kept_is_one_row_per_example_and_no_view_of_the_whole_output(how: Pooling, positions: str) -> None:
    model = Stack()
    with torch.inference_mode(), PooledCapture(model, [Tap("a", "layers.0", "text", positions, how)]) as capture:
        capture.expect(everywhere())
        model(inputs())
        pooled = capture.take()["a"]
    assert pooled.untyped_storage().nbytes() == 3 * 8 * 4


def test_nan_fails_with_the_name_of_the_layer_where_it_arose() -> None:
    model = Stack()
    with torch.no_grad():
        model.layers[1].linear.bias[2] = float("nan")
    with PooledCapture(model, TAPS) as capture:
        capture.expect(everywhere())
        model(inputs())
        with pytest.raises(AttributionInputError, match=r"layers\.1 holds NaN"):
            capture.take()


def test_an_unknown_layer_offers_the_nearest_names() -> None:
    with pytest.raises(AttributionInputError, match=r"no module 'layer\.1'.*'layers\.1'"):
        PooledCapture(Stack(), [Tap("a", "layer.1", "text")])


def test_a_module_that_does_not_run_is_named() -> None:
    model = Stack()
    with PooledCapture(model, [Tap("a", "unused", "text")]) as capture:
        capture.expect({})
        model(inputs())
        with pytest.raises(AttributionInputError, match="unused did not run"):
            capture.take()


def test_two_passes_between_expect_and_take_are_refused() -> None:
    model = Stack()
    with PooledCapture(model, TAPS) as capture:
        capture.expect(everywhere())
        model(inputs())
        with pytest.raises(AttributionInputError, match="ran twice"):
            model(inputs())


def test_passes_that_are_not_expected_are_not_recorded() -> None:
    model = Stack()
    with PooledCapture(model, TAPS) as capture:
        model(inputs(batch=7))
        capture.expect(everywhere())
        model(inputs())
        assert len(capture.take()["text.0"]) == 3
        model(inputs(batch=7))
        with pytest.raises(AttributionInputError, match="did not run"):
            capture.take()


@pytest.mark.parametrize(
    ("tap", "positions", "message"),
    [
        (TAPS[0], everywhere(length=4), "has shape"),
        (TAPS[0], {}, "'text' positions, which this batch does not have"),
        (Tap("a", "layers.0", "text", pool="none"), {}, "has shape"),
        (Tap("a", "layers.0", "text", "n"), {"n": Positions(counts=torch.tensor([4, 4, 4]))}, "packed rows"),
    ],
)
def test_positions_that_do_not_fit_an_output_are_refused(
    tap: Tap, positions: dict[str, Positions], message: str
) -> None:
    model = Stack()
    with pytest.raises(AttributionInputError, match=message):
        captured(model, [tap], positions, inputs())


def test_an_example_without_positions_is_refused_before_the_model_runs() -> None:
    mask = torch.tensor([[True, True], [False, False]])
    with (
        PooledCapture(Stack(), TAPS) as capture,
        pytest.raises(AttributionInputError, match="example 2 of this batch has no text positions"),
    ):
        capture.expect({"text": Positions(mask=mask)})


def test_positions_that_the_model_chooses_itself_are_read_from_it() -> None:
    model = Stack()

    def longest(output: Tensor, positions: Any) -> dict[str, Positions]:
        norms = output.norm(dim=-1)
        return {"longest": Positions(mask=norms == norms.max(1, keepdim=True).values)}

    taps = [Tap("a", "layers.1", "text", "longest")]
    with PooledCapture(model, taps, [Observer("layers.0", longest)]) as capture:
        capture.expect({})
        model(inputs())
        pooled = capture.take()["a"]
    first = model.layers[0](inputs())
    places = first.norm(dim=-1).argmax(1)
    torch.testing.assert_close(pooled, model.layers[1](first)[0][torch.arange(3), places])


def test_a_final_norm_is_applied_to_each_position_before_pooling() -> None:
    model: Any = Stack()
    model.norm = nn.LayerNorm(8)
    with PooledCapture(model, [Tap("a", "layers.0", "text", "text", through="norm")]) as capture:
        capture.expect(everywhere())
        model(inputs())
        pooled = capture.take()["a"]
    torch.testing.assert_close(pooled, model.norm(model.layers[0](inputs())).mean(1))
