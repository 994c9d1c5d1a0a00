"""The whole call equals its definition for any lengths, tails, texts, batches, masks and settings."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.sparse_video.attention import rectified_attention
from plugins.sparse_video.config import RectifiedAttentionConfig
from plugins.sparse_video.executors import get_executor
from tests.sparse_video.oracles import available_executors, masked_attention, random_qkv, relative_error, written_out

# The compiled ones build a kernel for each shape; test_attention.py holds them against the same definition.
QUICK = [name for name in available_executors("cpu", torch.float64) if name in ("reference", "gather")]


@st.composite
def calls(draw):
    """Tensors and settings of one call."""
    grid = draw(st.none() | st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)))
    tokens = draw(st.integers(2, 90)) if grid is None else grid[0] * grid[1] * grid[2]
    text, batch, heads = draw(st.integers(0, 6)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    seed = draw(st.integers(0, 10**6))
    q, k, v = random_qkv(tokens + text, batch=batch, heads=heads, dim=8, seed=seed)
    share = draw(st.sampled_from([None, 1.0, 0.8, 0.3]))
    mask = None
    if share is not None:
        mask = torch.rand(batch, tokens + text, generator=torch.Generator().manual_seed(seed)) < share
    block_size = draw(st.integers(1, 20))
    divisors = [size for size in range(1, block_size + 1) if block_size % size == 0]
    config = RectifiedAttentionConfig(
        density=draw(st.floats(0.01, 0.9)),
        top_p=draw(st.none() | st.floats(0.05, 0.99)),
        block_size=block_size,
        centroid_size=draw(st.none() | st.sampled_from(divisors)),
        order=draw(st.sampled_from(["gilbert", "tile", "linear"])),
        neighbors=draw(st.booleans()),
        rectify=draw(st.sampled_from(["paper", "centroid", "none"])),
        gate=draw(st.sampled_from(["centered", "paper"])),
        min_tokens=0,
    )
    return q, k, v, config, {"grid": grid, "text_tokens": text, "text_first": draw(st.booleans()), "key_mask": mask}


@settings(max_examples=200)
@given(calls(), st.sampled_from(QUICK))
def test_any_call_is_the_definition(call, executor):
    q, k, v, config, how = call
    output, stats = rectified_attention(q, k, v, config=config, executor=executor, return_stats="map", **how)
    assert output.isfinite().all()
    if stats.fallback is not None:
        mask = None if how["key_mask"] is None else how["key_mask"][:, None, None]
        expected = masked_attention(q, k, v, torch.ones(1, dtype=torch.bool) if mask is None else mask)
        assert relative_error(output, expected) < 1e-10
        return
    truth = written_out(q, k, v, config, **how)
    assert torch.equal(torch.from_numpy(stats.block_map), truth.chosen.float().mean(0))
    assert relative_error(output, truth.output) < 1e-10


@settings(max_examples=100)
@given(st.integers(1, 70), st.integers(1, 20), st.integers(0, 5), st.integers(0, 10**6), st.floats(0, 1), st.booleans())
def test_an_executor_is_attention_under_the_mask_that_its_lists_mean(tokens, size, extra, seed, share, biased):
    """Oracle 5: any lists per head and query block, empty ones too."""
    generator = torch.Generator().manual_seed(seed)
    number = -(-tokens // size)
    q, k, v = random_qkv(tokens + extra, batch=2, heads=2, dim=8, seed=seed)
    chosen = torch.rand(2, 2, number, number, generator=generator) < share
    mask = torch.rand(2, tokens, generator=generator) < 0.8
    bias = torch.randn(2, 1, number, extra, generator=generator, dtype=torch.float64)
    bias = bias.masked_fill(torch.rand(bias.shape, generator=generator) < 0.3, -torch.inf) if biased else None
    seen = chosen.repeat_interleave(size, 2).repeat_interleave(size, 3)[:, :, :tokens, :tokens] & mask[:, None, None]
    logits = q[:, :, :tokens] @ k.transpose(-1, -2) * 0.4
    logits[..., :tokens].masked_fill_(~seen, -torch.inf)
    if bias is not None:
        logits[..., tokens:] += bias.repeat_interleave(size, 2)[:, :, :tokens]
    expected = logits.softmax(-1).nan_to_num(0.0) @ v
    for name in QUICK:
        output = get_executor(name)(
            *(x[:, :, :tokens] for x in (q, k, v)),
            chosen,
            block_size=size,
            key_mask=mask,
            extra_key=k[:, :, tokens:] if extra else None,
            extra_value=v[:, :, tokens:] if extra else None,
            extra_bias=bias if extra else None,
            scale=0.4,
        )
        assert relative_error(output, expected) < 1e-10
