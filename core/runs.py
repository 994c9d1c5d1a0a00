"""Run records: what a run was given, what it cost and with what it can be repeated."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import sys
import time
import tomllib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from core.errors import InputError
from core.jsonfile import to_plain, to_text, write_json

RECORD_NAME = "run.json"
RECORDED_PACKAGES = (
    "torch",
    "xformers",
    "transformers",
    "diffusers",
    "gradio",
    "huggingface-hub",
    "safetensors",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "av",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One call of one pipeline, JSON-able throughout.

    Attributes:
        plugin: slug of the technique.
        checkpoint: repository or folder, None where the pipeline has no weights.
        revision: commit of the checkpoint, where it has one.
        params: arguments of the call.
        seed: the seed that was really used.
        device: torch device, as text.
        attention: backend and reason, None where the technique has no attention.
        timings: wall time in seconds by stage.
        peak_memory_bytes: high-water mark of the device's memory (of the process on a CPU), None if unknown.
        details: whatever else the pipeline measured.
        versions: Python, platform and packages.
        quartet_version: version of this suite.
        started: ISO 8601, UTC.
        command: Python that repeats the run, or "".
    """

    plugin: str
    params: dict[str, Any]
    device: str
    checkpoint: str | None = None
    revision: str | None = None
    seed: int | None = None
    attention: dict[str, str] | None = None
    timings: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    quartet_version: str = "unknown"
    started: str = ""
    command: str = ""

    def to_json(self) -> str:
        """The record as JSON text."""
        return to_text(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> RunRecord:
        """The record that `to_json` wrote; unknown fields are ignored, anything else raises InputError."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise InputError(f"This is not a run record, it is not even JSON ({error}): choose a run.json.") from error
        if not isinstance(document, dict):
            raise InputError("This is not a run record: a run.json holds one JSON object.")
        known = {item.name for item in dataclasses.fields(cls)}
        missing = {"plugin", "params", "device"} - document.keys()
        if missing:
            raise InputError(f"This is not a run record, it lacks {', '.join(sorted(missing))}: choose a run.json.")
        return cls(**{name: value for name, value in document.items() if name in known})

    def write(self, path: Path) -> Path:
        """Write the record whole to `path`, or to run.json in it if it is a folder; returns its path."""
        target = path / RECORD_NAME if path.is_dir() else path
        write_json(target, self)
        return target


def build_run_record(
    plugin: str,
    pipeline_run: Mapping[str, Any],
    *,
    checkpoint: str | None = None,
    revision: str | None = None,
    command: str = "",
    started: float | None = None,
) -> RunRecord:
    """The record of a call from a pipeline's `.run`, which must hold `params` and `device`.

    What `.run` names like a field of the record becomes that field, and the rest becomes `details`. `started`
    is in seconds since the epoch, now if it is left out.
    """
    run = to_plain(pipeline_run)
    missing = {"params", "device"} - run.keys()
    if missing:
        raise InputError(f"The run of {plugin} lacks {', '.join(sorted(missing))}: a pipeline's .run must say.")
    measured = ("params", "device", "seed", "attention", "timings", "peak_memory_bytes")
    named: dict[str, Any] = {
        "plugin": plugin,
        "checkpoint": run.get("checkpoint") if checkpoint is None else checkpoint,
        "revision": run.get("revision") if revision is None else revision,
        "versions": collect_versions(),
        "quartet_version": quartet_version(),
        "started": utc_text(time.time() if started is None else started),
        "command": command,
        **{name: run[name] for name in measured if name in run},
    }
    details = {name: value for name, value in run.items() if name not in named}
    return RunRecord(**named, details=details)


def collect_versions(packages: tuple[str, ...] = RECORDED_PACKAGES) -> dict[str, str]:
    """Versions of Python, the platform and those packages that are installed; none of them is imported."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def quartet_version() -> str:
    """The version of this suite, from pyproject.toml beside it, else from its installed metadata."""
    project = Path(__file__).resolve().parent.parent / "pyproject.toml"
    try:
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    except (OSError, tomllib.TOMLDecodeError, KeyError):
        try:
            return metadata.version("quartet")
        except metadata.PackageNotFoundError:
            return "unknown"


def utc_text(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


class Stopwatch:
    """Wall time by stage, seconds; a stage that comes again adds up. On CUDA it waits for the device."""

    def __init__(self, device: object = "cpu") -> None:
        self._device = str(device)
        self._timings: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Time the block, also one that raises."""
        _finish_device_work(self._device)
        begun = time.perf_counter()
        try:
            yield
        finally:
            _finish_device_work(self._device)
            self._timings[name] = self._timings.get(name, 0.0) + time.perf_counter() - begun

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage, in the order in which the stages first ended."""
        return dict(self._timings)

    @property
    def total(self) -> float:
        """Seconds over all stages."""
        return sum(self._timings.values())


def peak_memory(device: object = "cpu") -> int | None:
    """High-water mark in bytes since the start or the last reset: allocated on CUDA, resident on a CPU.

    None where the platform does not say.
    """
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(str(device))
    if (mark := _linux_peak()) is not None:
        return mark
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak_memory(device: object = "cpu") -> bool:
    """Begin a new high-water mark, so that a run reports its own; False where only a new process could."""
    if str(device).startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(str(device))
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: proc(5), reset the peak resident set size
    except OSError:
        return False
    return True


def _linux_peak() -> int | None:
    """VmHWM in bytes; unlike getrusage it leaves out what the parent held when it started this process."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    mark = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(mark[1]) * 1024 if mark else None


def _finish_device_work(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
