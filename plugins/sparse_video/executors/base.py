"""What every executor of block-sparse attention does."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Executor(Protocol):
    """Softmax attention of each query block over the key blocks chosen for it and over the extra keys."""

    name: str

    def unavailable(self, device: torch.device, dtype: torch.dtype) -> str | None:
        """Why it does not run here and what to do, in one sentence; None where it runs."""
        ...

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
        """Attend.

        Args:
            query, key, value: visual tokens in block order, [batch, heads, tokens, head_dim]; tokens need not be a
                multiple of block_size, the last block may be short.
            chosen: bool [batch, heads, query blocks, key blocks].
            block_size: tokens in a block.
            key_mask: bool [batch, tokens], False where a visual key is no token; None: all are tokens.
            extra_key, extra_value: [batch, heads, extra, head_dim], keys that every query sees besides its blocks.
            extra_bias: added to the scaled logits of the extra keys, broadcastable to [batch, heads, query blocks,
                extra], natural logarithm, -inf where a key is not seen; None: 0.
            scale: factor of the dot products.

        Returns:
            [batch, heads, tokens, head_dim] in the query's dtype; a query that sees no key gets 0.
            Softmax statistics are in fp32, or in fp64 for fp64 inputs.
        """
        ...
