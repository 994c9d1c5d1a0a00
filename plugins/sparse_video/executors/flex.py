"""Sparse attention by compiled FlexAttention with explicit block lists, on a CPU and on CUDA.

Never eager: uncompiled FlexAttention ignores the block lists and computes dense attention without a word. New lists of
the same shape need no new compilation; a new number of tokens, heads, samples or extra keys does, six to fifteen
seconds on a CPU. How many there may be in a process is torch's own limit (`torch._dynamo.config.recompile_limit`, 8
unless changed); past it the call fails and says so.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import SparseVideoInputError

TILE = 128  # FlexAttention's own on CUDA; smaller blocks have to say so
OTHERWISE = "use executor='gather', which needs no compiler"
CPU_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True)
class BlockLists:
    """Key blocks by (batch, head, query block): counts int32 [B, H, N], indices int32 [B, H, N, N + M]."""

    counts: Tensor
    indices: Tensor

    @classmethod
    def from_map(cls, chosen: Tensor) -> BlockLists:
        """Lists of the True entries of bool [B, H, N, N + M], ascending."""
        indices = chosen.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
        return cls(chosen.sum(-1, dtype=torch.int32), indices.to(torch.int32))


class FlexExecutor:
    """Compiled FlexAttention: the partial-block form with a mask on a CPU, the full-block form on CUDA."""

    name = "flex"

    def unavailable(self, device: torch.device, dtype: torch.dtype) -> str | None:
        """None, or why this executor cannot run there, as far as can be said without compiling."""
        if importlib.util.find_spec("torch.nn.attention.flex_attention") is None:
            return f"this torch ({torch.__version__}) has no FlexAttention: {OTHERWISE}"
        if _compilation_is_off():
            return f"torch.compile is switched off, and uncompiled FlexAttention ignores block lists: {OTHERWISE}"
        if device.type == "cpu":
            return _unavailable_on_cpu(dtype)
        if device.type == "cuda":
            return _unavailable_on_cuda(dtype)
        return f"FlexAttention compiles for CPUs and CUDA, not for {device.type}: {OTHERWISE}"

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        chosen: Tensor,
        *,
        block_size: int,
        key_mask: Tensor | None = None,
        extra_key: Tensor | None = None,
        extra_value: Tensor | None = None,
        extra_bias: Tensor | None = None,
        scale: float,
    ) -> Tensor:
        """See `base.Executor`: [B, H, S, d] in, the same out."""
        if reason := self.unavailable(query.device, query.dtype):
            raise SparseVideoInputError(f"executor 'flex' does not work here: {reason}")
        tokens, blocks = query.shape[2], chosen.shape[2]
        first_extra = blocks * block_size
        valid = _valid_keys(key, key_mask, first_extra, extra_key, block_size)
        seen = chosen & valid[:, :first_extra].unflatten(1, (blocks, -1)).any(-1)[:, None, None]
        bias, table = None, seen
        if extra_key is not None and extra_value is not None:
            bias = _padded_bias(extra_bias, extra_key, blocks, valid.shape[1] - first_extra)
            key = torch.cat([pad(key, (0, 0, 0, first_extra - tokens)), _whole(extra_key, block_size)], dim=2)
            value = torch.cat([pad(value, (0, 0, 0, first_extra - tokens)), _whole(extra_value, block_size)], dim=2)
            table = torch.cat([seen, (bias > -torch.inf).unflatten(-1, (-1, block_size)).any(-1)], dim=-1)
        valid = valid[:, : key.shape[2]]
        out = self._run(query, key, value, table, valid, bias, block_size, first_extra, scale)
        rows_seen = table.any(-1).repeat_interleave(block_size, dim=-1)[..., :tokens]
        return out.masked_fill_(~rows_seen[..., None], 0)

    def _run(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        table: Tensor,
        valid: Tensor,
        bias: Tensor | None,
        block_size: int,
        first_extra: int,
        scale: float,
    ) -> Tensor:
        on_cuda = query.device.type == "cuda"
        whole, part = None, BlockLists.from_map(table)
        if on_cuda:  # blocks whose every key is valid need no mask; on a CPU that form does not compile (torch 2.13)
            full = pad(valid, (0, table.shape[-1] * block_size - valid.shape[1])).unflatten(1, (-1, block_size)).all(-1)
            whole, part = (BlockLists.from_map(table & mask[:, None, None]) for mask in (full, ~full))
        from torch._dynamo import config, exc

        try:
            return _compiled()(query, key, value, table, valid, bias, part, whole, block_size, first_extra, scale)
        except exc.FailOnRecompileLimitHit as error:
            raise SparseVideoInputError(
                f"FlexAttention has been compiled for {config.recompile_limit} different shapes in this "
                f"process, which is torch's limit (torch._dynamo.config.recompile_limit): raise it, or {OTHERWISE}"
            ) from error
        except exc.TorchDynamoException as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            said = lines[0] if lines else repr(error)
            raise SparseVideoInputError(f"FlexAttention does not compile here ({said}): {OTHERWISE}") from error


@cache
def _compiled() -> Callable[..., Tensor]:
    """`_flex` compiled for each shape by itself; fullgraph, so that it fails where it would turn eager."""
    # With dynamic shapes the C++ that torch 2.13 writes for a captured bias or for two samples does not compile.
    return torch.compile(_flex, dynamic=False, fullgraph=True)


def _flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: Tensor,
    valid: Tensor,
    bias: Tensor | None,
    part: BlockLists,
    whole: BlockLists | None,
    block_size: int,
    first_extra: int,
    scale: float,
) -> Tensor:
    """The call of FlexAttention; keys from first_extra on are extras with bias [B, H, N, M * block]."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    if not torch.compiler.is_compiling():
        raise RuntimeError("FlexAttention was about to run uncompiled, where it ignores block lists")

    def is_seen(batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        # The lists already leave out blocks that are not chosen; should they be ignored, the result is still right.
        return valid[batch, column] & table[batch, head, row // block_size, column // block_size]

    def add_bias(score: Tensor, batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        assert bias is not None
        extra = torch.clamp(column - first_extra, min=0)
        return torch.where(column >= first_extra, score + bias[batch, head, row // block_size, extra], score)

    mask = BlockMask.from_kv_blocks(
        part.counts,
        part.indices,
        None if whole is None else whole.counts,
        None if whole is None else whole.indices,
        BLOCK_SIZE=block_size,
        mask_mod=is_seen,
        seq_lengths=(query.shape[2], key.shape[2]),
        compute_q_blocks=False,
    )
    tiles: Any = {"BLOCK_M": block_size, "BLOCK_N": block_size} if query.is_cuda and block_size % TILE else None
    score = None if bias is None else add_bias
    return flex_attention(query, key, value, score, mask, scale, kernel_options=tiles)


def _compilation_is_off() -> bool:
    if os.environ.get("TORCH_COMPILE_DISABLE") == "1":
        return True
    config = sys.modules.get("torch._dynamo.config")  # not imported for this: it takes a second
    return config is not None and bool(config.disable)


def _valid_keys(
    key: Tensor, key_mask: Tensor | None, first_extra: int, extra_key: Tensor | None, block_size: int
) -> Tensor:
    """Bool [B, columns]: visual keys padded to whole blocks, then extras, whose padding the bias rules out."""
    batch, _, tokens, _ = key.shape
    valid = torch.ones(batch, tokens, dtype=torch.bool, device=key.device) if key_mask is None else key_mask
    valid = pad(valid, (0, first_extra - tokens))
    extras = 0 if extra_key is None else -(-extra_key.shape[2] // block_size) * block_size
    return pad(valid, (0, extras), value=True)


def _whole(tensor: Tensor, block_size: int) -> Tensor:
    """[B, H, E, d] padded to whole blocks."""
    return pad(tensor, (0, 0, 0, -tensor.shape[2] % block_size))


def _padded_bias(bias: Tensor | None, extra_key: Tensor, blocks: int, width: int) -> Tensor:
    """Float32 [B, H, N, width], -inf past the last extra."""
    batch, heads, extras, _ = extra_key.shape
    bias = torch.zeros((), device=extra_key.device) if bias is None else bias
    bias = bias.to(torch.float32).expand(batch, heads, blocks, extras)
    return pad(bias, (0, width - extras), value=-torch.inf)


def _unavailable_on_cpu(dtype: torch.dtype) -> str | None:
    if dtype not in CPU_DTYPES:
        return f"FlexAttention on a CPU works in bfloat16, float16 and float32, not in {dtype}: {OTHERWISE}"
    if "AVX" not in torch.backends.cpu.get_cpu_capability():
        return f"FlexAttention on a CPU needs AVX2: {OTHERWISE}"
    compilers = [name for name in (os.environ.get("CXX"), "g++", "clang++", "cl") if name]
    if not any(shutil.which(name) for name in compilers):
        return f"there is no C++ compiler (looked for {', '.join(compilers)}): install one, or {OTHERWISE}"
    return None


def _unavailable_on_cuda(dtype: torch.dtype) -> str | None:
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no usable GPU: {OTHERWISE}"
    if importlib.util.find_spec("triton") is None:
        return f"Triton is not installed, with which FlexAttention compiles for CUDA: {OTHERWISE}"
    if dtype not in CPU_DTYPES:
        return f"FlexAttention works in bfloat16, float16 and float32, not in {dtype}: {OTHERWISE}"
    return None
