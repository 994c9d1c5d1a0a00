"""What a call of SparseVideoPipeline gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffusers.utils import BaseOutput

if TYPE_CHECKING:
    from .handle import HandleStats


@dataclass
class SparseVideoOutput(BaseOutput):
    """Frames, what attention did, and the record of the run.

    Attributes:
        frames: float32 [batch, frames, height, width, 3] in 0..1 for output_type "np"; a tensor
            [batch, frames, 3, height, width] in 0..1 for "pt"; one list of images per clip for "pil"; the latents
            [batch, channels, latent frames, latent height, latent width] for "latent".
        stats: density, estimated recall and correction per layer and step; None with attention="dense".
        run: JSON-able. `params` (what the call was given, defaults filled in), `seed` and `seeds` (one per clip),
            `device`, `dtype`, `attention` (dense backend and why), `executor` (of the sparse part, and why), `timings`
            and `step_seconds` in seconds, `peak_memory_bytes`, `tokens` (visual), `grid` (of tokens: time, height,
            width), `density` (share of key blocks really computed), `steps_done`, `interrupted`, `warnings`.
    """

    frames: Any
    stats: HandleStats | None
    run: dict[str, Any]
