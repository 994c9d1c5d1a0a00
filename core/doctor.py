"""What this machine has and what it lacks: `python -m core.doctor`. Everything is tried, nothing is assumed."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from core.errors import QuartetError, UnavailableError

if TYPE_CHECKING:
    import torch

State = Literal["ok", "absent", "wrong"]
OPTIONAL_PACKAGES = {
    "xformers": "pip install -r requirements-gpu.txt, on a machine with an NVIDIA GPU",
    "mcp": 'pip install "gradio[mcp]" to serve the endpoints as MCP tools',
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_HELP = (
    "apt-get install chromium, brew install --cask chromium, or python -m playwright install chromium; or name one "
    "with QUARTET_CHROMIUM=/path/to/chrome. Without one, agents play in the simulator only"
)
MIN_FREE_BYTES = 2 * 10**9
_REPEATS = 5
_MARKS = {"ok": "ok", "absent": "--", "wrong": "!!"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: what it belongs to, such as "attention".
        name: of the thing.
        state: "ok", "absent" for what the app can do without, "wrong" for what it needs.
        value: what was found.
        how_to_fix: what to do about it; "" where there is nothing to do.
    """

    area: str
    name: str
    state: State
    value: str
    how_to_fix: str = ""


Check = Callable[[], Iterator[Finding]]


def examine() -> tuple[Finding, ...]:
    """Run every check; one that fails is a finding of its own, and the others go on."""
    return tuple(finding for area, check in CHECKS.items() for finding in _guarded(area, check))


def _guarded(area: str, check: Check) -> Iterator[Finding]:
    try:
        yield from check()
    # The point of a doctor is a broken installation: whatever it raises is a result.
    except Exception as error:
        lines = str(error).splitlines() or [""]
        said = f"{type(error).__name__}: {lines[0]}"
        fix = error.how_to_fix if isinstance(error, UnavailableError) else "make setup installs everything again"
        yield Finding(area=area, name="check", state="wrong", value=said, how_to_fix=fix)


def check_versions() -> Iterator[Finding]:
    """Quartet, Python and the platform; Python has to be one that pyproject.toml allows."""
    from packaging.specifiers import SpecifierSet

    from core.runs import quartet_version

    found = partial(Finding, area="versions")
    yield found(name="quartet", state="ok", value=quartet_version())
    yield found(name="platform", state="ok", value=platform.platform())
    version, allowed = platform.python_version(), _allowed_python()
    fits = SpecifierSet(allowed).contains(version, prereleases=True)
    fix = "" if fits else f"install a Python in the range {allowed}"
    yield found(name="python", state="ok" if fits else "wrong", value=version, how_to_fix=fix)


def _allowed_python() -> str:
    """The range that pyproject.toml states."""
    from core.registry import ROOT

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["requires-python"])


def check_packages() -> Iterator[Finding]:
    """Every package of requirements.txt against its range, then those that are optional."""
    from packaging.requirements import Requirement

    from core.registry import ROOT
    from core.spaces.requirements import stated_packages

    for line in stated_packages(ROOT / "requirements.txt"):
        required = Requirement(line)
        version = _version(required.name)
        fits = version is not None and required.specifier.contains(version, prereleases=True)
        yield Finding(
            area="packages",
            name=required.name,
            state="ok" if fits else "wrong",
            value=version or "not installed",
            how_to_fix="" if fits else f'pip install "{line}"',
        )
    for name, how in OPTIONAL_PACKAGES.items():
        version = _version(name)
        state: State = "absent" if version is None else "ok"
        value, fix = version or "not installed", "" if version else how
        yield Finding(area="packages", name=name, state=state, value=value, how_to_fix=fix)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check_devices() -> Iterator[Finding]:
    """The CPU, and every accelerator that torch can use."""
    import torch

    from core.devices import describe_device

    accelerators = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    accelerators += ["mps"] if torch.backends.mps.is_available() else []
    for name in ("cpu", *accelerators):
        yield Finding(area="devices", name=name, state="ok", value=describe_device(name).label)
    if not accelerators:
        built = torch.version.cuda or torch.version.hip
        why = "no usable GPU or driver" if built else "this torch is a CPU-only build"
        yield Finding(area="devices", name="accelerator", state="absent", value=why)


def check_attention() -> Iterator[Finding]:
    """Every backend, run on a small input beside SDPA: its time and how far it is from SDPA."""
    import torch

    from core.attention import resolve_attention
    from core.devices import resolve_device, resolve_dtype

    device = resolve_device("auto")
    dtype = resolve_dtype("auto", device)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, 4, 256, 64, generator=generator).to(device, dtype) for _ in range(3)]
    for backend in ("sdpa", "flash", "xformers"):
        try:
            value = _measure_backend(backend, inputs)
        except UnavailableError as error:
            yield Finding(area="attention", name=backend, state="absent", value=error.reason)
        else:
            yield Finding(area="attention", name=backend, state="ok", value=value)
    choice = resolve_attention("auto", device=device, dtype=dtype)
    yield Finding(area="attention", name="chosen", state="ok", value=f"{choice.backend}: {choice.reason}")


def _measure_backend(backend: str, inputs: list[torch.Tensor]) -> str:
    from core.attention import AttentionChoice, attention, resolve_attention

    query = inputs[0]
    choice = resolve_attention(backend, device=query.device, dtype=query.dtype, head_dim=query.shape[-1])
    oracle = attention(*inputs, choice=AttentionChoice("sdpa", "oracle")).float().cpu()
    times = []
    for _ in range(1 + _REPEATS):
        begun = time.perf_counter()
        output = attention(*inputs, choice=choice).float().cpu()  # on the CPU, so that it has finished
        times.append(1000 * (time.perf_counter() - begun))
    apart = float((output - oracle).abs().max())
    # The first call may build a kernel, or look for one.
    shape, kind = list(query.shape), str(query.dtype).removeprefix("torch.")
    return f"{median(times[1:]):.2f} ms on {shape} {kind}, at most {apart:.1e} from SDPA"


def check_video() -> Iterator[Finding]:
    """A clip written and read back, as results are; and ffmpeg, which Gradio uses for uploads that need converting."""
    import av
    import numpy as np

    from core.media import read_video, write_video

    frames = np.zeros((8, 64, 64, 3), np.uint8)
    frames[:, 16:48, 16:48] = 200
    with tempfile.TemporaryDirectory() as folder:
        written = write_video(Path(folder) / "clip.mp4", frames, 8)
        same = len(read_video(written).frames) == len(frames)
    value = f"PyAV {av.__version__}, H.264 " + ("written and read back" if same else "lost frames")
    fix = "" if same else "install PyAV again: pip install --force-reinstall av"
    yield Finding(area="video", name="mp4", state="ok" if same else "wrong", value=value, how_to_fix=fix)
    encoders = [name for name in ("libx264", "libx265", "libvpx-vp9", "libsvtav1") if _can_encode(name)]
    yield Finding(area="video", name="encoders", state="ok", value=", ".join(encoders) or "none of the usual ones")
    ffmpeg = shutil.which("ffmpeg")
    yield Finding(
        area="video",
        name="ffmpeg",
        state="ok" if ffmpeg else "absent",
        value=_first_line([ffmpeg, "-version"]) if ffmpeg else "not on PATH",
        how_to_fix="" if ffmpeg else "apt-get install ffmpeg; without it, uploads that no browser plays are not shown",
    )


def _can_encode(name: str) -> bool:
    import av

    try:
        return av.Codec(name, "w").is_encoder
    except ValueError:
        return False


def check_browser() -> Iterator[Finding]:
    """A Chromium that starts, for agents that play in a real browser."""
    named = os.environ.get("QUARTET_CHROMIUM")
    found = next(filter(None, map(shutil.which, [named] if named else BROWSERS)), None)
    version = _first_line([found, "--version"]) if found else ""
    state: State = "ok" if version else "absent"
    value = version or (f"{named} does not start" if named else "not on PATH")
    yield Finding(area="browser", name="chromium", state=state, value=value, how_to_fix="" if version else BROWSER_HELP)


def _first_line(command: list[str]) -> str:
    """The first line that a program prints; "" where it does not start or fails."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=10, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (ran.stdout.splitlines() or [""])[0].strip() if ran.returncode == 0 else ""


def check_techniques() -> Iterator[Finding]:
    """Every technique: whether it imports, and its checkpoint's weights with their sha256."""
    from core.registry import entries

    found = partial(Finding, area="techniques")
    for entry in entries():
        if entry.failure is not None:
            why, fix = entry.failure.reason, entry.failure.how_to_fix
            yield found(name=entry.slug, state="absent", value=why, how_to_fix=fix)
        elif entry.spec is None or entry.spec.checkpoint is None:
            yield found(name=entry.slug, state="ok", value="needs no checkpoint")
        else:
            yield from _weights(entry.slug, entry.spec.checkpoint)


def _weights(slug: str, checkpoint: str) -> Iterator[Finding]:
    """Every weight file of a checkpoint with its size and sha256; one that is incomplete is wrong."""
    from core.hub import check_weights
    from core.registry import ROOT

    found = partial(Finding, area="techniques", name=slug)
    folder = ROOT / checkpoint
    files = sorted(folder.rglob("*.safetensors"))
    try:
        check_weights(folder)
        if not files:
            raise UnavailableError(f"{checkpoint} holds no weights.")
    except QuartetError as error:
        yield found(state="wrong", value=str(error), how_to_fix="take hub_cards again from a whole checkout")
        return
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        name = file.relative_to(folder.parent).as_posix()
        yield found(state="ok", value=f"{name}: {file.stat().st_size:,} bytes, sha256 {digest}")


def check_disk() -> Iterator[Finding]:
    """Room where results and downloaded models are kept."""
    from huggingface_hub import constants

    from core.jobs import data_directory

    offline = "; HF_HUB_OFFLINE=1 forbids downloads" if constants.HF_HUB_OFFLINE else ""
    places = {"results": (data_directory(), ""), "Hub cache": (Path(constants.HF_HUB_CACHE), offline)}
    for name, (folder, note) in places.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        enough = free >= MIN_FREE_BYTES
        yield Finding(
            area="disk",
            name=name,
            state="ok" if enough else "absent",
            value=f"{free / 1e9:.1f} GB free at {folder}{note}",
            how_to_fix="" if enough else "free some, or set QUARTET_DATA_DIR and HF_HOME to larger disks",
        )


CHECKS: dict[str, Check] = {
    "versions": check_versions,
    "packages": check_packages,
    "devices": check_devices,
    "attention": check_attention,
    "video": check_video,
    "browser": check_browser,
    "techniques": check_techniques,
    "disk": check_disk,
}


def report_lines(findings: tuple[Finding, ...]) -> Iterator[str]:
    """The findings for a terminal: one a line, with what to do about it under those that are not ok."""
    area = ""
    for finding in findings:
        if finding.area != area:
            area = finding.area
            yield f"\n{area}" if finding is not findings[0] else area
        yield f"  {_MARKS[finding.state]}  {finding.name:<18} {finding.value}"
        if finding.how_to_fix:
            yield f"      {'':<18} -> {finding.how_to_fix}"
    wrong = sum(finding.state == "wrong" for finding in findings)
    yield f"\n{wrong} of the things that the app needs are missing or wrong" if wrong else "\neverything needed is here"


def main(
    json: Annotated[Path | None, typer.Option("--json", help="Write the findings to this file as well.")] = None,
) -> None:
    """Say what this machine has and what it lacks; exit code 1 where something that the app needs is missing."""
    findings = examine()
    for line in report_lines(findings):
        typer.echo(line)
    healthy = all(finding.state != "wrong" for finding in findings)
    if json is not None:
        from core.jsonfile import write_json

        write_json(json, {"healthy": healthy, "findings": findings})
    raise typer.Exit(0 if healthy else 1)


if __name__ == "__main__":
    typer.run(main)
