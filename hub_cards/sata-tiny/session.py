"""A tracking session: the state of one video, held by the caller, and the step from one frame to the next.

All four tasks are the same loop and end in the same instances (section 3.1). Memory does not grow with the video.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import InitVar, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .boxes import boxes_of_masks, widened
from .candidates import Candidates, alone, candidates_of, distinct, mask_overlap, overlap_with_expected, unlike
from .decoder import Decoded
from .errors import TrackingError
from .image_processing_sata import LONGEST, SataImageProcessor
from .matching import assign
from .modeling_sata import Embedded, Features, SataModel
from .prompts import Prompts
from .results import TASKS, FrameInstances
from .session_prompts import PROMPTED, Prompt, checked_box, checked_mask, checked_points
from .tracklets import Tracklet, banks

FIRST_AUTOMATIC_ID = 1
GLIMPSED = 3  # frames for which an object is shown that is seen where it should be, but not detected
COVERED = 0.5  # IoU with a detection's mask from which it is that one
SMALL_SIDE = 256  # pixels; up to here a frame is not worth sharing out


@dataclass(frozen=True)
class Looked:
    """A frame of a video as the model sees it: (height, width) in pixels, and features."""

    size: tuple[int, int]
    features: Features


@dataclass
class SataSession:
    """Start one with `SataPipeline.start_session`.

    Attributes:
        task: "sot", "vos", "mot" or "mots".
        longest: the longer side at which frames are looked at, in pixels; where there is no `image_processor`.
        frame: the number of the next frame, from 0.
        size: height and width of the video; unknown before the first frame.
        tracklets: by id, what is being tracked.
        prompts: those whose frame has not come yet.
        modalities: the sensors that are looked at; all where None.
        image_processor: makes tensors of frames.
        lock: held while the model looks; sessions that share a model share it, for its experts note what they do.
        experts: per block, {"common": [experts], modality: [experts]}, how often each expert was selected so far.
    """

    model: SataModel
    task: str
    longest: InitVar[int] = LONGEST
    frame: int = 0
    size: tuple[int, int] | None = None
    tracklets: dict[int, Tracklet] = field(default_factory=dict)
    prompts: list[Prompt] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    last: FrameInstances | None = None
    modalities: tuple[str, ...] | None = None
    image_processor: Any = None
    lock: AbstractContextManager[Any] = field(default_factory=threading.Lock)
    experts: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def __post_init__(self, longest: int) -> None:
        if self.task not in TASKS:
            raise TrackingError(f"unknown task {self.task!r}: choose {', '.join(TASKS)}")
        known = tuple(self.model.config.modalities)
        if self.modalities is not None:
            self.modalities = checked_modalities(self.modalities, known)
        if self.image_processor is None:
            stride = self.model.encoder.stride
            self.image_processor = SataImageProcessor(
                size={"longest_edge": longest}, size_divisor=stride, modalities=known
            )

    def add_prompt(
        self,
        id: int,
        *,
        box: tuple[float, float, float, float] | None = None,
        mask: np.ndarray | None = None,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        frame: int | None = None,
    ) -> int:
        """Ask for an object from a frame on; returns that frame's number.

        Args:
            id: comes back verbatim in every result.
            box: (x0, y0, x1, y1) in pixels. mask: bool [H, W]. points: [p, 2] (x, y) in pixels with `labels` [p], 1 on
                the object and 0 beside it. One of the three.
            frame: on which it was drawn, the next one unless given, or a later one. If no sensor gives anything then,
                the object is looked for in the first frame in which one does.

        Raises:
            TrackingError: none or several of them, an id that is in use, a frame that is over, a box outside the frame
                or without area (once the size of the frames is known).
        """
        prompt = Prompt(id, self.frame if frame is None else frame, box, mask, points, labels)
        if prompt.frame < self.frame:
            raise TrackingError(
                f"frame {prompt.frame} is over, the next one is {self.frame}: prompt for that one or a later one"
            )
        if prompt.id in self.used:
            raise TrackingError(f"id {id} is in use or was: choose another one")
        if self.size is not None:
            prompt.check(*self.size)
        self.prompts.append(prompt)
        self.used.add(prompt.id)
        return prompt.frame

    def remove(self, id: int) -> None:
        """Forget an object, or a prompt whose frame has not come yet; its id is not used again."""
        waiting = [prompt for prompt in self.prompts if prompt.id != id]
        if id not in self.tracklets and len(waiting) == len(self.prompts):
            raise TrackingError(f"no object {id} is being tracked: {sorted(self.tracklets) or 'none'} are")
        self.prompts = waiting
        self.tracklets.pop(id, None)

    def step(self, frames: Mapping[str, np.ndarray | None]) -> FrameInstances:
        """Track through one more frame.

        Args:
            frames: sensor to uint8 [H, W, 3], aligned; a sensor that is off is left out or None. With none at all the
                last result is held and marked stale.

        Raises:
            TrackingError: for a frame that is not one, or a size that changed; the session stays as it was.
        """
        return self.take(self.look(frames))

    def look(self, frames: Mapping[str, np.ndarray | None]) -> Looked | None:
        """What the model sees in a frame, which depends on no other: it may be called ahead, on another thread.

        Args and errors as of `step`; None where no sensor gives anything.
        """
        checked_modalities(frames, tuple(self.model.config.modalities))
        chosen = {name: frame for name, frame in frames.items() if self.modalities is None or name in self.modalities}
        if all(frame is None for frame in chosen.values()):
            return None
        inputs = self.image_processor(chosen)
        height, width = inputs.pop("original_sizes")[0].tolist()
        with self.lock, torch.inference_mode(), self.enough_threads():
            return Looked((height, width), self.model.features(**inputs.to(self.model.device)))

    def take(self, looked: Looked | None) -> FrameInstances:
        """Follow everything into the next frame, which was looked at. Raises TrackingError as `step` does."""
        if looked is None:
            return self.held()
        if self.size not in (None, looked.size):
            raise TrackingError(f"frame {self.frame} is {looked.size}, those before were {self.size}: resize it")
        for prompt in self.prompts:
            prompt.check(*looked.size)
        self.size = looked.size
        with torch.inference_mode(), self.enough_threads():
            self.count_experts(looked.features)
            self.begin_prompted(looked.features, self.follow(looked.features))
        self.frame += 1
        self.last = self.instances()
        return self.last

    @contextmanager
    def enough_threads(self) -> Generator[None]:
        """One torch thread for small frames on a CPU: waking others costs more than they bring.

        At 128 x 128 on two cores, with workers that sleep (OMP_WAIT_POLICY=passive), a frame takes half as long again,
        or more, with two; with workers that spin it is much the same, until something else runs too.
        """
        threads = torch.get_num_threads()
        side = self.image_processor.size["longest_edge"]
        if self.model.device.type != "cpu" or side > SMALL_SIDE or threads == 1:
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def held(self) -> FrameInstances:
        """The last result once more, marked stale, where no sensor gave anything."""
        if self.last is None:
            raise TrackingError(f"frame {self.frame}, the first one, has no sensor at all: start where there is one")
        self.frame += 1
        last = self.last.select(self.tracklets)
        return FrameInstances(last.ids, last.xyxy, last.masks, last.scores, np.ones(len(last), bool))

    def count_experts(self, features: Features) -> None:
        """Add what the experts of this frame were selected for."""
        loads = features.routing.loads
        self.experts = self.experts or [{} for _ in loads]
        for total, load in zip(self.experts, loads, strict=True):
            for name, selected in load.items():
                total[name] = total[name] + selected if name in total else selected

    def follow(self, features: Features) -> Candidates:
        """Candidates, their embeddings, the matching, and what comes of it; returns the candidates.

        Detections are what MOT and MOTS go by; their masks are drawn again by what is remembered of the objects that
        they turn out to be. Where objects were prompted for, which may be of no kind that is detected, the masks
        carried on from the frame before come after them (section 3.3).
        """
        config = self.model.config
        tracklets = list(self.tracklets.values())
        for tracklet in tracklets:
            tracklet.glimpse = None
        remembered = self.model.recall(*banks(tracklets, self.frame)) if tracklets else None
        found = [self.detected(features, tracklets)]
        if remembered is not None and self.task in PROMPTED:
            found.append(self.propagated(features, tracklets, remembered))
        candidates = distinct(Candidates.joined(found))
        embedded = self.embedded(features, candidates)
        matched: dict[int, int] = {}
        if remembered is not None:
            if embedded is not None:
                score = self.model.affinity(embedded, remembered)
                score = score + config.motion_weight * overlap_with_expected(candidates, tracklets)
                matched = dict(assign(score, config.match_threshold))
            if self.task not in PROMPTED:
                candidates = self.drawn_again(features, candidates, tracklets, remembered, matched)
                embedded = self.embedded(features, candidates) if matched else embedded
        for row, column in matched.items():
            assert embedded is not None
            self.update(tracklets[column], candidates, embedded, row)
        for column, tracklet in enumerate(tracklets):
            if column not in matched.values():
                tracklet.missed += 1
                if tracklet.missed > config.max_missed_frames:
                    del self.tracklets[tracklet.id]
        if self.task not in PROMPTED and embedded is not None:
            self.begin_detected(candidates, embedded, matched)
        return candidates

    def embedded(self, features: Features, candidates: Candidates) -> Embedded | None:
        """What candidates look like, each beside the others; None where there are none."""
        if not len(candidates):
            return None
        source = torch.zeros(len(candidates), dtype=torch.int64, device=candidates.boxes.device)
        return self.model.embed(features, candidates.boxes, candidates.masks, source)

    def drawn_again(
        self,
        features: Features,
        candidates: Candidates,
        tracklets: list[Tracklet],
        remembered: Embedded,
        matched: Mapping[int, int],
    ) -> Candidates:
        """The candidates, those that were matched with masks by what is remembered: where two that look alike touch,
        a box alone does not say which of them is meant.

        An object that was not detected, but was lately, is looked for in the same way where it should be; one that is
        seen there is shown, for a few frames, without a say in where it is going or how it looks.
        """
        lost = [
            column
            for column, tracklet in enumerate(tracklets)
            if column not in matched.values() and tracklet.missed < GLIMPSED
        ]
        columns = [*matched.values(), *lost]
        if not columns:
            return candidates
        rows = list(matched)
        boxes = torch.cat([candidates.boxes[rows], *(tracklets[column].expected_box()[None] for column in lost)])
        decoded = self.decoded(features, boxes, remembered.memory()[columns])
        drawn = candidates_of(decoded, 0.0, every_mask=False)
        there = (drawn.masks > 0.5).any(2).any(1)
        masks = candidates.masks.clone()
        masks[rows] = torch.where(there[: len(rows), None, None], drawn.masks[: len(rows)], masks[rows])
        sure = decoded.affinity[:, 0].sigmoid() > self.model.config.mask_affinity_threshold
        alike = mask_overlap(drawn.masks, masks) > COVERED
        seen = there & (decoded.presence > 0) & sure & ~alike.any(1)
        for place, column in enumerate(lost, len(rows)):
            if seen[place]:
                tracklets[column].glimpsed(drawn.boxes[place], drawn.masks[place], float(drawn.scores[place]))
        return replace(candidates, masks=masks)

    def decoded(self, features: Features, boxes: torch.Tensor, memory: torch.Tensor | None = None) -> Decoded:
        """Masks of what is in boxes [n, 4]: of whatever it is, or of what the memory [n, 1 + q, d] is of."""
        source = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        carried = torch.full((len(boxes),), memory is not None, device=boxes.device)
        return self.model.decode(features, Prompts(source, boxes, carried, memory=memory))

    def propagated(self, features: Features, tracklets: list[Tracklet], remembered: Embedded) -> Candidates:
        """Masks of what is tracked, and of what looks like it: those above both thresholds (section 3.3)."""
        boxes = torch.stack([tracklet.expected_box() for tracklet in tracklets])
        decoded = self.decoded(features, boxes, remembered.memory())
        return candidates_of(decoded, self.model.config.mask_affinity_threshold, every_mask=True)

    def detected(self, features: Features, tracklets: list[Tracklet]) -> Candidates:
        """Instances that nobody asked for; what is tracked is looked for.

        Also where a mask is carried on: without them, or with their boxes alone, what is carried on drifts.
        """
        recent = [tracklet.expected_box() for tracklet in tracklets if tracklet.foreseen]
        (found,) = self.model.detect(features, [torch.stack(recent)] if recent else None)
        wide = widened(found.boxes, 1 + self.model.config.box_margin)
        refined = candidates_of(self.decoded(features, wide), 0.0, every_mask=False)
        return Candidates(found.boxes, refined.masks, found.scores, torch.ones_like(refined.detected))

    def update(self, tracklet: Tracklet, candidates: Candidates, embedded: Embedded, row: int) -> None:
        """A tracklet was found again: it moves, and remembers how it looks now."""
        tracklet.seen(candidates.boxes[row], candidates.masks[row], float(candidates.scores[row]))
        tracklet.remember(embedded.fine[row], embedded.queries[row], self.frame, self.model.config.memory_frames)

    def begin(self, id: int, candidates: Candidates, embedded: Embedded, row: int) -> None:
        """A new tracklet."""
        box, mask = candidates.boxes[row], candidates.masks[row]
        tracklet = Tracklet(id, box, mask, float(candidates.scores[row]))
        tracklet.remember(embedded.fine[row], embedded.queries[row], self.frame, self.model.config.memory_frames)
        self.tracklets[id] = tracklet
        self.used.add(id)

    def begin_detected(self, candidates: Candidates, embedded: Embedded, matched: Mapping[int, int]) -> None:
        """Unmatched detections that are sure enough open ids, from the left to the right."""
        sure = candidates.detected & (candidates.scores > self.model.config.new_track_threshold)
        rows = [row for row in sure.nonzero()[:, 0].tolist() if row not in matched]
        for row in sorted(rows, key=lambda row: tuple(candidates.boxes[row].tolist())):
            self.begin(max(self.used, default=FIRST_AUTOMATIC_ID - 1) + 1, candidates, embedded, row)

    def begin_prompted(self, features: Features, others: Candidates) -> None:
        """Objects that the caller asked for from this frame on.

        They are embedded together, and with the frame's `others` beside them: what an instance looks like includes
        what is around it (section 3.4), and in the next frame it will be embedded among those.
        """
        due = [prompt for prompt in self.prompts if prompt.frame <= self.frame]
        if not due:
            return
        asked = Candidates.joined([self.prompted(prompt, features) for prompt in due])
        rest = others.take(unlike(others, asked))
        everything = Candidates.joined([asked, rest])
        embedded = self.embedded(features, everything)
        assert embedded is not None  # something was asked for
        for row, prompt in enumerate(due):
            self.begin(prompt.id, everything, embedded, row)
        self.prompts = [prompt for prompt in self.prompts if prompt not in due]

    def prompted(self, prompt: Prompt, features: Features) -> Candidates:
        """What a prompt points out."""
        drawn = self.drawn(prompt, features)
        candidates = candidates_of(self.model.decode(features, drawn), 0.0, every_mask=False)
        if prompt.mask is not None:
            return self.as_drawn(prompt.mask, candidates)
        if not bool((candidates.masks > 0.5).any()):  # the decoder sees nothing there: the drawn box stands
            return replace(candidates, boxes=drawn.boxes)
        return candidates

    def as_drawn(self, mask: np.ndarray, candidates: Candidates) -> Candidates:
        """The caller's own mask in the place of the decoder's."""
        drawn = torch.from_numpy(mask)[None].to(candidates.masks.device)
        small = functional.interpolate(drawn[None].float(), candidates.masks.shape[1:], mode="area")[0]
        if not bool((small > 0.5).any()):  # thinner than a pixel of the masks
            small = (small > 0).float()
        return Candidates(boxes_of_masks(drawn), small, candidates.scores, candidates.detected)

    def drawn(self, prompt: Prompt, features: Features) -> Prompts:
        """A prompt in units of the frame's sides, checked against the frame."""
        assert self.size is not None
        height, width = self.size
        device = features.fine.device
        source = torch.zeros(1, dtype=torch.int64, device=device)
        carried = torch.zeros(1, dtype=torch.bool, device=device)
        sides = torch.tensor([width, height, width, height], dtype=torch.float32, device=device)
        if prompt.box is not None:
            box = checked_box(prompt.box, height, width)
            return Prompts(source, torch.tensor([box], dtype=torch.float32, device=device) / sides, carried)
        whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=device)
        if prompt.points is not None:
            points, labels = checked_points(prompt.points, prompt.labels, height, width)
            at = torch.from_numpy(points)[None].to(device) / sides[:2]
            return Prompts(source, whole, carried, at, torch.from_numpy(labels)[None].to(device))
        mask = checked_mask(prompt.mask, height, width)
        drawn = torch.from_numpy(mask)[None].to(device)
        return Prompts(source, boxes_of_masks(drawn), carried, masks=self.model.mask_prompt(drawn, features))

    def instances(self) -> FrameInstances:
        """What is reported of this frame. A single object that is lost is held, and marked stale."""
        assert self.size is not None
        height, width = self.size
        shown = [each for each in self.tracklets.values() if each.visible or self.task == "sot"]
        if not shown:
            return FrameInstances.empty((height, width) if self.task in ("vos", "mots") else None)
        shown.sort(key=lambda tracklet: tracklet.id)
        masks = torch.stack([tracklet.mask for tracklet in shown])[:, None]
        full = alone(functional.interpolate(masks, (height, width), mode="bilinear", align_corners=False)[:, 0])
        sides = torch.tensor([width, height, width, height], dtype=torch.float32)
        boxes = torch.stack([each.box if each.glimpse is None else each.glimpse for each in shown]).cpu() * sides
        with_masks = self.task in ("vos", "mots")
        if with_masks:
            tight = boxes_of_masks(full).cpu() * sides
            boxes = torch.where(full.any(2).any(1).cpu()[:, None], tight, boxes)
        return FrameInstances(
            np.array([tracklet.id for tracklet in shown], np.int64),
            boxes.numpy().astype(np.float32),
            full.cpu().numpy() if with_masks else None,
            np.array([tracklet.score for tracklet in shown], np.float32),
            np.array([not tracklet.visible for tracklet in shown]),
        )


def checked_modalities(names: Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Names of sensors, each known and given once, in the order given; at least one."""
    found = (names,) if isinstance(names, str) else tuple(names)
    unknown = [name for name in found if name not in known]
    if unknown:
        raise TrackingError(f"unknown modality {str(unknown[0])[:40]!r}: name {', '.join(known)}")
    if len(set(found)) < len(found):
        raise TrackingError(f"modalities names {', '.join(found)}: name each once")
    return found
