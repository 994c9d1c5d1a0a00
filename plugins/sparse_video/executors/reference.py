"""Block-sparse attention in plain PyTorch: simple, on any device, in any float type; the oracle of the others."""

from __future__ import annotations

import torch
from torch import Tensor


class ReferenceExecutor:
    """One query block of one head at a time, over the keys of its chosen blocks only."""

    name = "reference"

    def unavailable(self, device: torch.device, dtype: torch.dtype) -> str | None:
        """None: it runs everywhere, on floating-point tensors."""
        return None if dtype.is_floating_point else f"{dtype} is no floating-point type: convert the tensors first"

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
        """Attend; see `Executor.__call__` for shapes."""
        batch, heads, tokens, _ = query.shape
        blocks = chosen.shape[2]
        if extra_key is not None:
            extra_bias = _expand_bias(extra_bias, (batch, heads, blocks, extra_key.shape[2]), query)
        # Token by token, which keys each query block may see: [batch, heads, query blocks, tokens].
        visible = chosen.repeat_interleave(block_size, dim=-1)[..., :tokens]
        if key_mask is not None:
            visible = visible & key_mask[:, None, None, :]
        output = torch.empty_like(query)
        for b in range(batch):
            for h in range(heads):
                for i in range(blocks):
                    rows = slice(i * block_size, (i + 1) * block_size)
                    seen = visible[b, h, i].nonzero().squeeze(-1)
                    keys, values, bias = key[b, h, seen], value[b, h, seen], None
                    if extra_key is not None and extra_value is not None and extra_bias is not None:
                        bias = torch.cat([extra_bias.new_zeros(len(seen)), extra_bias[b, h, i]])
                        keys = torch.cat([keys, extra_key[b, h]])
                        values = torch.cat([values, extra_value[b, h]])
                    output[b, h, rows] = _softmax_attention(query[b, h, rows], keys, values, bias, scale)
        return output


def _expand_bias(bias: Tensor | None, shape: tuple[int, int, int, int], query: Tensor) -> Tensor:
    dtype = torch.promote_types(query.dtype, torch.float32)
    bias = torch.zeros((), device=query.device) if bias is None else bias
    return bias.to(dtype).expand(shape)


def _softmax_attention(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Softmax attention of [m, d] queries over [n, d] keys; 0 where a query sees no key at all."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    logits = query.to(dtype) @ keys.to(dtype).T * scale
    if bias is not None:
        logits = logits + bias
    if logits.shape[-1] == 0:
        return torch.zeros_like(query)
    highest = logits.amax(dim=-1, keepdim=True)
    # Without a visible key the highest logit is -inf, and -inf - -inf would be NaN.
    weights = (logits - highest.masked_fill(highest.isinf(), 0)).exp()
    total = weights.sum(dim=-1, keepdim=True)
    return (weights @ values.to(dtype) / total.masked_fill(total == 0, 1)).to(query.dtype)
