"""Dense, sparse and rectified attention beside each other: interleaved rounds, memory, error, the project's bars."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from core.devices import describe_device, resolve_device, resolve_dtype
from core.runs import peak_memory, reset_peak_memory

from .benchmark_data import GPU_CASES, Case, case_from_file, cases_of_lengths
from .benchmark_memory import peak_in_new_process
from .benchmark_methods import DENSE, Method, Tensors, methods_of, now
from .benchmark_report import to_markdown, to_svg
from .errors import SparseVideoInputError
from .executors.choose import choose_executor

SLOW = 1.5  # what takes longer than this many times dense is timed in the first round only
# Bars: (head_dim, density) -> speed-up on a CPU at 16,384 tokens; on a GPU at HunyuanVideo's shape at 20 % density.
CPU_TOKENS = 16384
CPU_SPEED_UPS = {(64, 0.25): 1.9, (64, 0.125): 3.5, (128, 0.25): 2.2, (128, 0.125): 4.0}
MOST_OVERHEAD, MOST_MEMORY = 0.12, 1.3
MEMORY_DENSITIES = (0.25, 0.125)
GPU_CASE, GPU_DENSITY, GPU_SPEED_UP = GPU_CASES[2].name, 0.2, 3.5
FOLDER = Path(__file__).with_name("benchmarks")

Tell = Callable[[str], None]


@dataclass
class Samples:
    """Of one method at one size: seconds by round, and of the last round the rest."""

    seconds: dict[int, float] = field(default_factory=dict)
    inside: dict[int, float] = field(default_factory=dict)
    density: float = 1.0
    error: float | None = None
    peak: int | None = None


def run_benchmark(
    cases: list[Case],
    densities: list[float],
    *,
    device: str = "cpu",
    dtype: str = "bf16",
    repeats: int = 7,
    seconds_per_case: float = 30.0,
    all_executors: bool = True,
    tell: Tell = lambda _: None,
) -> dict[str, Any]:
    """Time every method at every size.

    Args:
        cases: sizes. densities: shares of key blocks to keep; forced neighbours come on top.
        repeats: most rounds; in each, every method runs once, so that a busy machine is busy for all.
        seconds_per_case: no new round begins after this time; where the first calls take longer, they are the figures.
        all_executors: time also the executors that "auto" did not choose.

    Returns:
        A JSON-able report: machine, rows, notes, bars.
    """
    started, where = time.perf_counter(), resolve_device(device)
    number_format = resolve_dtype(dtype, where)
    chosen = choose_executor("auto", where, number_format)
    notes: list[str] = []
    rows: list[dict[str, Any]] = []
    with torch.no_grad():
        for case in cases:
            methods = list(methods_of(case, densities, chosen, where, number_format, all_executors, notes))
            tensors = case.tensors(where, number_format)
            samples = _time(case, methods, tensors, repeats, seconds_per_case, tell, notes)
            if where.type == "cpu" and case.tokens == CPU_TOKENS and case.file is None:
                _add_memory(case, samples, number_format, tell)
            rows += _summarise(case, methods, samples)
    report = {
        "machine": machine(where),
        "matrix_gflops": matrix_rate(where, number_format) / 1e9,
        "dtype": str(number_format).removeprefix("torch."),
        "executor": {"name": chosen.name, "reason": chosen.reason},
        "densities": densities,
        "repeats": repeats,
        "rows": rows,
        "notes": list(dict.fromkeys(notes)),
        "bars": [],
        "wall_seconds": time.perf_counter() - started,
    }
    report["bars"] = list(_judge(rows, where))
    return report


def _time(
    case: Case,
    methods: list[Method],
    tensors: Tensors,
    repeats: int,
    seconds: float,
    tell: Tell,
    notes: list[str],
) -> dict[Method, Samples]:
    """Samples by method; one that fails is left out with a note."""
    device = tensors[0].device
    samples: dict[Method, Samples] = {}
    expected: Tensor | None = None
    begun = time.perf_counter()
    for method in methods:  # to warm up, to compile, and for error and memory
        tell(f"{case.name}: {method.name} {method.density:g}, first call")
        try:
            reset_peak_memory(device)
            started = now(device)
            out, density, inside = method.run(tensors, case)
            taken = now(device) - started
        except (RuntimeError, SparseVideoInputError, ValueError) as error:
            notes.append(f"{method.name} at {case.name} failed: {str(error).strip().partition(chr(10))[0]}")
            continue
        peak = peak_memory(device) if device.type == "cuda" else None
        expected = out if expected is None else expected
        error = relative_error(out, expected)
        samples[method] = Samples({0: taken}, {0: inside}, density, error, peak)
    if not any(method.name.startswith(DENSE) for method in samples):
        raise SparseVideoInputError(f"dense attention does not fit at {case.name}: {'; '.join(notes[-3:])}")
    # Where that took so long, warming up makes no difference and these are the figures, but for what was compiled.
    once = time.perf_counter() - begun > seconds
    slow = {method for method in samples if once and method.main}
    begun = time.perf_counter()
    for round_ in range(1 if once else repeats):
        if round_ and time.perf_counter() - begun > seconds:
            break
        for method in (method for method in samples if method not in slow):
            tell(f"{case.name}: {method.name} {method.density:g}, round {round_ + 1} of {repeats}")
            started = now(device)
            _, _, inside = method.run(tensors, case)
            samples[method].seconds[round_] = now(device) - started
            samples[method].inside[round_] = inside
        dense = min(sample.seconds[round_] for method, sample in samples.items() if method.name.startswith(DENSE))
        slow |= {m for m, sample in samples.items() if not m.main and sample.seconds.get(round_, 0) > SLOW * dense}
    return samples


def relative_error(output: Tensor, expected: Tensor) -> float:
    """L2 norm of the difference over that of what was expected, head by head to need little memory."""
    difference = norm = 0.0
    for got, wanted in zip(output.flatten(0, 1), expected.flatten(0, 1), strict=True):
        difference += float((got.float() - wanted.float()).square().sum())
        norm += float(wanted.float().square().sum())
    return (difference / max(norm, 1e-30)) ** 0.5


def _add_memory(case: Case, samples: dict[Method, Samples], dtype: torch.dtype, tell: Tell) -> None:
    """Peak memory on a CPU of what is judged by it."""
    for method, sample in samples.items():
        if method.main and method.name != "sparse" and (method.dense or method.density in MEMORY_DENSITIES):
            tell(f"{case.name}: {method.name} {method.density:g}, memory")
            sample.peak = peak_in_new_process(case, method, dtype)


def _summarise(case: Case, methods: list[Method], samples: dict[Method, Samples]) -> Iterator[dict[str, Any]]:
    dense = {method: sample for method, sample in samples.items() if method.name.startswith(DENSE)}
    best = min(dense, key=lambda method: median(dense[method].seconds.values()))
    base = dense[best]
    for method, sample in ((method, samples[method]) for method in methods if method in samples):
        ratios = [base.seconds[round_] / seconds for round_, seconds in sample.seconds.items()]
        outside = [1 - sample.inside[round_] / seconds for round_, seconds in sample.seconds.items()]
        sparse = method.dense is None and sample.density < 1
        yield {
            "case": case.name,
            "tokens": case.tokens,
            "heads": case.heads,
            "head_dim": case.head_dim,
            "grid": list(case.grid),
            "method": method.name,
            "asked_density": method.density,
            "density": sample.density,
            "executor": method.executor.name if method.executor and sparse else DENSE,
            "judged": method.main,
            "in_plot": method.main and method.name == "rectified",
            "rounds": len(sample.seconds),
            "seconds": median(sample.seconds.values()),
            "speed_up": median(ratios),
            "speed_up_low": min(ratios),
            "speed_up_high": max(ratios),
            "ideal_share": median(ratios) * sample.density if sparse else None,
            "overhead": median(outside) if sparse else None,
            "peak_memory_bytes": sample.peak,
            "memory_ratio": sample.peak / base.peak if sample.peak and base.peak else None,
            "error": sample.error,
        }


def _judge(rows: list[dict[str, Any]], device: torch.device) -> Iterator[dict[str, Any]]:
    """The bars of the project that these rows can tell about."""
    for row in (row for row in rows if row["method"] == "rectified" and row["judged"]):
        what = f"{row['case']} at {row['asked_density']:g}"
        if device.type == "cuda":
            if row["case"] == GPU_CASE and row["asked_density"] == GPU_DENSITY:
                yield _bar(f"{what}: speed-up over the best dense backend", row["speed_up"], GPU_SPEED_UP, most=False)
            continue
        bar = CPU_SPEED_UPS.get((row["head_dim"], row["asked_density"]))
        if bar is None or row["tokens"] != CPU_TOKENS:
            continue
        yield _bar(f"{what}: speed-up over dense attention", row["speed_up"], bar, most=False)
        yield _bar(f"{what}: share of selection and correction", row["overhead"], MOST_OVERHEAD, most=True)
        if row["memory_ratio"] is not None:
            yield _bar(f"{what}: peak memory over dense", row["memory_ratio"], MOST_MEMORY, most=True)


def _bar(text: str, value: float, bar: float, *, most: bool) -> dict[str, Any]:
    met = value <= bar if most else value >= bar
    return {
        "text": f"{text} {value:.3f}, at {'most' if most else 'least'} {bar:g}",
        "value": value,
        "bar": bar,
        "met": met,
    }


def matrix_rate(device: torch.device, dtype: torch.dtype, *, side: int = 2048, rounds: int = 7) -> float:
    """Multiplications and additions a second of a square matrix product: the ceiling of any attention kernel."""
    left = torch.randn(side, side).to(device, dtype)
    seconds = []
    for _ in range(rounds):
        started = now(device)
        left @ left
        seconds.append(now(device) - started)
    return 2.0 * side**3 / median(seconds)


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "device": describe_device(device).label,
        "cpu": describe_device("cpu").label,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "load": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def bench_command(
    lengths: Annotated[str, typer.Option(help="Visual tokens, comma-separated; on CUDA the true shapes.")] = "",
    densities: Annotated[str, typer.Option(help="Shares of key blocks to keep.")] = "1,0.5,0.25,0.125",
    head_dims: Annotated[str, typer.Option(help="Head sizes.")] = "64,128",
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 4,
    qkv: Annotated[Path | None, typer.Option(help="Captured query, key and value (safetensors) as one more.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="bf16, fp16 or fp32.")] = "bf16",
    repeats: Annotated[int, typer.Option(min=1, help="Most rounds.")] = 7,
    seconds: Annotated[float, typer.Option(help="Per size: no new round begins after this.")] = 30.0,
    all_executors: Annotated[bool, typer.Option(help="Time also those that were not chosen.")] = True,
    json: Annotated[Path | None, typer.Option(help="Report; its table and plot lie beside it.")] = None,
) -> None:
    """Time dense, sparse and rectified attention at several lengths; exit code 1 when a bar is missed."""
    shares = _numbers(densities, float, "densities")
    on_gpu = device.startswith("cuda")
    if on_gpu and GPU_DENSITY not in shares:
        shares.append(GPU_DENSITY)
    sizes = _numbers(lengths or "4096,16384,32768", int, "lengths")
    cases = list(cases_of_lengths(sizes, heads, _numbers(head_dims, int, "head_dims")))
    cases = list(GPU_CASES) if on_gpu and not lengths else cases
    cases += [] if qkv is None else [case_from_file(qkv)]
    path = json or FOLDER / f"{datetime.now(UTC):%Y-%m-%d}-{device.partition(':')[0]}.json"
    if json is None:
        FOLDER.mkdir(exist_ok=True)
    elif path.is_dir() or not path.resolve().parent.is_dir():
        raise SparseVideoInputError(f"{path} cannot be written: name a file in a folder that exists")
    settings = {"repeats": repeats, "seconds_per_case": seconds, "all_executors": all_executors}
    report = run_benchmark(cases, shares, device=device, dtype=dtype, **settings, tell=_progress)
    _progress("")
    _write(report, path, CPU_TOKENS if any(case.tokens == CPU_TOKENS for case in cases) else cases[-1].tokens)
    typer.echo(to_markdown(report))
    raise typer.Exit(0 if all(bar["met"] for bar in report["bars"]) else 1)


def _numbers(text: str, kind: Callable[[str], Any], name: str) -> list[Any]:
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) <= 0:
        raise SparseVideoInputError(f"{name} are {text!r}: write positive numbers with commas between, such as 1,2")
    return numbers


def _write(report: dict[str, Any], path: Path, tokens: int) -> None:
    from core.jsonfile import write_json

    write_json(path, report)
    path.with_suffix(".md").write_text(to_markdown(report) + "\n", encoding="utf-8")
    if plot := to_svg(report, tokens):
        path.with_suffix(".svg").write_text(plot, encoding="utf-8")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r\033[K{text}", nl=False, err=True)
