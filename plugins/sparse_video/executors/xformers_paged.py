"""Sparse attention by xformers' paged kernels: a list of key blocks is a page table.

Page tables are shared by all heads of a call, lists are not: so heads are folded into sequences. Keys and values
[B, H, N, block, d] are B * H * N pages of one head; each (batch, head, query block) is one sequence of `block` queries
whose page table holds its chosen blocks. Extra keys (text, centroids) are a second part, merged by log-sum-exp.
Opt-in: FlashAttention 3 (package flash_attn_3) is what makes it fast; without it the kernel is one for decoding.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import SparseVideoInputError

MODULES = ("xformers.ops.fmha", "mslk.attention.fmha")  # newer xformers only re-exports the second
# Tried in this order; other kernels of xformers take no page tables, or only pages of 256 tokens.
KERNELS = ("flash3", "triton_splitk")
PAGE_MULTIPLE = 64  # of both kernels, tokens
EXTRA_BYTES = 256 << 20  # of the logits of extra keys that are computed at a time
OTHERWISE = "use executor='flex' or 'gather'"


@dataclass(frozen=True)
class PageTables:
    """Pages by sequence; sequence (b * H + h) * N + i is query block i of head h of batch b.

    Attributes:
        pages: int32 [B * H * N, longest], page numbers (b * H + h) * N + j, ascending; past the end any page.
        key_lengths: int32 [B * H * N], keys in the pages of each sequence; cuts the last, short block.
    """

    pages: Tensor
    key_lengths: Tensor


def build_page_tables(chosen: Tensor, tokens: int, block_size: int) -> PageTables:
    """Page tables of the chosen blocks, bool [B, H, N, N], of which the last one may be short."""
    batch, heads, blocks, _ = chosen.shape
    counts = torch.full((blocks,), block_size, dtype=torch.int32, device=chosen.device)
    counts[-1] = tokens - (blocks - 1) * block_size
    longest = max(1, int(chosen.sum(-1).max()))
    # Ascending, so that the short block comes last, where the length can cut it.
    lists = chosen.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[..., :longest]
    first = torch.arange(batch * heads, device=chosen.device).view(batch, heads, 1, 1) * blocks
    pages = (lists + first).flatten(0, 2).to(torch.int32)
    return PageTables(pages.contiguous(), (chosen * counts).sum(-1, dtype=torch.int32).flatten())


class XformersExecutor:
    """xformers' memory_efficient_attention_partial with page tables, plus merge_attentions; CUDA only."""

    name = "xformers"

    def unavailable(self, device: torch.device, dtype: torch.dtype) -> str | None:
        """None, or why this executor cannot run there."""
        if device.type != "cuda":
            return f"xformers' paged kernels run on CUDA, not on {device.type}: {OTHERWISE}"
        if not torch.cuda.is_available():
            return f"torch {torch.__version__} finds no usable GPU: {OTHERWISE}"
        if dtype not in (torch.bfloat16, torch.float16):
            return f"xformers' paged kernels work in bfloat16 and float16, not in {dtype}: {OTHERWISE}"
        fmha = _find_fmha()
        if fmha is None:
            return f"xformers is not installed (pip install -r requirements-gpu.txt): {OTHERWISE}"
        if _find_kernel(fmha, device) is None:
            return f"none of xformers' kernels with page tables ({', '.join(KERNELS)}) works on this GPU: {OTHERWISE}"
        return None

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
        """See `base.Executor`: [B, H, S, d] in, the same out; visual tokens must all be valid."""
        if block_size % PAGE_MULTIPLE:
            raise SparseVideoInputError(
                f"block_size is {block_size}, xformers' pages are multiples of {PAGE_MULTIPLE} tokens: {OTHERWISE}"
            )
        if key_mask is not None and not bool(key_mask.all()):
            raise SparseVideoInputError(f"xformers' pages cannot leave out single visual tokens: {OTHERWISE}")
        fmha = _find_fmha()
        kernel = None if fmha is None else _find_kernel(fmha, query.device)
        if fmha is None or kernel is None:
            reason = self.unavailable(query.device, query.dtype)
            raise SparseVideoInputError(f"executor 'xformers' does not work here: {reason}")
        tables = build_page_tables(chosen, query.shape[2], block_size)
        folded = [_fold(tensor, block_size) for tensor in (query, key, value)]
        bias = _paged_bias(fmha, tables, block_size)
        out, lse = fmha.memory_efficient_attention_partial(*folded, attn_bias=bias, scale=scale, op=kernel)
        out, lse = silence_unseen(out, lse.reshape(1, 1, -1), tables.key_lengths, block_size)
        if extra_key is not None and extra_value is not None:
            extra = attend_extras(query, extra_key, extra_value, extra_bias, block_size, scale)
            parts = [out, extra[0].to(out.dtype)], [lse, extra[1].to(lse.dtype)]
            out, _ = fmha.merge_attentions(*parts, write_lse=False)
        return _unfold(out, query, block_size).to(query.dtype)


def _fold(tensor: Tensor, block_size: int) -> Tensor:
    """[B, H, S, d] as [1, B * H * N * block, 1, d], the last block padded."""
    padded = pad(tensor, (0, 0, 0, -tensor.shape[2] % block_size))
    return padded.reshape(1, -1, 1, tensor.shape[-1])


def _unfold(folded: Tensor, like: Tensor, block_size: int) -> Tensor:
    batch, heads, tokens, dim = like.shape
    return folded.reshape(batch, heads, tokens + -tokens % block_size, dim)[:, :, :tokens]


def silence_unseen(out: Tensor, lse: Tensor, key_lengths: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """Output 0 and a log-sum-exp that loses every merge for queries whose page list is empty."""
    unseen = (key_lengths == 0).repeat_interleave(block_size)
    return out.masked_fill(unseen[None, :, None, None], 0), lse.masked_fill(unseen, -1e30)


def attend_extras(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, block_size: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention of every query over the extra keys alone, a few query blocks at a time.

    Returns:
        Output [1, B * H * N * block, 1, d] and natural log-sum-exp [1, 1, B * H * N * block], both fp32; 0 and -1e30
        where no extra key is seen.
    """
    rows = pad(query, (0, 0, 0, -query.shape[2] % block_size)).unflatten(2, (-1, block_size))
    batch, heads, blocks, _, dim = rows.shape
    extras = key.shape[2]
    bias = torch.zeros((), device=query.device) if bias is None else bias
    bias = bias.to(torch.float32).expand(batch, heads, blocks, extras)
    out = torch.empty(batch, heads, blocks, block_size, dim, device=query.device)
    lse = torch.empty(batch, heads, blocks, block_size, device=query.device)
    step = max(1, EXTRA_BYTES // (4 * batch * heads * block_size * extras))
    for start in range(0, blocks, step):
        part = slice(start, start + step)
        logits = torch.einsum("bhnqd,bhed->bhnqe", rows[:, :, part], key).float() * scale + bias[:, :, part, None]
        lse[:, :, part] = logits.logsumexp(-1).clamp_min(-1e30)
        weights = (logits - lse[:, :, part, :, None]).exp().to(value.dtype)
        out[:, :, part] = torch.einsum("bhnqe,bhed->bhnqd", weights, value).float()
    return out.reshape(1, -1, 1, dim), lse.reshape(1, 1, -1)


def _find_fmha() -> ModuleType | None:
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError, RuntimeError):  # also a build for another torch or CUDA
            continue
        if hasattr(module, "memory_efficient_attention_partial") and hasattr(module, "merge_attentions"):
            return module
    return None


def _find_kernel(fmha: ModuleType, device: torch.device) -> Any | None:
    """The first kernel with page tables that is installed and made for this GPU."""
    capability = torch.cuda.get_device_capability(device)
    for name in KERNELS:
        operator = getattr(getattr(fmha, name, None), "FwOp", None)
        if operator is None or not operator.is_available():
            continue
        lowest = getattr(operator, "CUDA_MINIMUM_COMPUTE_CAPABILITY", (5, 0))
        highest = getattr(operator, "CUDA_MAXIMUM_COMPUTE_CAPABILITY", None) or (99, 0)
        if lowest <= capability <= highest:
            return operator
    return None


def _paged_bias(fmha: ModuleType, tables: PageTables, block_size: int) -> Any:
    """xformers' description of the lists; it wants the lengths as Python numbers, which waits for the device."""
    build = fmha.attn_bias.PagedBlockDiagonalPaddedKeysMask.from_seqlens
    lengths = tables.key_lengths.tolist()
    device = {"device": tables.pages.device} if "device" in inspect.signature(build).parameters else {}
    return build(
        q_seqlen=[block_size] * len(lengths),
        kv_seqlen=lengths,
        block_tables=tables.pages,
        page_size=block_size,
        **device,
    )
