"""What looking inside costs: capture beside a plain forward pass of the same batches, and memory over many batches."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Annotated, Any

import numpy as np
import psutil
import torch
import typer
from transformers import CLIPConfig, CLIPModel, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from core.devices import describe_device, resolve_device
from core.jsonfile import to_text

from .cli_parts import JsonFile, Seeds, check_folders, clear_errors, clear_progress, progress, read_seeds, write
from .families import Batch, CLIPFamily, Family, QwenFamily
from .hooks import PooledCapture, Positions
from .model_capture import RowStore

BAR = 0.10  # of the plain pass' time
SHORTEST = 0.020  # seconds of a plain pass: below it the clock and Python would be measured
KINDS = ("clip", "qwen2_5_vl")
MEMORY_BATCHES = 20

Tell = Callable[[str], None]


@dataclass(frozen=True)
class CaptureRow:
    """One model, plain and watched in turn.

    Attributes:
        taps: hooks on it: both sources and every layer. parameters: millions.
        plain, plain_low, plain_high: seconds of a pass: median, least, most.
        overhead, overhead_low, overhead_high: seconds of the watched pass over the mean of the plain ones beside it,
            less 1: median and the middle half of the rounds.
        work, work_low, work_high: as overhead, in processor time, which other programs' work does not count in; of one
            thread on the CPU, and none on an accelerator.
        hook_share: seconds in hooks over those of the watched pass, median; of queueing alone on an accelerator.
        control: as overhead, of a second plain pass: what the clock makes of no difference at all.
        same: whether the outputs were equal bit for bit.
        grown: bytes by which the process (CUDA: the allocation) grew over ten batches, less the pooled rows.
    """

    model: str
    taps: int
    parameters: float
    rounds: int
    plain: float
    plain_low: float
    plain_high: float
    overhead: float
    overhead_low: float
    overhead_high: float
    work: float | None
    work_low: float | None
    work_high: float | None
    hook_share: float
    control: float
    same: bool
    grown: int


def run_capture_benchmark(
    seeds: range, *, rounds: int = 15, device: str = "cpu", threads: int | None = None, tell: Tell | None = None
) -> dict[str, Any]:
    """Time every model with and without capture.

    Args:
        seeds: of weights and inputs.
        rounds: for each seed; each runs plain, watched and plain again, so that a busy machine is busy for all.
        device: "cpu" or "cuda".
        threads: of torch on the CPU; None: as it is.

    Returns:
        A JSON-able report: machine, rows, failures.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    say = tell or (lambda text: None)
    started = time.perf_counter()
    try:
        rows = [_time(kind, seeds, rounds, torch.device(device), say) for kind in KINDS]
        report = {
            "machine": _machine(device),
            "seeds": [seeds.start, seeds.stop],
            "rounds": rounds,
            "bar": BAR,
            "rows": [asdict(row) for row in rows],
            "failures": _failures(rows),
        }
    finally:
        torch.set_num_threads(before)
    return {**report, "wall_seconds": time.perf_counter() - started}


@dataclass(frozen=True)
class _Pass:
    """Seconds of one pass by the clock and of the processor, seconds of it in hooks, and what came out."""

    seconds: float
    work: float
    hooks: float
    output: torch.Tensor


def _time(kind: str, seeds: range, rounds: int, device: torch.device, tell: Tell) -> CaptureRow:
    plain, ratios, works, control, shares, same, grown = [], [], [], [], [], True, 0
    family: Family | None = None
    for seed in seeds:
        family, batch = _case(kind, seed, device)
        for _ in range(3):
            _watched(family, batch)  # warm
        for round_ in range(rounds):
            tell(f"{kind}, seed {seed}, round {round_ + 1} of {rounds}")
            first, watched, again = _plain(family, batch), _watched(family, batch), _plain(family, batch)
            beside = (first.seconds + again.seconds) / 2
            plain += [first.seconds, again.seconds]
            ratios.append(watched.seconds / beside - 1)
            works.append(2 * watched.work / (first.work + again.work) - 1)
            control.append(again.seconds / first.seconds - 1)
            shares.append(watched.hooks / watched.seconds)
            same &= torch.equal(first.output, watched.output)
        grown = max(grown, _growth(family, batch))
    if family is None:
        raise ValueError("seeds are empty: give one or more")
    low, high = np.quantile(ratios, (0.25, 0.75))
    work = np.quantile(works, (0.5, 0.25, 0.75)).tolist() if device.type == "cpu" else [None] * 3
    return CaptureRow(
        model=type(family.model).__name__,
        taps=2 + len(family.layers()),
        parameters=sum(each.numel() for each in family.model.parameters()) / 1e6,
        rounds=len(ratios),
        plain=float(np.median(plain)),
        plain_low=min(plain),
        plain_high=max(plain),
        overhead=float(np.median(ratios)),
        overhead_low=float(low),
        overhead_high=float(high),
        work=work[0],
        work_low=work[1],
        work_high=work[2],
        hook_share=float(np.median(shares)),
        control=float(np.median(control)),
        same=same,
        grown=grown,
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def _plain(family: Family, batch: Batch) -> _Pass:
    _wait(family.device)
    started, worked = time.perf_counter(), time.process_time()
    output = family.forward(batch)
    _wait(family.device)
    return _Pass(time.perf_counter() - started, time.process_time() - worked, 0.0, _output(output))


@torch.inference_mode()
def _watched(family: Family, batch: Batch) -> _Pass:
    """With registering, pooling, fetching and removing: all that capture adds to a pass."""
    _wait(family.device)
    taps = (*family.sources(), *family.layers())
    started, worked = time.perf_counter(), time.process_time()
    with PooledCapture(family.model, taps, family.observers()) as capture:
        capture.expect(batch.positions)
        output = family.forward(batch)
        capture.take()
        _wait(family.device)
    seconds, work = time.perf_counter() - started, time.process_time() - worked
    return _Pass(seconds, work, capture.seconds, _output(output))


def _output(output: Any) -> torch.Tensor:
    return output.logits if hasattr(output, "logits") else output.logits_per_image


def _growth(family: Family, batch: Batch) -> int:
    """Least bytes held in the second half of many batches over those of the first, less the pooled rows between.

    The least, because the allocator gives memory back when it likes.
    """
    kept, held, size = RowStore(), [], 0
    taps = (*family.sources(), *family.layers())
    with torch.inference_mode(), PooledCapture(family.model, taps, family.observers()) as capture:
        for _ in range(MEMORY_BATCHES):
            capture.expect(batch.positions)
            family.forward(batch)
            pooled = capture.take()
            size = sum(each.nbytes for each in pooled.values())
            for key, rows in pooled.items():
                kept.add(key, rows.numpy())
            held.append(_held(family.device))
    half = MEMORY_BATCHES // 2
    on_device = family.device.type == "cuda"  # where no pooled row is held
    return min(held[half:]) - min(held[:half]) - (0 if on_device else half * size)


def _held(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def _case(kind: str, seed: int, device: torch.device) -> tuple[Family, Batch]:
    """A model of random weights, with a batch of random inputs, half of whose texts are padded."""
    torch.manual_seed(seed)
    family, batch = _clip() if kind == "clip" else _qwen()
    family.model.eval().to(device)
    return family, batch.to(device, family.dtype)


def _clip() -> tuple[CLIPFamily, Batch]:
    """CLIP ViT-B/32 at a third of its depth: 2 pictures with texts of up to 32 tokens."""
    layers = {"num_hidden_layers": 4}
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "image_size": 224}
    text = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "vocab_size": 8192}
    ids = {"eos_token_id": 8191, "bos_token_id": 8190, "pad_token_id": 8191}
    config = CLIPConfig(vision_config=vision | {"patch_size": 32} | layers, text_config=text | ids | layers)
    tokens = torch.randint(0, 8000, (2, 32))
    mask = _half_padded(2, 32, left=False)
    tokens[mask == 0] = 8191
    inputs = {"input_ids": tokens, "attention_mask": mask, "pixel_values": torch.randn(2, 3, 224, 224)}
    return CLIPFamily(CLIPModel(config), None, ("a", "b")), Batch(inputs, {"words": Positions(mask=mask.bool())})


def _qwen() -> tuple[QwenFamily, Batch]:
    """Qwen2.5-VL, 512 wide: 2 pictures of 16 x 16 patches in prompts of up to 160 tokens."""
    text: dict[str, Any] = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4, "vocab_size": 8192}
    text |= {"num_attention_heads": 8, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": 8191}
    text |= {"rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 1e6}}
    vision = {"depth": 3, "hidden_size": 320, "intermediate_size": 860, "num_heads": 4, "out_hidden_size": 512}
    ids: dict[str, Any] = {"image_token_id": 8000, "video_token_id": 8001, "vision_start_token_id": 8002}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids, vision_end_token_id=8003)
    tokens, mask = torch.randint(0, 8000, (2, 160)), _half_padded(2, 160, left=True)
    tokens[:, 80:144] = 8000
    image = (tokens == 8000) & mask.bool()
    grids = torch.tensor([[1, 16, 16]] * 2)
    positions = {"prompt": Positions(mask=mask.bool()), "image": Positions(mask=image)}
    positions |= {"text": Positions(mask=mask.bool() & ~image), "patches": Positions(counts=grids.prod(1))}
    positions |= {"merged": Positions(counts=grids.prod(1) // 4)}
    pixels = torch.randn(int(grids.prod(1).sum()), 3 * 2 * 14 * 14)
    inputs = {"input_ids": tokens, "attention_mask": mask, "pixel_values": pixels, "image_grid_thw": grids}
    inputs |= {"mm_token_type_ids": image.int()}
    return QwenFamily(Qwen2_5_VLForConditionalGeneration(config), None, ("a", "b")), Batch(inputs, positions)


def _half_padded(rows: int, length: int, *, left: bool) -> torch.Tensor:
    """Every second row is padded by a quarter."""
    mask = torch.ones((rows, length), dtype=torch.long)
    mask[::2, slice(0, length // 4) if left else slice(length - length // 4, None)] = 0
    return mask


def _machine(device: str) -> dict[str, Any]:
    return {
        "device": describe_device(device).label,
        "threads": torch.get_num_threads(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _failures(rows: list[CaptureRow]) -> list[str]:
    failures = []
    for row in rows:
        if row.overhead > BAR:
            failures.append(f"capture adds {row.overhead:.1%} to {row.model}, the bar is {BAR:.0%}")
        if row.plain < SHORTEST:
            failures.append(
                f"a pass of {row.model} takes {1e3 * row.plain:.0f} ms: too short to judge, less than "
                f"{1e3 * SHORTEST:.0f} ms"
            )
        if not row.same:
            failures.append(f"capture changed the output of {row.model}")
    return failures


def to_markdown(report: dict[str, Any]) -> str:
    """The report as a table."""
    machine = report["machine"]
    head = (
        "model",
        "parameters",
        "hooks",
        "plain pass ms: median [min, max]",
        "capture adds: median [middle half]",
        "in processor time",
        "of it in hooks",
        "plain again adds",
        f"memory over {MEMORY_BATCHES // 2} batches",
    )
    lines = [
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, transformers "
        f"{machine['transformers']}, {machine['date']}; the bar is {report['bar']:.0%}",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for row in (CaptureRow(**values) for values in report["rows"]):
        cells = (
            row.model,
            f"{row.parameters:.0f} M",
            f"{row.taps}",
            f"{1e3 * row.plain:.0f} [{1e3 * row.plain_low:.0f}, {1e3 * row.plain_high:.0f}]",
            f"{row.overhead:+.1%} [{row.overhead_low:+.1%}, {row.overhead_high:+.1%}]",
            "" if row.work is None else f"{row.work:+.1%} [{row.work_low:+.1%}, {row.work_high:+.1%}]",
            f"{row.hook_share:.1%}",
            f"{row.control:+.1%}",
            f"{row.grown / 2**20:+.1f} MiB",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, *(f"- FAILED: {failure}" for failure in report["failures"])])


def capture_bench_command(
    json: JsonFile = None,
    seeds: Seeds = "0:1",
    rounds: Annotated[int, typer.Option(min=3, help="Plain, watched and plain passes of each model.")] = 15,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=0, help="Of torch. 0: its own choice.")] = 1,
) -> None:
    """Time capture beside plain forward passes; exit code 1 when it adds a tenth or more."""
    with clear_errors():
        check_folders(json)
        report = run_capture_benchmark(
            read_seeds(seeds),
            rounds=rounds,
            device=str(resolve_device(device)),
            threads=threads or None,
            tell=progress,
        )
        clear_progress()
        typer.echo(to_markdown(report))
        if json is not None:
            write(json, to_text(report))
    raise typer.Exit(1 if report["failures"] else 0)
