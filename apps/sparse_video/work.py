"""What the page asks of the server: one comparison as a job that outlives the tab."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from apps.sparse_video.files import write_files
from apps.sparse_video.inside import look_inside
from apps.sparse_video.watch import Watch
from core.errors import InputError
from core.jobs import JobContext, default_store
from core.registry import default_cache, find, load_object
from core.runs import build_run_record
from core.zero_gpu import on_accelerator

SLUG = "sparse-video"
METHODS = ("dense", "sparse", "rectified", "centroid")
BEGIN_WITH = ("dense", "rectified")
EXAMPLES = (
    "a red square moves right behind a green circle in the sky",
    "a yellow star rotates on sand",
    "a blue triangle bounces and a white circle grows in a dark room",
)
# The small model's whole vocabulary, for people to read; a test holds it against the plugin's own.
WORDS = {
    "Colours": ("red", "green", "blue", "yellow", "purple", "white"),
    "Shapes": ("circle", "square", "triangle", "star"),
    "Motions": ("moves right", "moves left", "moves up", "moves down", "bounces", "grows", "rotates", "stays"),
    "Places": ("in a dark room", "in the sky", "on sand", "on a checkered floor"),
}
MAX_STEPS = 100
FRAMES, SIDE = 57, 96  # the model's own clip; the same test holds them against its checkpoint's
# What a call takes may also be None: then the checkpoint's own default holds.
_SIZES = {"steps": "num_inference_steps", "frames": "num_frames", "height": "height", "width": "width"}


@dataclass(frozen=True)
class Request:
    """One comparison: a prompt, and the kinds of attention to make it with.

    Attributes:
        methods: of METHODS; where "dense" is among them the others are measured against it.
        density: share of key blocks to keep, of all methods but dense.
        steps, frames, height, width: None takes the checkpoint's own.
    """

    prompt: str
    methods: tuple[str, ...] = BEGIN_WITH
    density: float = 0.25
    seed: int = 0
    steps: int | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise InputError("The prompt is empty: write what the clip shows, or take one of the examples.")
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            found = f"{unknown[0]!r} is no kind of attention" if unknown else "Nothing is chosen to make the clip with"
            raise InputError(f"{found}: choose one or more of {', '.join(METHODS)}.")
        if self.steps is not None and self.steps > MAX_STEPS:
            raise InputError(f"{self.steps} steps are asked for, limit {MAX_STEPS}: lower the number of steps.")

    def arguments(self) -> dict[str, Any]:
        """What every call of the pipeline gets beside its attention."""
        return {name: value for own, name in _SIZES.items() if (value := getattr(self, own)) is not None}


def input_error() -> type[Exception]:
    """The plugin's own error, whose messages are written for users."""
    return load_object("plugins.sparse_video.errors:SparseVideoInputError")


def submit(request: Request) -> str:
    """Queue the comparison; the id of its job."""
    expected = (input_error(),)
    work = on_accelerator(run, request, seconds=accelerator_seconds(request), expected=expected)
    return default_store().submit(SLUG, work, params=asdict(request), expected=expected)


def accelerator_seconds(request: Request) -> float:
    """An upper bound, with room for loading; what ZeroGPU is asked for."""
    clip = (request.frames or FRAMES) * (request.height or SIDE) * (request.width or SIDE)
    return 20 + 0.5 * (request.steps or 20) * len(request.methods) * max(1.0, clip / (FRAMES * SIDE * SIDE))


def pipeline() -> Any:
    """The pipeline that this process keeps; on an accelerator it is loaded there, in the format that suits it."""
    kept = default_cache().on_best_device(SLUG)
    kept.set_progress_bar_config(disable=True)  # the page has its own
    return kept


def run(request: Request, context: JobContext) -> dict[str, Any]:
    """Make a clip with each kind of attention, look inside once, write the downloads; return the figures."""
    started = time.time()
    context.progress(0.0, "loading the model")
    pipe = pipeline()
    chosen = _variants(request)
    watch = Watch(context, pipe, chosen, steps=request.steps or pipe.default("num_inference_steps"))
    samples = []
    for sample in _compare(pipe, request, chosen, watch):
        samples.append(_for_visitors(sample))
        watch.finished(samples[-1])
    inside, maps = None, {}
    sparse = [variant for variant in chosen if variant.method != "dense"]
    if sparse:
        best = next((variant for variant in sparse if variant.method == "rectified"), sparse[-1])
        inside, maps = look_inside(pipe, request, best, watch)
    context.progress(0.98, "writing the files")
    rows = _rows(samples)
    result = {
        "params": asdict(request),
        "rows": rows,
        "clips": [_figures(sample, samples[0]) for sample in samples],
        "inside": inside,
        "warnings": samples[0].run["warnings"],
        "snippet": snippet(request),
    }
    record = build_run_record(SLUG, _overall(request, samples, rows), command=snippet(request), started=started)
    write_files(context.directory, samples, watch.handles, maps, result, record)
    return result


def _variants(request: Request) -> list[Any]:
    variant = load_object("plugins.sparse_video.compare:Variant")
    return [
        variant(method) if method == "dense" else variant(method, request.density)
        for method in METHODS
        if method in request.methods
    ]


def _compare(pipe: Any, request: Request, chosen: Sequence[Any], watch: Watch) -> Iterator[Any]:
    compare = load_object("plugins.sparse_video.compare:compare")
    return compare(
        pipe,
        request.prompt,
        chosen,
        [request.seed],
        tell=watch.comes_next,
        callback_on_step_end=watch.after_step,
        on_handle=watch.keep_handle,
        **request.arguments(),
    )


def _for_visitors(sample: Any) -> Any:
    """The sample as the page shows it: without the time of the live preview, nor where on this machine the model is."""
    timings = sample.run["timings"]
    total = timings["text"] + timings["denoise"] + timings["decode"]
    shown = {"timings": timings | {"total": total}, "checkpoint": find(SLUG).checkpoint}
    return replace(sample, run=sample.run | shown)


def _rows(samples: Sequence[Any]) -> list[dict[str, Any]]:
    """One row per kind of attention; without dense among them there is nothing to compare with."""
    rows = load_object("plugins.sparse_video.compare:summarise")(samples)
    if rows[0]["method"] != "dense":
        nothing = dict.fromkeys(("psnr", "ssim", "ratio", "denoise_ratio"))
        rows = [row | nothing for row in rows]
    return rows


def _figures(sample: Any, first: Any) -> dict[str, Any]:
    """What the page shows of one clip beside its row."""
    psnr = load_object("plugins.sparse_video.metrics:psnr")
    compared = first.variant.method == "dense" and sample is not first
    frames = zip(sample.frames, first.frames, strict=True)
    return {
        "method": sample.variant.method,
        "label": sample.variant.label,
        "psnr_per_frame": [psnr(own, dense) for own, dense in frames] if compared else None,
        "run": sample.run,
    }


def _overall(request: Request, samples: Sequence[Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The job as one run record: what was asked, then every clip's own record."""
    first = samples[0].run
    memory = [row["peak_memory_bytes"] for row in rows if row["peak_memory_bytes"] is not None]
    return {
        "params": asdict(request),
        "seed": request.seed,
        "device": first["device"],
        "attention": first["attention"],
        "checkpoint": first["checkpoint"],
        "revision": first["revision"],
        "timings": {sample.variant.label: sample.run["timings"]["total"] for sample in samples},
        "peak_memory_bytes": max(memory, default=None),
        "clips": {sample.variant.label: sample.run for sample in samples},
        "rows": list(rows),
    }


def snippet(request: Request) -> str:
    """The same in Python, and on the command line."""
    methods = [name for name in METHODS if name in request.methods]
    calls = [f"{name} = pipe(prompt, {_attention(name, request.density)}, **clip)" for name in methods]
    return (
        "from plugins.sparse_video import SparseVideoPipeline\n\n"
        f"pipe = SparseVideoPipeline.from_pretrained({find(SLUG).checkpoint!r})\n"
        f"prompt = {request.prompt!r}\nclip = { {'seed': request.seed} | request.arguments()!r}\n"
        + "\n".join(calls)
        + f'\nprint({methods[-1]}.frames.shape, {methods[-1]}.run["timings"])\n\n# {_command(request)}\n'
    )


def _attention(method: str, density: float) -> str:
    """A method as arguments of a call, in Python."""
    if method == "dense":
        return 'attention="dense"'
    if method == "centroid":
        return f'density={density:g}, config=pipe.attention_config().replace(rectify="centroid")'
    return f'attention="{method}", density={density:g}'


def _command(request: Request) -> str:
    """The same as one line of shell; a prompt of several lines is put on one."""
    others = ",".join(name for name in METHODS if name in request.methods and name != "dense")
    words = ["python", "-m", "plugins.sparse_video"]
    if others:
        words += ["compare", "--methods", others, "--densities", f"{request.density:g}"]
        words += ["--seeds", f"{request.seed}:{request.seed + 1}"]
    else:
        words += ["generate", "--attention", "dense", "--seed", str(request.seed)]
    for option, value in (("--steps", request.steps), ("--frames", request.frames)):
        words += [option, str(value)] if value else []
    if request.height and request.width:
        words += ["--size", f"{request.height}x{request.width}"]
    return shlex.join([*words, "--", " ".join(request.prompt.split())])
