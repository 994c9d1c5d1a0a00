"""Command line: make a clip, compare kinds of attention, measure, train and evaluate."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli import forward_command

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

CHECKPOINT = "hub_cards/sparse-video-tiny"

Prompt = Annotated[str, typer.Argument(help="What the clip shows.")]
Checkpoint = Annotated[str, typer.Option(help="Folder, or repository of Wan 2.1, Wan 2.2 or HunyuanVideo.")]
Steps = Annotated[int | None, typer.Option(help="Sampling steps; the checkpoint's own if left out.")]
Frames = Annotated[int | None, typer.Option(help="Frames; the checkpoint's own if left out.")]
Size = Annotated[str | None, typer.Option(help="Height x width in pixels, such as 128x128.")]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale; 1 or below turns guidance off.")]
Executor = Annotated[str, typer.Option(help="Of the sparse part: auto, reference, gather, flex or xformers.")]
Backend = Annotated[str, typer.Option(help="Of dense attention: auto, sdpa, xformers or flash.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
DType = Annotated[str, typer.Option(help="auto, bf16, fp16 or fp32.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")]


@app.command()
def generate(
    prompt: Prompt,
    out: Annotated[Path, typer.Option(help="The clip, mp4; its run record goes beside it.")] = Path("clip.mp4"),
    checkpoint: Checkpoint = CHECKPOINT,
    attention: Annotated[str, typer.Option(help="rectified, sparse or dense.")] = "rectified",
    density: Annotated[float | None, typer.Option(help="Share of key blocks to keep, above 0 to 1.")] = None,
    steps: Steps = None,
    seed: Annotated[int | None, typer.Option(help="Drawn if left out, and told.")] = None,
    frames: Frames = None,
    size: Size = None,
    guidance: Guidance = None,
    negative: Annotated[str | None, typer.Option(help="What to steer away from, where guidance is on.")] = None,
    image: Annotated[Path | None, typer.Option(help="First frame, for image-to-video models.")] = None,
    executor: Executor = "auto",
    backend: Backend = "auto",
    device: Device = "auto",
    dtype: DType = "auto",
    json: JsonFile = None,
) -> None:
    """Make one clip from a prompt."""
    with _clear_errors():
        _check_files(out, json)
        _check_clip(out)
        from core.jsonfile import write_json
        from core.media import write_video

        started = time.time()
        load = {"attention": backend, "device": device, "dtype": dtype}
        call = {"seed": seed, "attention": attention, "density": density, "executor": executor}
        call |= {"negative_prompt": negative, **_sampling(steps, frames, size, guidance)}
        pipeline = _load(checkpoint, **load)
        picture = {} if image is None else {"image": _read_picture(image)}
        result = pipeline(prompt, **call, **picture, callback_on_step_end=_tell_step)
        call["seed"] = result.run["seed"]
        record = _record(result.run, checkpoint, load, prompt, call, started, image)
        write_video(out, _as_bytes(result.frames[0]), result.run["fps"])
        write_json(out.with_suffix(".run.json"), record)
        if json is not None:
            stats = None if result.stats is None else result.stats.to_dict()
            write_json(json, {"run": result.run, "stats": stats})
        _clear_progress()
    for warning in result.run["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(_one_line(out, result.run))


@app.command()
def compare(
    prompt: Prompt,
    densities: Annotated[str, typer.Option(help="Shares of key blocks to keep, comma-separated.")] = "0.5,0.25",
    methods: Annotated[str, typer.Option(help="Beside dense: sparse, rectified, centroid.")] = "sparse,rectified",
    seeds: Annotated[str, typer.Option(help="Seeds A to B - 1, as A:B.")] = "0:1",
    out: Annotated[Path | None, typer.Option(help="Folder for the clips and run records.")] = None,
    dollars_per_hour: Annotated[float | None, typer.Option(help="Price of this machine, for the cost.")] = None,
    checkpoint: Checkpoint = CHECKPOINT,
    steps: Steps = None,
    frames: Frames = None,
    size: Size = None,
    guidance: Guidance = None,
    executor: Executor = "auto",
    backend: Backend = "auto",
    device: Device = "auto",
    dtype: DType = "auto",
    json: JsonFile = None,
) -> None:
    """The same clip with dense, sparse and rectified attention: time, memory, error against dense, cost."""
    with _clear_errors():
        _check_files(json)
        from core.cost import cost_of
        from core.jsonfile import write_json
        from core.seeds import seed_range

        from .compare import compare as run_compare
        from .compare import summarise, variants
        from .errors import SparseVideoInputError

        started = time.time()
        cost_of(0.0, dollars_per_hour or 0.0)  # a price that cannot be is refused now
        chosen = variants(_split(methods), _numbers(densities))
        load = {"attention": backend, "device": device, "dtype": dtype}
        call = {"executor": executor, **_sampling(steps, frames, size, guidance)}
        numbers = seed_range(seeds, SparseVideoInputError)
        pipeline = _load(checkpoint, **load)
        samples = []
        for sample in run_compare(pipeline, prompt, chosen, numbers, tell=_progress, **call):
            samples.append(sample)
            if out is not None:
                given = {**call, "seed": sample.seed, **sample.variant.arguments(pipeline)}
                _save_sample(out, sample, _record(sample.run, checkpoint, load, prompt, given, started))
        rows = summarise(samples)
        _add_cost(rows, dollars_per_hour)
        report = {"prompt": prompt, "seeds": seeds, "dollars_per_hour": dollars_per_hour, "rows": rows}
        if json is not None:
            write_json(json, report | {"samples": [_figures(sample) for sample in samples]})
        _clear_progress()
    typer.echo(_table(rows))


def _load(checkpoint: str, **settings: Any) -> Any:
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from .pipeline import SparseVideoPipeline

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    _progress(f"loading {checkpoint}")
    pipeline = SparseVideoPipeline.from_pretrained(checkpoint, **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _sampling(steps: int | None, frames: int | None, size: str | None, guidance: float | None) -> dict[str, Any]:
    height, width = (None, None) if size is None else _size(size)
    return {
        "num_inference_steps": steps,
        "num_frames": frames,
        "height": height,
        "width": width,
        "guidance_scale": guidance,
    }


def _record(
    run: dict[str, Any],
    checkpoint: str,
    load: dict[str, Any],
    prompt: str,
    call: dict[str, Any],
    started: float,
    image: Path | None = None,
) -> Any:
    """run.json of one clip, with the Python that makes it again."""
    from core.runs import build_run_record

    given = {name: value for name, value in call.items() if value is not None}
    picture = "" if image is None else f"from PIL import Image\nimage = Image.open({str(image)!r})\n"
    arguments = ", ".join([repr(prompt), *(f"{name}={value!r}" for name, value in given.items())])
    config = "" if "config" not in given else "from plugins.sparse_video import RectifiedAttentionConfig\n"
    loading = ", ".join([repr(checkpoint), *(f"{name}={value!r}" for name, value in load.items())])
    command = (
        f"{picture}{config}from plugins.sparse_video import SparseVideoPipeline\n"
        f"pipe = SparseVideoPipeline.from_pretrained({loading})\n"
        f"clip = pipe({arguments}{', image=image' if picture else ''})\n"
    )
    return build_run_record("sparse-video", run, checkpoint=checkpoint, command=command, started=started)


def _save_sample(folder: Path, sample: Any, record: Any) -> None:
    from core.jsonfile import write_json
    from core.media import write_video

    name = f"{sample.variant.label.replace(' ', '-')}-seed{sample.seed}"
    write_video(folder / f"{name}.mp4", _as_bytes(sample.frames), sample.run["fps"])
    write_json(folder / f"{name}.run.json", record)


def _figures(sample: Any) -> dict[str, Any]:
    return {
        "variant": sample.variant.label,
        "seed": sample.seed,
        "psnr": sample.psnr,
        "ssim": sample.ssim,
        "run": sample.run,
    }


def _add_cost(rows: list[dict[str, Any]], dollars_per_hour: float | None) -> None:
    from core.cost import cost_of

    for row in rows:
        cost = None if dollars_per_hour is None else cost_of(row["seconds_per_minute"], dollars_per_hour)
        row["dollars_per_minute"] = cost


def _table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table, one line per variant."""
    head = ("attention", "density", "s", "× dense", "s/step", "PSNR dB", "SSIM", "peak MiB", "s/min of video")
    priced = rows[0]["dollars_per_minute"] is not None
    lines = [(*head, "$/min of video")[: len(head) + priced]]
    lines.append(tuple("---" if place == 0 else "---:" for place in range(len(lines[0]))))
    for row in rows:
        dense = row["method"] == "dense"
        memory = row["peak_memory_bytes"]
        cells = [
            row["method"] if dense else f"{row['method']} {row['density_asked']:g}",
            f"{row['density']:.3f}",
            f"{row['seconds']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['seconds_per_step']:.3f}",
            "" if dense else f"{row['psnr']:.2f}",
            f"{row['ssim']:.4f}",
            "" if memory is None else f"{memory / 2**20:.0f}",
            f"{row['seconds_per_minute']:.0f}",
        ]
        lines.append((*cells, *([f"{row['dollars_per_minute']:.4f}"] if priced else [])))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _one_line(out: Path, run: dict[str, Any]) -> str:
    executor = run["executor"] or {"name": run["attention"]["backend"]}
    return (
        f"{out}: {run['params']['num_frames']} frames in {run['timings']['total']:.1f} s on {run['device']}, seed "
        f"{run['seed']}, {run['params']['attention']} attention ({executor['name']}) at density {run['density']:.3f}"
    )


def _as_bytes(frames: Any) -> Any:
    """float 0..1 [F, H, W, 3] as uint8."""
    return (frames * 255).round().clip(0, 255).astype("uint8")


def _read_picture(path: Path) -> Any:
    from PIL import Image

    from core.media import read_image

    return Image.fromarray(read_image(path))


@contextlib.contextmanager
def _clear_errors() -> Generator[None]:
    """What the user can put right is one line on stderr and exit code 2."""
    from core.errors import QuartetError

    from .errors import SparseVideoInputError

    try:
        yield
    except (SparseVideoInputError, QuartetError, OSError) as error:
        _clear_progress()
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from None


def _check_files(*paths: Path | None) -> None:
    """Before any work: every file that is asked for can be written."""
    from .errors import SparseVideoInputError

    for path in paths:
        if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
            raise SparseVideoInputError(f"{path} cannot be written: name a file in a folder that exists")


def _check_clip(path: Path) -> None:
    from .errors import SparseVideoInputError

    if path.suffix.lower() != ".mp4":
        raise SparseVideoInputError(f"{path} does not end in .mp4, the only format that is written")


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _numbers(text: str) -> list[float]:
    from .errors import SparseVideoInputError

    try:
        return [float(part) for part in _split(text)]
    except ValueError:
        raise SparseVideoInputError(f"densities are {text!r}: write numbers such as 0.5,0.25") from None


def _size(text: str) -> tuple[int, int]:
    from .errors import SparseVideoInputError

    height, separator, width = text.lower().partition("x")
    if not (separator and height.isdecimal() and width.isdecimal()):
        raise SparseVideoInputError(f"size is {text!r}: write height x width in pixels, such as 128x128")
    return int(height), int(width)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r\033[K{text}", nl=False, err=True)


def _clear_progress() -> None:
    _progress("")


def _tell_step(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    _progress(f"step {step + 1} of {pipeline.num_timesteps}")
    return {}


for _name, _target, _summary in (
    ("bench", "benchmark:bench_command", "Time dense, sparse and rectified attention at several lengths."),
    ("train", "train:train_command", "Train the small model on videos that this generates."),
    ("evaluate", "evaluate:evaluate_command", "Prompt fidelity and error against dense."),
):
    forward_command(app, _name, f"plugins.sparse_video.{_target}", _summary, _clear_errors)
