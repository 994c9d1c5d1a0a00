"""One training step's forward pass: a clip is tracked as a session would, and every stage of it is scored."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .boxes import boxes_of_masks
from .clips import ClipBatch
from .detection import detection_loss, expected_heat
from .encoder import complementary_loss, orthogonal_loss, task_loss
from .losses import association_loss, decoder_losses
from .modeling_sata import Embedded, Features, SataModel
from .prompts import Prompts

JITTER = 0.08  # of a drawn box's sides
DRIFT = 0.2  # of a carried-over box's sides
POINTS = 2
SILENT, OWN = 0.2, 0.4  # of the frames: nothing is expected, or what the head itself finds
UNTOLD, WRONG = 0.15, 0.1  # of the objects: not expected, or elsewhere
WEIGHTS = {"heat": 1.0, "box": 1.0, "mask": 1.0, "affinity": 1.0, "presence": 1.0, "association": 1.0}


def rollout_losses(
    model: SataModel,
    batch: ClipBatch,
    generator: torch.Generator,
    *,
    own_boxes: float = 0.0,
    complementary: bool = False,
    heads_only: bool = False,
) -> dict[str, torch.Tensor]:
    """Every loss of a batch, by name; `total` is their weighted sum.

    Args:
        own_boxes: the share of objects that are prompted with the box of the model's own mask of the frame before
            instead of the true one, as when tracking.
        complementary: with L_CM, which costs a second pass of the encoder.
        heads_only: nothing is learned of what comes before `Features`.
    """
    config = model.config
    features = looked_at(model, batch, heads_only)
    heat, sides = model.detection(features.fused[0], features.stems, expected_where(model, batch, features, generator))
    losses: dict[str, list[torch.Tensor]] = {}
    for name, value in zip(("heat", "box"), detection_loss(heat, sides, frame_boxes(batch)), strict=True):
        losses[name] = [value]
    carried, remembered = batch.boxes[:, 0], None
    known = torch.zeros_like(batch.visible[:, 0])
    bank: list[Embedded] = []
    seen: list[torch.Tensor] = []
    for frame in range(batch.frames):
        source = batch.clip * batch.frames + frame
        visible, truth = batch.visible[:, frame], batch.masks[:, frame]
        memory = None if remembered is None else remembered.memory() * known[:, None, None]
        prompts = frame_prompts(model, features, batch, frame, carried, known, memory, generator)
        found = model.decode(features, prompts)
        for name, value in decoder_losses(found, truth, visible).items():
            losses.setdefault(name, []).append(value)
        embedded = model.embed(
            features,
            jittered(batch.boxes[:, frame], JITTER, generator),
            candidate_masks(found.masks, truth, generator),
            source,
        )
        if remembered is not None and bool(known.any()) and bool(visible.any()):
            losses.setdefault("association", []).append(
                matching_loss(model, batch, embedded, remembered, visible, known)
            )
        bank.append(embedded)
        seen.append(visible)
        known = known | visible
        carried = next_boxes(batch, frame, found.masks[:, 0], carried, own_boxes, generator)
        remembered = recalled(model, bank, seen)
    losses["task"] = [task_loss(features.routing, batch.modality)]
    losses["orthogonal"] = [orthogonal_loss(features.routing)]
    # Summed over the routers: their mean is too weak a pull to keep any one of them from dropping an expert.
    losses["balance"] = [torch.stack(features.routing.balance).sum() if features.routing.balance else heat.sum() * 0]
    if complementary:
        losses["complementary"] = [
            complementary_loss(model.encoder, batch.rgb, batch.other, features.routing, generator)
        ]
    means = {name: torch.stack(values).mean() for name, values in losses.items()}
    weights = WEIGHTS | {
        "task": config.task_weight,
        "orthogonal": config.orthogonal_weight,
        "balance": config.balance_weight,
        "complementary": config.complementary_weight,
    }
    return means | {"total": sum((weights[name] * value for name, value in means.items()), start=heat.sum() * 0)}


def looked_at(model: SataModel, batch: ClipBatch, heads_only: bool) -> Features:
    """The features of all frames of a batch."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not heads_only):
        return model.encode(batch.rgb, batch.other, batch.modality, first=batch.first)


def crowd_losses(
    model: SataModel, batch: ClipBatch, generator: torch.Generator, *, heads_only: bool = False
) -> dict[str, torch.Tensor]:
    """The losses of two frames of each clip, by name, and `total`: detection in both, and who of the second is who of
    the first; `heads_only` as of `rollout_losses`."""
    features = looked_at(model, batch, heads_only)
    expected = expected_where(model, batch, features, generator)
    heat, box = detection_loss(*model.detection(features.fused[0], features.stems, expected), frame_boxes(batch))
    losses = {"crowd_heat": heat, "crowd_box": box, "total": WEIGHTS["heat"] * heat + WEIGHTS["box"] * box}
    first, second = batch.visible[:, 0], batch.visible[:, 1]
    if not (first.any() and second.any()):
        return losses
    before, now = (
        model.embed(
            features,
            jittered(batch.boxes[:, frame], JITTER, generator),
            batch.masks[:, frame],
            batch.clip * batch.frames + frame,
        )
        for frame in range(2)
    )
    association = matching_loss(model, batch, now, recalled(model, [before], [first]), second, first)
    return losses | {
        "crowd_association": association,
        "total": losses["total"] + WEIGHTS["association"] * association,
    }


def frame_boxes(batch: ClipBatch) -> list[torch.Tensor]:
    """The boxes [n, 4] of what is visible, of each of the B * F frames."""
    clips = len(batch.rgb) // batch.frames
    return [
        batch.boxes[(batch.clip == clip) & batch.visible[:, frame], frame]
        for clip in range(clips)
        for frame in range(batch.frames)
    ]


def expected_where(model: SataModel, batch: ClipBatch, features: Features, generator: torch.Generator) -> torch.Tensor:
    """What a session would tell the detection head of each of the B * F frames: [B * F, h, w].

    In some frames nothing is known, as in every first one; in some, what the head finds by itself, mistakes included,
    since those are what a session tells it; in the others, of what is visible a box about where it is, and of what was
    visible before a box where it was, some missing and some wrong.
    """
    boxes, visible = batch.boxes, batch.visible
    before, was = (torch.cat([each[:, :1], each[:, :-1]], 1) for each in (boxes, visible))
    chance = uniform((2, *visible.shape), boxes, generator)
    about = moved(torch.where(visible[..., None], boxes, before).flatten(0, 1), generator)
    extent = about[:, 2:] - about[:, :2]
    astray = about + (extent * (3 * uniform(extent.shape, boxes, generator) - 1.5)).repeat(1, 2)
    told = torch.where((chance[0] < WRONG).flatten()[:, None], astray.clamp(0, 1), about).unflatten(0, visible.shape)
    known = (visible | was) & (chance[1] > UNTOLD)
    with torch.no_grad():
        found = model.detect(features)
    kind = uniform((len(found),), boxes, generator).tolist()
    expected = []
    for frame, own in enumerate(found):
        clip, place = divmod(frame, batch.frames)
        if kind[frame] < SILENT:
            expected.append(boxes[:0, 0])
        elif kind[frame] < SILENT + OWN:
            expected.append(moved(own.boxes, generator))
        else:
            expected.append(told[(batch.clip == clip) & known[:, place], place])
    return expected_heat(expected, *features.stems.shape[2:])


def moved(boxes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Boxes [n, 4] about where they are, some nearer and some farther: edges moved by up to half of their sides."""
    return jittered(boxes, uniform((len(boxes), 1), boxes, generator) / 2, generator)


def frame_prompts(
    model: SataModel,
    features: Features,
    batch: ClipBatch,
    frame: int,
    carried: torch.Tensor,
    known: torch.Tensor,
    memory: torch.Tensor | None,
    generator: torch.Generator,
) -> Prompts:
    """What the objects are prompted with: drawn boxes, masks or points while unknown, later what is carried over."""
    count = len(batch.clip)
    kind = uniform((count,), batch.boxes, generator)
    drawn = jittered(torch.where(batch.visible[:, frame, None], batch.boxes[:, frame], carried), JITTER, generator)
    boxes = torch.where(known[:, None], carried, drawn)
    by_mask = ~known & (kind < 0.25) & batch.visible[:, frame]
    by_point = ~known & (kind > 0.8) & batch.visible[:, frame]
    points, labels = sampled_points(batch.masks[:, frame], generator)
    labels = torch.where(by_point[:, None], labels, -1)
    boxes = torch.where(by_point[:, None], boxes.new_tensor([0.0, 0.0, 1.0, 1.0]), boxes)
    masks = model.mask_prompt(batch.masks[:, frame], features) * by_mask[:, None, None, None]
    return Prompts(batch.clip * batch.frames + frame, boxes, known, points, labels, masks, memory)


def uniform(shape: Sequence[int], like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Numbers in 0..1 where `like` is; the generator stays on the CPU, so that every device draws the same."""
    return torch.rand(tuple(shape), generator=generator).to(like.device)


def jittered(boxes: torch.Tensor, amount: float | torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Boxes [n, 4] whose edges are moved by up to `amount` of their sides."""
    extent = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return (boxes + (2 * uniform(boxes.shape, boxes, generator) - 1) * amount * extent).clamp(0, 1)


def sampled_points(masks: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Points [n, 2, 2] in units of the sides and labels int64 [n, 2]: one inside each mask and one outside."""
    height, width = masks.shape[-2:]
    chance = masks.flatten(1).cpu()
    picks = [torch.multinomial(part + 1e-6, 1, generator=generator)[:, 0] for part in (chance, 1 - chance.clamp(0, 1))]
    cells = torch.stack(picks, 1)
    points = torch.stack([(cells % width + 0.5) / width, (cells // width + 0.5) / height], -1)
    return points.to(masks.device), torch.tensor([1, 0], device=masks.device).expand(len(masks), -1)


def candidate_masks(logits: torch.Tensor, truth: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What candidates are embedded with: the model's own mask for half of them, the true one for the others."""
    own = uniform((len(truth),), truth, generator) < 0.5
    return torch.where(own[:, None, None], logits[:, 0].detach().sigmoid(), truth)


def recalled(model: SataModel, bank: list[Embedded], seen: list[torch.Tensor]) -> Embedded:
    """What n tracklets remember of the frames in which they were visible; of one never visible, its first frame."""
    when = or_the_first(torch.stack(seen, 1))
    age = torch.arange(len(bank), 0, -1, device=when.device).expand(len(when), -1)
    return model.recall(*gathered(bank), age, when)


def or_the_first(when: torch.Tensor) -> torch.Tensor:
    """Of n objects in t frames, bool [n, t]; the first frame alone where there is none."""
    return torch.where(when.any(1, keepdim=True), when, torch.arange(when.shape[1], device=when.device) == 0)


def gathered(bank: list[Embedded]) -> tuple[torch.Tensor, torch.Tensor]:
    """What was seen of n objects in t frames: fine-grained vectors [n, t, d] and query tokens [n, t, q, d]."""
    fine, queries = (torch.stack([getattr(each, name) for each in bank], 1) for name in ("fine", "queries"))
    return fine, queries


def matching_loss(
    model: SataModel,
    batch: ClipBatch,
    embedded: Embedded,
    remembered: Embedded,
    visible: torch.Tensor,
    known: torch.Tensor,
) -> torch.Tensor:
    """Candidates are what is visible, tracklets what was seen before; same object, same id."""
    rows, columns = visible.nonzero()[:, 0], known.nonzero()[:, 0]
    return association_loss(
        embedded.signature[rows],
        remembered.signature[columns],
        batch.clip[rows][:, None] == batch.clip[columns][None],
        rows[:, None] == columns[None],
        model.temperature.exp(),
        model.dustbin.tanh(),
    )


def next_boxes(
    batch: ClipBatch, frame: int, logits: torch.Tensor, carried: torch.Tensor, own: float, generator: torch.Generator
) -> torch.Tensor:
    """The boxes that the next frame is prompted with: the true ones moved a little, or those of the model's masks."""
    true = jittered(torch.where(batch.visible[:, frame, None], batch.boxes[:, frame], carried), DRIFT, generator)
    found = logits.detach() > 0
    mine = torch.where(found.any((1, 2))[:, None], boxes_of_masks(found), carried)
    chosen = uniform((len(true),), true, generator) < own
    return torch.where(chosen[:, None], mine, true)
