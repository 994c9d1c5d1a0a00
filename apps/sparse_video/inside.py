"""A look inside one step, after the clips were timed: which blocks were kept, and how wrong the attention itself is.

It is a run of its own, so that the timed ones stay as they are without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from apps.sparse_video.pictures import block_picture
from core.registry import load_object

if TYPE_CHECKING:
    from apps.sparse_video.watch import Watch
    from apps.sparse_video.work import Request


def look_inside(
    pipe: Any, request: Request, variant: Any, watch: Watch
) -> tuple[dict[str, Any] | None, dict[str, np.ndarray]]:
    """Run to `watch.inside_at` and keep, for each layer of that step, its block map, recall and error.

    Returns:
        What the page shows: `step` (from 0), `of` (steps), `variant` (label), `layers`: rows with `layer`, `density`,
        `recall` and `densities` (per head), `rectification_factor`, `compensated_share`, `maps` (per head, data URIs),
        `errors` (relative, by method); None where attention was dense throughout, as with a clip too short for
        sparsity. Then the maps as arrays [heads, blocks, blocks], by the layer's name.
    """
    step = watch.inside_at
    clip = request.arguments()
    sizes = {name: clip.get(name) or pipe.default(name) for name in ("num_frames", "height", "width")}
    meter = _ErrorMeter(pipe.geometry.grid(**sizes))
    handles: list[Any] = []

    def on_handle(handle: Any) -> None:
        handles.append(handle)
        handle.watch(step=step)
        handle.on_attention(meter, steps=[step])

    def after_step(pipeline: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        watch.inside_step()
        if index >= step:
            pipeline.interrupt()
        return {}

    pipe(
        request.prompt,
        seed=request.seed,
        output_type="latent",
        on_handle=on_handle,
        callback_on_step_end=after_step,
        **clip,
        **variant.arguments(pipe),
    )
    records = [record for record in handles[0].stats().records if _shown(record, step)] if handles else []
    if not records:
        return None, {}
    maps = {record.layer: handles[0].block_map(record.layer, record.model) for record in records}
    layers = [_layer(record, maps[record.layer], meter.errors.get(record.layer, {})) for record in records]
    summary = {"step": step, "of": watch.steps, "variant": variant.label, "layers": layers}
    return summary, {f"layer_{layer}": kept for layer, kept in maps.items()}


def _shown(record: Any, step: int) -> bool:
    return record.step == step and record.cfg_call == 0 and record.stats.fallback is None


def _layer(record: Any, kept: np.ndarray, errors: dict[str, float]) -> dict[str, Any]:
    stats = record.stats
    return {
        "layer": record.layer,
        "density": stats.density,
        "recall": list(stats.recall_per_head),
        "rectification_factor": stats.rectification_factor,
        "compensated_share": stats.compensated_share,
        "densities": [float(np.mean(head)) for head in kept],
        "maps": [block_picture(head) for head in kept],
        "errors": errors,
    }


class _ErrorMeter:
    """Given what a layer attends with, keeps how far each sparse way is from dense attention.

    Attributes:
        errors: by layer, then by method: |sparse - dense| / |dense| over all tokens and heads.
    """

    def __init__(self, grid: tuple[int, int, int]) -> None:
        self.errors: dict[int, dict[str, float]] = {}
        self._grid = grid
        self._measure = load_object("plugins.sparse_video.compare:attention_errors")

    def __call__(self, layer: int, step: int, query: Any, key: Any, value: Any, config: Any) -> None:
        if layer not in self.errors:  # else the other call of classifier-free guidance
            self.errors[layer] = self._measure(query, key, value, config, self._grid)
