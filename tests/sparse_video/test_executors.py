"""Every executor computes softmax attention over exactly the chosen blocks and the extra keys."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from plugins.sparse_video.errors import SparseVideoInputError
from plugins.sparse_video.executors import EXECUTORS, choose, flex, gather, get_executor, xformers_paged
from plugins.sparse_video.executors.choose import choose_executor

CPU = torch.device("cpu")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-2}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Problem:
    """Arguments of one call of an executor, in fp64, and the tokens of a block."""

    query: Tensor
    key: Tensor
    value: Tensor
    chosen: Tensor
    block_size: int
    key_mask: Tensor | None = None
    extra_key: Tensor | None = None
    extra_value: Tensor | None = None
    extra_bias: Tensor | None = None

    def run(self, executor: Any, dtype: torch.dtype, device: str = "cpu") -> Tensor:
        def cast(tensor: Tensor | None) -> Any:
            return None if tensor is None else tensor.to(device, dtype if tensor.is_floating_point() else None)

        return executor(
            *(cast(tensor) for tensor in (self.query, self.key, self.value, self.chosen)),
            block_size=self.block_size,
            key_mask=cast(self.key_mask),
            extra_key=cast(self.extra_key),
            extra_value=cast(self.extra_value),
            extra_bias=None if self.extra_bias is None else self.extra_bias.to(device, torch.float32),
            scale=self.query.shape[-1] ** -0.5,
        )

    def expected(self) -> Tensor:
        """Dense attention under the mask that the lists stand for, fp64."""
        batch, heads, tokens, dim = self.query.shape
        rows = self.chosen.repeat_interleave(self.block_size, dim=2)[:, :, :tokens]
        seen = rows.repeat_interleave(self.block_size, dim=3)[..., :tokens]
        if self.key_mask is not None:
            seen = seen & self.key_mask[:, None, None, :]
        logits = (self.query @ self.key.mT * dim**-0.5).masked_fill(~seen, -math.inf)
        values = self.value
        if self.extra_key is not None and self.extra_value is not None:
            extra = self.query @ self.extra_key.mT * dim**-0.5
            if self.extra_bias is not None:
                bias = self.extra_bias.float().double()
                bias = bias.expand(batch, heads, self.chosen.shape[2], self.extra_key.shape[2])
                extra = extra + bias.repeat_interleave(self.block_size, dim=2)[:, :, :tokens]
            logits, values = torch.cat([logits, extra], -1), torch.cat([values, self.extra_value], 2)
        return logits.softmax(-1).nan_to_num(0.0) @ values

    def error(self, executor: Any, dtype: torch.dtype) -> float:
        output, expected = self.run(executor, dtype), self.expected()
        assert output.dtype == dtype
        assert output.shape == self.query.shape
        assert output.isfinite().all()
        return float((output.double() - expected).norm() / expected.norm().clamp_min(1e-30))


def make_problem(
    tokens: int = 150,
    *,
    batch: int = 1,
    heads: int = 2,
    dim: int = 16,
    block_size: int = 32,
    extras: int = 0,
    bias: str = "none",
    masked: bool = False,
    strength: float = 1.0,
    seed: int = 0,
) -> Problem:
    """Random lists of different lengths; bias of the extras by "key" (and batch), by "block", or "none"."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        # What every tested dtype can hold exactly, so that only the arithmetic differs.
        return torch.randn(*shape, generator=generator).bfloat16().double()

    blocks = -(-tokens // block_size)
    query, key, value = (normal(batch, heads, tokens, dim) for _ in range(3))
    chosen = torch.rand(batch, heads, blocks, blocks, generator=generator) < 0.4
    mask = torch.rand(batch, tokens, generator=generator) < 0.8 if masked else None
    if not extras:
        return Problem(query * strength, key, value, chosen, block_size, mask)
    shape = {"none": None, "key": (batch, 1, 1, extras), "block": (batch, heads, blocks, extras)}[bias]
    extra_bias = None if shape is None else normal(*shape).abs() * 3
    if extra_bias is not None:
        extra_bias = extra_bias.masked_fill(torch.rand(extra_bias.shape, generator=generator) < 0.3, -math.inf)
    keys, values = normal(batch, heads, extras, dim), normal(batch, heads, extras, dim)
    return Problem(query * strength, key, value, chosen, block_size, mask, keys, values, extra_bias)


EASY = ("reference", "gather")
CASES = {
    "whole blocks": make_problem(128),
    "a short last block": make_problem(150, batch=2),
    "one block": make_problem(20),
    "masked tokens": make_problem(150, batch=2, masked=True),
    "text": make_problem(150, extras=7),
    "padded text": make_problem(150, batch=2, extras=40, bias="key"),
    "centroids": make_problem(150, extras=5, bias="block"),
    "text, centroids, masked tokens": make_problem(150, batch=2, extras=45, bias="block", masked=True),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", EASY)
def test_it_is_dense_attention_under_the_mask_of_the_lists(name: str, case: str, dtype: torch.dtype) -> None:
    assert CASES[case].error(get_executor(name), dtype) < TOLERANCE[dtype]


@settings(max_examples=40)
@given(
    tokens=st.integers(1, 200),
    batch=st.integers(1, 2),
    block_size=st.sampled_from([8, 16, 32]),
    extras=st.integers(0, 40),
    bias=st.sampled_from(["none", "key", "block"]),
    masked=st.booleans(),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(list(TOLERANCE)),
)
def test_gather_is_right_for_any_lengths_lists_masks_and_extras(dtype: torch.dtype, **drawn: Any) -> None:
    assert make_problem(**drawn).error(get_executor("gather"), dtype) < TOLERANCE[dtype]


@pytest.mark.parametrize("strength", [0.01, 10.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gather_stays_exact_where_logits_are_tiny_or_huge(strength: float, dtype: torch.dtype) -> None:
    problem = make_problem(256, dim=64, strength=strength, extras=20, bias="key")
    assert problem.error(get_executor("gather"), dtype) < TOLERANCE[dtype]


def test_gather_finds_the_largest_logit_also_where_it_did_not_look() -> None:
    problem = make_problem(256, dim=64)
    key = problem.key.clone()
    key[:, :, 3] = 40 * problem.query[:, :, 0]  # not among the keys that are looked at
    problem = Problem(problem.query, key, problem.value, torch.ones_like(problem.chosen), 32)
    assert float((problem.query @ key.mT).amax() / 8) > 150
    for dtype in (torch.float32, torch.bfloat16):
        assert problem.error(get_executor("gather"), dtype) < TOLERANCE[dtype]


def test_gather_rounds_about_as_well_as_dense_attention_in_bfloat16() -> None:
    problem = make_problem(512, dim=64, strength=4.0, block_size=128)
    problem = Problem(problem.query, problem.key, problem.value, torch.ones_like(problem.chosen), 128)
    dense = torch.nn.functional.scaled_dot_product_attention
    expected = problem.expected()
    output = dense(problem.query.bfloat16(), problem.key.bfloat16(), problem.value.bfloat16())
    rounding = float((output.double() - expected).norm() / expected.norm())
    assert problem.error(get_executor("gather"), torch.bfloat16) < 2.5 * rounding


@pytest.mark.parametrize("name", EASY)
def test_a_query_that_sees_nothing_gives_zero(name: str) -> None:
    problem = make_problem(150, extras=4, bias="block")
    assert problem.extra_bias is not None
    problem.chosen[0, 0, 2] = False
    problem.extra_bias[0, 0, 2] = -math.inf
    for dtype in (torch.float64, torch.bfloat16):
        output = problem.run(get_executor(name), dtype)
        assert (output[0, 0, 64:96] == 0).all()
        assert output.isfinite().all()
        assert problem.error(get_executor(name), dtype) < TOLERANCE[dtype]


@pytest.mark.parametrize("case", CASES)
def test_the_form_of_gather_for_accelerators_gives_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "_attend_rows", gather._attend_rows_sdpa)
    assert CASES[case].error(get_executor("gather"), torch.float32) < 1e-5


def test_gather_takes_small_chunks_without_changing_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = CASES["text, centroids, masked tokens"]
    whole = problem.run(get_executor("gather"), torch.float64)
    monkeypatch.setattr(gather, "LOGITS_BYTES", 1)
    torch.testing.assert_close(problem.run(get_executor("gather"), torch.float64), whole)


def test_gather_says_that_it_has_no_gradients() -> None:
    problem = make_problem()
    problem.query.requires_grad_()
    with pytest.raises(SparseVideoInputError, match="no gradients"):
        problem.run(get_executor("gather"), torch.float64)


needs_flex = pytest.mark.skipif(
    get_executor("flex").unavailable(CPU, torch.float32) is not None, reason="FlexAttention does not compile here"
)


@needs_flex
def test_compiled_flex_attention_is_dense_attention_under_the_mask() -> None:
    executor = get_executor("flex")
    with torch.no_grad():
        for seed in (0, 1):  # other lists of the same shape
            problem = make_problem(500, batch=2, masked=True, seed=seed)
            problem.chosen[0, 0, 2] = False
            assert problem.error(executor, torch.float32) < 1e-5
            assert (problem.run(executor, torch.float32)[0, 0, 64:96] == 0).all()


@needs_flex
def test_compiled_flex_attention_takes_extra_keys_in_bfloat16() -> None:
    with torch.no_grad():
        problem = make_problem(500, extras=40, bias="block")
        assert problem.error(get_executor("flex"), torch.bfloat16) < 2e-2


def test_flex_never_runs_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "_compiled", lambda: flex._flex)
    with pytest.raises(RuntimeError, match="uncompiled"):
        make_problem().run(get_executor("flex"), torch.float32)


def test_flex_says_when_it_was_compiled_for_too_many_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import FailOnRecompileLimitHit

    def full(*_: Any) -> Tensor:
        raise FailOnRecompileLimitHit("limit")

    monkeypatch.setattr(flex, "_compiled", lambda: full)
    with pytest.raises(SparseVideoInputError, match="recompile_limit"):
        make_problem().run(get_executor("flex"), torch.float32)


def test_flex_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = get_executor("flex")
    assert "float64" in str(executor.unavailable(CPU, torch.float64))
    assert "mps" in str(executor.unavailable(torch.device("mps"), torch.float32))
    monkeypatch.setattr(flex.shutil, "which", lambda _: None)
    assert "no C++ compiler" in str(executor.unavailable(CPU, torch.float32))
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    assert "switched off" in str(executor.unavailable(CPU, torch.float32))


def paged_attention(problem: Problem) -> tuple[Tensor, Tensor]:
    """What the paged kernels do with the page tables: output [1, Q, 1, d] and log-sum-exp [1, 1, Q], fp64."""
    size = problem.block_size
    tables = xformers_paged.build_page_tables(problem.chosen, problem.query.shape[2], size)
    query, key, value = (xformers_paged._fold(t, size)[0, :, 0] for t in (problem.query, problem.key, problem.value))
    outputs, sums = [], []
    for rows, pages, length in zip(query.split(size), tables.pages, tables.key_lengths, strict=True):
        slots = (pages[:, None] * size + torch.arange(size)).flatten()[:length]
        logits = rows @ key[slots].mT * rows.shape[-1] ** -0.5
        outputs.append(logits.softmax(-1) @ value[slots])
        sums.append(logits.logsumexp(-1))
    out, lse = torch.cat(outputs)[None, :, None], torch.cat(sums)[None, None]
    return xformers_paged.silence_unseen(out, lse, tables.key_lengths, size)


@settings(max_examples=25)
@given(
    tokens=st.integers(1, 200),
    batch=st.integers(1, 2),
    extras=st.integers(0, 40),
    bias=st.sampled_from(["none", "key", "block"]),
    seed=st.integers(0, 99),
)
def test_page_tables_and_the_merge_with_extra_keys_give_attention_over_both(**drawn: Any) -> None:
    problem = make_problem(**drawn)
    out, lse = paged_attention(problem)
    if problem.extra_key is not None and problem.extra_value is not None:
        extra, extra_lse = xformers_paged.attend_extras(
            problem.query, problem.extra_key, problem.extra_value, problem.extra_bias, problem.block_size, 16**-0.5
        )
        weights = torch.stack([lse, extra_lse.double()]).softmax(0)  # what merge_attentions does
        out = (weights[..., None].transpose(2, 3) * torch.stack([out, extra.double()])).sum(0)
    got = xformers_paged._unfold(out, problem.query, problem.block_size)
    assert float((got - problem.expected()).norm() / problem.expected().norm().clamp_min(1e-30)) < 1e-5


def test_page_tables_list_pages_in_ascending_order_and_cut_the_last() -> None:
    chosen = torch.tensor([[[[1, 0, 1], [0, 1, 0], [0, 0, 0]]]]).bool().expand(1, 2, 3, 3)
    tables = xformers_paged.build_page_tables(chosen, tokens=5, block_size=2)
    assert tables.pages[:2].tolist() == [[0, 2], [1, 0]]
    assert tables.pages[3].tolist() == [3, 5]
    assert tables.key_lengths.tolist() == [3, 2, 0, 3, 2, 0]


def test_xformers_says_why_it_does_not_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = get_executor("xformers")
    assert "CUDA, not on cpu" in str(executor.unavailable(CPU, torch.bfloat16))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "xformers.ops.fmha", None)
    monkeypatch.setitem(sys.modules, "mslk.attention.fmha", None)
    assert "not installed" in str(executor.unavailable(torch.device("cuda"), torch.bfloat16))
    assert "float32" in str(executor.unavailable(torch.device("cuda"), torch.float32))


@pytest.mark.parametrize(
    ("change", "message"), [({"block_size": 32}, "multiples of 64"), ({"block_size": 64, "masked": True}, "leave out")]
)
def test_xformers_refuses_what_its_pages_cannot_hold(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SparseVideoInputError, match=message):
        make_problem(**change).run(get_executor("xformers"), torch.bfloat16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@pytest.mark.parametrize("name", ["reference", "gather", "flex", "xformers"])
@pytest.mark.parametrize("extras", [0, 100])
def test_every_executor_is_right_on_a_gpu(name: str, extras: int) -> None:
    executor = get_executor(name)
    if reason := executor.unavailable(torch.device("cuda"), torch.bfloat16):
        pytest.skip(reason)
    problem = make_problem(1000, batch=2, dim=64, block_size=128, extras=extras, bias="block" if extras else "none")
    with torch.no_grad():
        output = problem.run(executor, torch.bfloat16, "cuda").cpu()
    expected = problem.expected()
    assert float((output.double() - expected).norm() / expected.norm()) < 2e-2


def test_auto_takes_the_fastest_and_says_why() -> None:
    choice = choose_executor("auto", CPU, torch.bfloat16)
    assert choice.name in EASY
    assert choice.executor is EXECUTORS[choice.name]
    assert "fastest" in choice.reason
    assert "flex" in choice.reason
    assert choose_executor("auto", CPU, torch.bfloat16) is choice


def test_auto_says_that_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex.shutil, "which", lambda _: None)
    choose._fastest.cache_clear()
    assert "no C++ compiler" in choose_executor("auto", CPU, torch.float32).reason
    choose._fastest.cache_clear()


def test_auto_passes_over_an_executor_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("kernel missing\nmore")

    monkeypatch.setattr(type(get_executor("gather")), "__call__", fail)
    choose._fastest.cache_clear()
    choice = choose_executor("auto", CPU, torch.float32)
    choose._fastest.cache_clear()
    assert choice.name == "reference"
    assert "gather unavailable: kernel missing" in choice.reason


def test_choosing_leaves_the_random_numbers_alone() -> None:
    choose._fastest.cache_clear()
    state = torch.get_rng_state()
    choose_executor("auto", CPU, torch.float32)
    assert torch.equal(state, torch.get_rng_state())


def test_an_executor_that_was_asked_for_and_does_not_work_is_an_error_that_says_why() -> None:
    with pytest.raises(SparseVideoInputError, match=r"xformers.*CUDA.*executor='auto'"):
        choose_executor("xformers", CPU, torch.bfloat16)
    with pytest.raises(SparseVideoInputError, match=r"'fast'.*'gather'"):
        choose_executor("fast", CPU, torch.bfloat16)
    assert choose_executor("reference", CPU, torch.float32).reason == "asked for by name"
