"""What one call of rectified attention did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class AttentionStats:
    """What one call of rectified attention did; shares run from 0 to 1.

    Attributes:
        density: share of the visual key blocks that were really computed, forced neighbours included, as a mean
            over batch, heads and query blocks that hold tokens.
        estimated_recall: attention mass on the chosen blocks and the text, mean over visual queries, as the implicit
            full attention P (IPAR) estimates it; it tends to lie below the true one.
        rectification_factor: mean over visual queries of R, the weight of the exactly computed part; 1 with
            rectify="none". With rectify="centroid" the estimate of that weight by P.
        compensated_share: mean over visual queries of the attention mass that was added back in pooled form.
        executor: name of the executor that ran, "dense" after a fallback.
        fallback: why attention was dense; None when it was sparse.
        recall_per_head: `estimated_recall` of each head, mean over the batch.
        block_map: float32 [heads, query blocks, key blocks], share of the batch that chose the block, in block order;
            only when asked for with return_stats="map".
    """

    density: float
    estimated_recall: float
    rectification_factor: float
    compensated_share: float
    executor: str
    fallback: str | None = None
    recall_per_head: tuple[float, ...] = ()
    block_map: np.ndarray | None = None


def dense_stats(heads: int, reason: str) -> AttentionStats:
    """The stats of a call that fell back to dense attention for this reason."""
    return AttentionStats(1.0, 1.0, 1.0, 0.0, executor="dense", fallback=reason, recall_per_head=(1.0,) * heads)
