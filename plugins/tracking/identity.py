"""Training of who is who alone: many meetings a step, and none of the cost of learning to see.

What comes before `Features` stays as it is, so that a batch of clips is looked at once and is good for several steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .boxes import widened
from .clips import ClipBatch
from .losses import decoder_losses
from .modeling_sata import Embedded, Features, SataModel
from .prompts import Prompts
from .rollout import DRIFT, JITTER, WEIGHTS, candidate_masks, gathered, jittered, matching_loss, or_the_first, uniform

AT_ONCE = 6  # frames
PACES = 4  # times as slow as it was, at most
PAUSE = 20  # frames, at most
FORGOTTEN = 0.3  # of what was seen


@dataclass(frozen=True)
class Sighted:
    """What the model makes of a batch of clips, without gradients: features, and masks logits [n, F, h, w] of what its
    objects' boxes point out."""

    features: Features
    masks: torch.Tensor


@torch.no_grad()
def sighted(model: SataModel, batch: ClipBatch, generator: torch.Generator) -> Sighted:
    """Features a few frames at a time, which caches hold, and masks as a session makes them of detected boxes."""
    parts = [
        model.encode(*streams, first=first)
        for *streams, first in zip(
            *(each.split(AT_ONCE) for each in (batch.rgb, batch.other, batch.modality, batch.first)), strict=True
        )
    ]
    fused = [torch.cat(maps) for maps in zip(*(part.fused for part in parts), strict=True)]
    fine, stems = (torch.cat([getattr(part, name) for part in parts]) for name in ("fine", "stems"))
    features = Features(fused, fine, stems, parts[-1].routing)
    drawn = torch.zeros(len(batch.clip), dtype=torch.bool, device=fine.device)
    masks = []
    for frame in range(batch.frames):
        wide = widened(jittered(batch.boxes[:, frame], JITTER, generator), 1 + model.config.box_margin)
        masks.append(model.decode(features, Prompts(batch.clip * batch.frames + frame, wide, drawn)).masks[:, 0])
    return Sighted(features, torch.stack(masks, 1))


def identity_losses(
    model: SataModel, batch: ClipBatch, seen: Sighted, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Who each frame's objects are among all that was seen before, lately or long ago, by name, and `total`.

    In the last frame the decoder is prompted with what is remembered, and learns to read what embeddings have become.
    """
    features, frames = seen.features, batch.frames
    losses: dict[str, list[torch.Tensor]] = {"association": []}
    bank: list[Embedded] = []
    known, last = torch.zeros_like(batch.visible[:, 0]), batch.boxes[:, 0]
    for frame in range(frames):
        visible, source = batch.visible[:, frame], batch.clip * frames + frame
        boxes = jittered(batch.boxes[:, frame], JITTER, generator)
        masks = candidate_masks(seen.masks[:, frame, None], batch.masks[:, frame], generator)
        embedded = embedded_where(model, features, boxes, masks, source, visible)
        if bool((visible & known).any()):
            remembered = model.recall(*gathered(bank), *remembered_when(batch, frame, generator))
            losses["association"].append(matching_loss(model, batch, embedded, remembered, visible, known))
            if frame == frames - 1:
                rows = known.nonzero()[:, 0]
                about = jittered(torch.where(visible[:, None], batch.boxes[:, frame], last), DRIFT, generator)[rows]
                prompts = Prompts(source[rows], about, known[rows], memory=remembered.memory()[rows])
                found = decoder_losses(model.decode(features, prompts), batch.masks[rows, frame], visible[rows])
                for name, value in found.items():
                    losses[name] = [value]
        bank.append(embedded)
        known, last = known | visible, torch.where(visible[:, None], batch.boxes[:, frame], last)
    means = {name: torch.stack(values).mean() for name, values in losses.items() if values}
    nothing = model.temperature * 0
    return means | {"total": sum((WEIGHTS[name] * value for name, value in means.items()), start=nothing)}


def remembered_when(batch: ClipBatch, frame: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """How long ago each frame before this one was, int64 [n, frame], and bool, whether each object's is remembered.

    A clip's time may run slower than it did. In half of the clips nothing of the newest frames is remembered, in half
    of them the last of what is was long ago, and everywhere some is missing; what was seen at all is never forgotten.
    """
    clips, like = int(batch.clip.max()) + 1, batch.boxes
    chance = uniform((3, clips, 1), like, generator)
    place = torch.arange(frame, 0, -1, device=like.device)
    pace, pause = 1 + (chance[0] * PACES).long(), ((2 * chance[1] - 1).clamp_min(0) * PAUSE).long()
    gap = (2 * chance[2] - 1).clamp_min(0) * (frame - 1)
    visible = batch.visible[:, :frame]
    kept = visible & (place > gap)[batch.clip] & (uniform((len(batch.clip), frame), like, generator) > FORGOTTEN)
    kept = torch.where(kept.any(1, keepdim=True), kept, visible)
    return (place * pace + pause)[batch.clip], or_the_first(kept)


def embedded_where(
    model: SataModel,
    features: Features,
    boxes: torch.Tensor,
    masks: torch.Tensor,
    source: torch.Tensor,
    visible: torch.Tensor,
) -> Embedded:
    """Embeddings of what is visible, among which alone attention is; zeros for the others."""
    rows = visible.nonzero()[:, 0]
    found = model.embed(features, boxes[rows], masks[rows], source[rows])

    def filled(part: torch.Tensor) -> torch.Tensor:
        return part.new_zeros(len(visible), *part.shape[1:]).index_copy(0, rows, part)

    return Embedded(filled(found.fine), filled(found.queries), filled(found.signature))
