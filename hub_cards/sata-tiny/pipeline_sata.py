"""SataPipeline: aligned videos of several sensors in, tracks out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Self

import numpy as np
import torch
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .errors import TrackingError
from .loading import (
    Attention,
    Checkpoint,
    choose_attention,
    find_checkpoint,
    load_model,
    peak_memory,
    resolve_device,
    resolve_dtype,
)
from .processing_sata import SataProcessor
from .results import TASKS, FrameInstances, Tracks
from .session import Looked, SataSession, checked_modalities
from .session_prompts import Prompt, read_prompts
from .videos import AlignedVideo, VideoLimits, open_video

TASK = "multimodal-video-tracking"

Callback = Callable[[int, int, FrameInstances], Any]
Prompts = Iterable[Mapping[str, Any]]


class PartialTracksError(TrackingError):
    """Tracking ended in the middle of a video.

    Attributes:
        tracks: the frames that were done; their `run` is the record of the call so far.
        frame: the number of the frame that could not be done.
    """

    def __init__(self, message: str, tracks: Tracks, frame: int) -> None:
        super().__init__(message)
        self.tracks = tracks
        self.frame = frame

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.tracks, self.frame)  # so that a worker process can hand it over


class SataPipeline(Pipeline):
    """One model that tracks and segments in RGB, thermal, depth and event video (SATA, arXiv 2511.19475).

    Args:
        model: a SataModel.
        processor: a SataProcessor; one that fits the model where None.
        kwargs: of transformers' Pipeline, and defaults of a call's arguments.

    Attributes:
        run: JSON-able record of the last call: parameters, device, attention, timings, milliseconds per frame.
        attention: what computes attention, and why.

    Example:
        >>> pipe = SataPipeline.from_pretrained("hub_cards/sata-tiny")  # doctest: +SKIP
        >>> prompts = [{"id": 7, "frame": 0, "box": [20, 30, 60, 80]}]  # doctest: +SKIP
        >>> tracks = pipe({"rgb": "day.mp4", "thermal": "heat.mp4"}, task="vos", prompts=prompts)  # doctest: +SKIP
        >>> tracks.frames[3].ids, tracks.frames[3].masks  # doctest: +SKIP
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    model: Any
    processor: Any

    def __init__(self, model: Any, processor: Any = None, **kwargs: Any) -> None:
        processor = SataProcessor.for_model(model) if processor is None else processor
        processor.check(model)
        kwargs["task"] = kwargs.get("task") or TASK
        super().__init__(model=model, processor=processor, **kwargs)
        self.model.eval()
        self.run: dict[str, Any] = {}
        self.attention = Attention(str(model.config._attn_implementation), "as the model was loaded")
        self._checkpoint: Checkpoint | None = None
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | os.PathLike[str],
        *,
        revision: str | None = None,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device | None = None,
        attention: str = "auto",
        local_files_only: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Load a checkpoint with the code that is installed here. Safetensors only; no code of the checkpoint is run.

        Args:
            repo_or_folder: a folder, or "owner/name" on the Hub.
            revision: branch, tag or commit on the Hub.
            dtype: "fp32", "bf16" or "fp16"; None and "auto" take float32.
            device: such as "cpu" or "cuda"; None and "auto" take the accelerator where there is one.
            attention: "auto", "sdpa", "eager", "xformers", or "flash_attention_2" or 3 of transformers.
            local_files_only: take what the Hub's cache holds and contact nothing; HF_HUB_OFFLINE=1 does the same.
            cache_dir, token: as everywhere in transformers.

        Raises:
            TrackingError: there is no such checkpoint, it is damaged or a pickle, or it cannot be loaded as asked.
        """
        place, number_format = resolve_device(device), resolve_dtype(dtype)
        chosen = choose_attention(attention, place, number_format)
        found = find_checkpoint(
            repo_or_folder, revision=revision, local_files_only=local_files_only, cache_dir=cache_dir, token=token
        )
        model = load_model(found, number_format, chosen)
        try:
            processor = SataProcessor.from_pretrained(found.folder, local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise TrackingError(
                f"{found.source} holds no SataProcessor ({error}): save it with the pipeline"
            ) from error
        pipeline = cls(model, processor, device=place)
        pipeline.attention, pipeline._checkpoint = chosen, found
        return pipeline

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write weights, settings, processor and the code that loads them with trust_remote_code."""
        if os.path.isfile(save_directory):
            raise TrackingError(f"{os.fspath(save_directory)} is a file: name a folder")
        self.processor.save_pretrained(save_directory)  # transformers' own leaves it out
        super().save_pretrained(save_directory, **kwargs)

    def to(self, device: str | torch.device) -> Self:
        """Move the model; sessions that have begun stay where they were and cannot go on."""
        self.device = resolve_device(device)
        self.model.to(self.device)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the encoder; what follows it keeps single precision."""
        return self.model.encoder.mask_token.dtype

    @property
    def checkpoint(self) -> str | None:
        """The repository or folder that it was loaded from."""
        return None if self._checkpoint is None else self._checkpoint.source

    @property
    def revision(self) -> str | None:
        """The commit that it was loaded from."""
        return None if self._checkpoint is None else self._checkpoint.revision

    def start_session(self, task: str, modalities: Iterable[str] | None = None) -> SataSession:
        """A session for a video that comes frame by frame; memory does not grow with it.

        Args:
            task: "sot", "vos", "mot" or "mots".
            modalities: the sensors to look at, of those that each step is given; all where None.
        """
        return SataSession(
            self.model,
            task,
            modalities=None if modalities is None else self._checked_modalities(modalities),
            image_processor=self.processor.image_processor,
            lock=self._lock,
        )

    def __call__(
        self,
        video: Any,
        *,
        task: str | None = None,
        prompts: Prompts | None = None,
        modalities: Iterable[str] | None = None,
        resample: bool | None = None,
        limits: VideoLimits | None = None,
        callback: Callback | None = None,
        **kwargs: Any,
    ) -> Any:
        """Track through a video, frame after frame: what is found in a frame never depends on a later one.

        Args:
            video: one video: {modality: uint8 [T, H, W, 3] or a list of frames, None where the sensor is off}, a Scene,
                {modality: video file or folder of images}, or one file or folder. A list is several videos.
            task: "sot" and "vos" follow what is prompted for, by box and by mask; "mot" and "mots" everything.
            prompts: [{"id": 7, "frame": 0, "box": [x0, y0, x1, y1]}], or "mask" bool [H, W], or "points" [p, 2] with
                "labels" [p]; pixels of the video. Ids come back verbatim.
            modalities: the sensors to look at; all that the video has where None.
            resample: bring sensors of other sizes and lengths to those of the first (RGB if there is one).
            limits: the largest video that is taken.
            callback: called with (number of the frame, frames in all, FrameInstances) after each; may raise to stop.
            kwargs: num_workers and batch_size of transformers' Pipeline.

        Returns:
            Tracks; for several videos a list of them.

        Raises:
            TrackingError: input that cannot be used; nothing was computed.
            PartialTracksError: something failed in the middle; it carries the tracks of the frames before.
        """
        given = {"task": task, "prompts": prompts, "modalities": modalities, "resample": resample, "limits": limits}
        given = {name: value for name, value in (given | {"callback": callback}).items() if value is not None}
        return super().__call__(video, **given, **kwargs)

    def stream(
        self,
        video: Any,
        *,
        task: str,
        prompts: Prompts | None = None,
        modalities: Iterable[str] | None = None,
        resample: bool = False,
        limits: VideoLimits | None = None,
    ) -> Iterator[FrameInstances]:
        """The frames of a call one by one, as they are done; stop by not asking for more.

        Args:
            video: as of a call, or an iterator of frames {modality: uint8 [H, W, 3] or None} without an end.
            task, prompts, modalities, resample, limits: as of a call.
        """
        if isinstance(video, Iterator):
            return self._steps(video, self._prepared_session(task, modalities, read_prompts(prompts, task, **_UNKNOWN)))
        given = self.preprocess(video, task, prompts, modalities, resample, limits)
        return self._steps(given["video"], self._prepared_session(task, given["modalities"], given["prompts"]))

    def _steps(self, frames: Iterable[Mapping[str, np.ndarray]], session: SataSession) -> Generator[FrameInstances]:
        """A frame after another. Where all frames are there, the next one is read and looked at while this one is
        followed, on a second core; what comes as it happens is not waited for.
        """
        if isinstance(frames, Iterator):
            yield from map(session.step, frames)
            return
        rest = iter(frames)

        def look() -> tuple[bool, Looked | None]:
            sensors = next(rest, None)
            return sensors is not None, None if sensors is None else session.look(sensors)

        ahead = ThreadPoolExecutor(1, "look")
        try:
            waiting = ahead.submit(look)
            while True:
                with session.enough_threads():
                    more, looked = waiting.result()
                    if not more:
                        return
                    waiting = ahead.submit(look)
                    found = session.take(looked)
                yield found
        finally:
            ahead.shutdown(cancel_futures=True)

    def _prepared_session(self, task: str, modalities: Any, prompts: Iterable[Prompt]) -> SataSession:
        session = self.start_session(_checked_task(task), modalities)
        for prompt in prompts:
            ways = {"box": prompt.box, "mask": prompt.mask, "points": prompt.points, "labels": prompt.labels}
            session.add_prompt(prompt.id, frame=prompt.frame, **ways)
        return session

    def _checked_modalities(self, modalities: Iterable[str]) -> tuple[str, ...]:
        found = checked_modalities(modalities, tuple(self.model.config.modalities))
        if not found:
            raise TrackingError(f"modalities is empty: name at least one of {', '.join(self.model.config.modalities)}")
        return found

    def _sanitize_parameters(  # ty: ignore[incompatible-method-override]
        self,
        task: Any = None,
        prompts: Any = None,
        modalities: Any = None,
        resample: Any = None,
        limits: Any = None,
        callback: Any = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        given = {"task": task, "prompts": prompts, "modalities": modalities, "resample": resample, "limits": limits}
        given = {name: value for name, value in given.items() if value is not None}
        return given, {} if callback is None else {"callback": callback}, {}

    def preprocess(  # ty: ignore[incompatible-method-override]
        self,
        input_: Any,
        task: str | None = None,
        prompts: Prompts | None = None,
        modalities: Iterable[str] | None = None,
        resample: bool = False,
        limits: VideoLimits | None = None,
    ) -> dict[str, Any]:
        """Everything that can be wrong with a call, found before any work."""
        began = time.perf_counter()
        checked = _checked_task(task)
        chosen = None if modalities is None else self._checked_modalities(modalities)
        known = tuple(self.model.config.modalities)
        video = open_video(input_, known, modalities=chosen, resample=resample, limits=limits)
        wanted = read_prompts(prompts, checked, frames=len(video), size=(video.height, video.width))
        return {
            "video": video,
            "task": checked,
            "prompts": wanted,
            "modalities": chosen,
            "resample": resample,
            "read_seconds": time.perf_counter() - began,
        }

    def _forward(  # ty: ignore[incompatible-method-override]
        self, input_tensors: dict[str, Any], callback: Callback | None = None
    ) -> dict[str, Any]:
        video, began = input_tensors["video"], time.perf_counter()
        session = self._prepared_session(input_tensors["task"], input_tensors["modalities"], input_tensors["prompts"])
        frames: list[FrameInstances] = []
        seconds: list[float] = []

        def done() -> Tracks:
            self.run = self._record(input_tensors, session, seconds, time.perf_counter() - began)
            return Tracks(tuple(frames), video.height, video.width, session.task, self.run)  # ty: ignore[invalid-argument-type]

        with closing(self._steps(video, session)) as steps:
            for number in range(len(video)):
                started = time.perf_counter()
                try:
                    frames.append(next(steps))
                except Exception as error:
                    if not frames:
                        raise
                    raise PartialTracksError(
                        f"frame {number} of {len(video)} could not be tracked ({error}): the {len(frames)} frames "
                        "before it are in this error's tracks",
                        done(),
                        number,
                    ) from error
                seconds.append(time.perf_counter() - started)
                if callback is not None:
                    callback(number, len(video), frames[-1])
        return {"tracks": done()}

    def postprocess(  # ty: ignore[incompatible-method-override]
        self, model_outputs: Mapping[str, Any]
    ) -> Tracks:
        return model_outputs["tracks"]

    def _record(
        self, given: Mapping[str, Any], session: SataSession, seconds: list[float], tracked: float
    ) -> dict[str, Any]:
        video: AlignedVideo = given["video"]
        milliseconds = 1000 * np.array(seconds or [0.0])
        return {
            "params": {
                "task": session.task,
                "prompts": [prompt.record() for prompt in given["prompts"]],
                "modalities": list(given["modalities"] or video.modalities),
                "resample": bool(given["resample"]),
            },
            "video": video.summary(),
            "frames": len(seconds),
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "attention": self.attention.as_dict(),
            "checkpoint": self.checkpoint,
            "revision": self.revision,
            "timings": {"read": given["read_seconds"], "track": tracked, "total": given["read_seconds"] + tracked},
            "ms_per_frame": {
                "mean": float(milliseconds.mean()),
                "median": float(np.median(milliseconds)),
                "p95": float(np.quantile(milliseconds, 0.95)),
                "first": float(milliseconds[0]),
            },
            "experts": [{name: load.tolist() for name, load in block.items()} for block in session.experts],
            "peak_memory_bytes": peak_memory(self.device),
        }


_UNKNOWN: dict[str, Any] = {"frames": None, "size": None}


def _checked_task(task: Any) -> str:
    if task not in TASKS:
        what = "no task was given" if task is None else f"unknown task {str(task)[:40]!r}"
        raise TrackingError(
            f"{what}: choose sot or vos (follow what you point at, as boxes or masks), mot or mots (everything)"
        )
    return task


# AutoModel, not SataModel: `pipeline` looks the name up in transformers itself. Copies of this module that
# trust_remote_code makes register anew, and transformers warns of a task that is there already.
PIPELINE_REGISTRY.supported_tasks.pop(TASK, None)
PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=SataPipeline, pt_model=AutoModel, type="video")
