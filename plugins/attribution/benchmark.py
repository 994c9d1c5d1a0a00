"""Our solver beside independent ones and the paper's: interleaved, one core, with accuracy and a floor."""

from __future__ import annotations

import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np
import torch

from core.devices import describe_device

from .decomposition import PIDResult, decompose
from .independent import solve_clarabel, solve_dit

SIZES = ((5, 5, 5), (10, 10, 10), (20, 20, 10), (50, 50, 10))
BATCH = (1000, 5, 5, 4)
SOLVED_BY_OTHERS = 10  # tables of the batch; their time is scaled up, since they solve one after the other
OURS, PAPER = "ours", "ipfp (paper)"
LIMIT_SECONDS = 60.0  # what a solver may be expected to take at the next size
SLOW_SECONDS = 5.0  # is run once, not in every round
GROWTH = 1.5  # of a solver's time with the number of cells, to guess whether the next size is over the limit
BARS = {"5x5x4 x 1000": 3.0, "10x10x10": 0.05, "50x50x10": 2.0}  # seconds on one core
# Of the model as dit and the textbooks write it. The lifted one, which we added, is listed beside it and not judged.
SPEED_UP, SPEED_UP_AT, JUDGED = 20.0, "10x10x10", ("Clarabel", "dit cone")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One solver on one table (or batch), once.

    Attributes:
        seconds: of solving; for ours, the whole call with checks, certificate and atoms.
        total_seconds: with building the model.
        union_information: of each table that was solved, bits.
        gap: certified, the worst, bits; None where nothing certifies.
        iterations: of each table; None where the solver does not say.
    """

    seconds: float
    total_seconds: float
    union_information: np.ndarray
    gap: float | None = None
    iterations: np.ndarray | None = None


@dataclass(frozen=True)
class Row:
    """One solver at one size, over rounds and seeds.

    Attributes:
        median, low, high: seconds of solving. total: median seconds with building the model.
        ratio, ratio_low, ratio_high: its time over ours in the same round.
        error: largest |union information - ours|, bits. gap: worst certified one, bits.
        floor_share: for ours, the time that its flops take at this machine's matrix-product rate, over its time.
    """

    size: str
    solver: str
    runs: int
    median: float
    low: float
    high: float
    total: float
    ratio: float
    ratio_low: float
    ratio_high: float
    error: float
    gap: float | None
    iterations: int | None
    floor_share: float | None


def run_benchmark(seeds: range, *, repeats: int, device: str, tell: Tell) -> dict[str, Any]:
    """Time every solver at every size.

    Args:
        seeds: of the tables (dense, Dirichlet(1)).
        repeats: rounds; in each, every solver runs once, so that a busy machine is busy for all.
        device: "cpu", or "cuda", which is compared with our solver on one CPU core.

    Returns:
        A JSON-able report: machine, rows, notes, failures.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _benchmark(seeds, repeats, device, tell)
    finally:
        torch.set_num_threads(threads)


def _benchmark(seeds: range, repeats: int, device: str, tell: Tell) -> dict[str, Any]:
    started = time.perf_counter()
    notes: list[str] = []
    solvers = _solvers(device, notes)
    rate = matrix_rate(device)
    rows: list[Row] = []
    last: dict[str, tuple[int, float]] = {}
    for size in (*SIZES, BATCH):
        name = f"{'x'.join(map(str, size[-3:]))}" + (f" x {size[0]}" if len(size) == 4 else "")
        chosen = _affordable(solvers, size, last, notes, name)
        runs = _time_size(size, chosen, seeds, repeats, lambda text, name=name: tell(f"{name}: {text}"))
        rows += _summarise(name, size, runs, rate)
        for solver, taken in runs.items():
            last[solver] = int(np.prod(size[-3:])), float(np.median([run.total_seconds for run in taken.values()]))
    notes += _against_the_fastest(rows)
    return {
        "machine": machine(device),
        "float64_gflops": rate / 1e9,
        "seeds": [seeds.start, seeds.stop],
        "repeats": repeats,
        "rows": [asdict(row) for row in rows],
        "notes": notes,
        "failures": _failures(rows) if device == "cpu" else [],
        "wall_seconds": time.perf_counter() - started,
    }


def _solvers(device: str, notes: list[str]) -> dict[str, Callable[[np.ndarray], Run]]:
    if device != "cpu":
        return {OURS: lambda table: _run_ours(table, device), "ours on one CPU core": lambda t: _run_ours(t, "cpu")}
    solvers: dict[str, Callable[[np.ndarray], Run]] = {OURS: lambda table: _run_ours(table, "cpu")}
    solvers[PAPER] = lambda table: _run_ours(table, "cpu", method="ipfp")
    if _installed("cvxpy", "clarabel"):
        solvers["Clarabel"] = lambda table: _run_other(lambda t: solve_clarabel(t, lifted=False), table)
        solvers["Clarabel, lifted"] = lambda table: _run_other(lambda t: solve_clarabel(t, lifted=True), table)
    else:
        notes.append("cvxpy and clarabel are not installed: pip install -r requirements-dev.txt")
    if _installed("dit", "ecos"):
        solvers["dit cone"] = lambda table: _run_other(solve_dit, table)
    else:
        notes.append("dit and ecos are not installed: pip install -r requirements-dev.txt")
    return solvers


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


def _run_ours(table: np.ndarray, device: str, method: Any = "broja") -> Run:
    tensor = torch.as_tensor(table, device=device)
    _wait(device)
    started = time.perf_counter()
    result: PIDResult = decompose(tensor, method=method)
    _wait(device)
    seconds = time.perf_counter() - started
    union, iterations = result.union_information.cpu().numpy(), result.iterations.cpu().numpy()
    return Run(seconds, seconds, np.atleast_1d(union), float(result.gap.max()), np.atleast_1d(iterations))


def _run_other(solve: Callable, table: np.ndarray) -> Run:
    tables = table[None] if table.ndim == 3 else table[:SOLVED_BY_OTHERS]
    scale = 1 if table.ndim == 3 else len(table) / len(tables)
    found = [solve(item) for item in tables]
    return Run(
        scale * sum(one.solve_seconds for one in found),
        scale * sum(one.total_seconds for one in found),
        np.array([one.union_information for one in found]),
    )


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _affordable(
    solvers: dict[str, Callable[[np.ndarray], Run]],
    size: tuple[int, ...],
    last: dict[str, tuple[int, float]],
    notes: list[str],
    name: str,
) -> dict[str, Callable[[np.ndarray], Run]]:
    """The solvers that should stay under the limit, guessed from the size before."""
    chosen = {}
    for solver, run in solvers.items():
        cells, seconds = last.get(solver, (1, 0.0))
        guess = seconds * max(1.0, np.prod(size[-3:]) / cells) ** GROWTH
        if solver not in (OURS, PAPER) and guess > LIMIT_SECONDS:
            notes.append(
                f"{solver} is left out at {name}: about {guess:.0f} s are expected, the limit is {LIMIT_SECONDS:.0f} s"
            )
            continue
        chosen[solver] = run
    return chosen


def dense_table(size: tuple[int, ...], seed: int) -> np.ndarray:
    """Dirichlet(1) over the cells of each table."""
    table = np.random.default_rng(seed).gamma(1.0, 1.0, size)
    return table / table.sum(axis=(-3, -2, -1), keepdims=True)


def _time_size(
    size: tuple[int, ...], solvers: dict[str, Callable[[np.ndarray], Run]], seeds: range, repeats: int, tell: Tell
) -> dict[str, dict[tuple[int, int], Run]]:
    """Runs by solver and by (seed, round); ours goes once before the clock, as a warm-up."""
    runs: dict[str, dict[tuple[int, int], Run]] = {solver: {} for solver in solvers}
    slow: set[str] = set()
    for seed in seeds:
        table = dense_table(size, seed)
        solvers[OURS](table)
        for round_ in range(repeats):
            for solver, run in solvers.items():
                if solver in slow:
                    continue
                tell(f"{solver}, seed {seed}, round {round_ + 1} of {repeats}")
                started = time.perf_counter()
                runs[solver][seed, round_] = run(table)
                if time.perf_counter() - started > SLOW_SECONDS:
                    slow.add(solver)
    return runs


def _summarise(
    name: str, size: tuple[int, ...], runs: dict[str, dict[tuple[int, int], Run]], rate: float
) -> Iterator[Row]:
    for solver, taken in runs.items():
        seconds = np.array([run.seconds for run in taken.values()])
        ratios = np.array([run.seconds / runs[OURS][key].seconds for key, run in taken.items()])
        gaps = [run.gap for run in taken.values() if run.gap is not None]
        counts = [int(run.iterations.max()) for run in taken.values() if run.iterations is not None]
        errors = [_error(run, runs[OURS][key]) for key, run in taken.items()]
        floor = None
        if solver == OURS:
            floor = float(np.median([flops(size, run.iterations) / rate / run.seconds for run in taken.values()]))
        yield Row(
            size=name,
            solver=solver,
            runs=len(taken),
            median=float(np.median(seconds)),
            low=float(seconds.min()),
            high=float(seconds.max()),
            total=float(np.median([run.total_seconds for run in taken.values()])),
            ratio=float(np.median(ratios)),
            ratio_low=float(ratios.min()),
            ratio_high=float(ratios.max()),
            error=max(errors),
            gap=max(gaps) if gaps else None,
            iterations=max(counts) if counts else None,
            floor_share=floor,
        )


def _error(run: Run, ours: Run) -> float:
    return float(np.abs(run.union_information - ours.union_information[: len(run.union_information)]).max())


def flops(size: tuple[int, ...], iterations: np.ndarray | None) -> float:
    """Multiplications and additions of the Newton systems: assembly, elimination, Cholesky and three solves each."""
    small, large = sorted(size[-3:-1])
    ny = size[-1]
    kept, eliminated = small * ny, large * ny
    assembly = 6.0 * small * eliminated * ny
    elimination = eliminated * ny * (kept + ny / 3) + 2.0 * eliminated * kept**2
    solves = 3 * (4.0 * eliminated * kept + 2.0 * kept**2)
    total = 0 if iterations is None else int(iterations.sum())
    return total * (assembly + elimination + kept**3 / 3 + solves)


def matrix_rate(device: str, *, side: int = 1000, rounds: int = 7) -> float:
    """Float64 multiplications and additions a second of a square matrix product on this device."""
    left = torch.randn(side, side, dtype=torch.float64, device=device)
    seconds = []
    for _ in range(rounds):
        _wait(device)
        started = time.perf_counter()
        left @ left
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return 2.0 * side**3 / float(np.median(seconds))


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    packages = ("cvxpy", "clarabel", "dit", "ecos", "numpy")
    return {
        "device": describe_device(device).label,
        "cpu": describe_device("cpu").label,
        "threads": torch.get_num_threads(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        **{name: metadata.version(name) for name in packages if _installed(name)},
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _against_the_fastest(rows: list[Row]) -> list[str]:
    """What is left of the speed-up at each size against whichever exact solver is fastest there."""
    notes = []
    for size in dict.fromkeys(row.size for row in rows):
        others = [row for row in rows if row.size == size and row.solver not in (OURS, PAPER)]
        if others:
            fastest = min(others, key=lambda row: row.ratio)
            notes.append(f"{size}: {fastest.ratio:.1f} times the speed of the fastest other, {fastest.solver}")
    return notes


def _failures(rows: list[Row]) -> list[str]:
    """The bars that were missed, one sentence each."""
    failures = []
    ours = {row.size: row for row in rows if row.solver == OURS}
    for size, bar in BARS.items():
        if ours[size].median > bar:
            failures.append(f"{size} takes {ours[size].median:.3f} s, the bar is {bar} s")
    for row in (row for row in rows if row.size == SPEED_UP_AT and row.solver in JUDGED):
        if row.ratio < SPEED_UP:
            failures.append(f"{SPEED_UP_AT} is {row.ratio:.1f} times faster than {row.solver}, the bar is {SPEED_UP}")
    return failures


def to_markdown(report: dict[str, Any]) -> str:
    """The report as a table."""
    head = ("size", "solver", "solve s: median [min, max]", "with model s", "times ours", "|error| bits", "gap bits")
    lines = [
        f"{report['machine']['device']}, {report['machine']['threads']} thread, torch {report['machine']['torch']}, "
        f"float64 matrix product {report['float64_gflops']:.0f} GFLOP/s, {report['machine']['date']}",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for row in (Row(**values) for values in report["rows"]):
        seconds = f"{row.median:.4f} [{row.low:.4f}, {row.high:.4f}]"
        ratio = "" if row.solver == OURS else f"{row.ratio:.1f} [{row.ratio_low:.1f}, {row.ratio_high:.1f}]"
        gap = "" if row.gap is None else f"{row.gap:.0e}"
        cells = (row.size, row.solver, seconds, f"{row.total:.4f}", ratio, f"{row.error:.0e}", gap)
        lines.append("| " + " | ".join(cells) + " |")
    shares = [f"{r['size']} {r['floor_share']:.0%}" for r in report["rows"] if r["floor_share"] is not None]
    lines += ["", f"- floor (flops of the Newton systems at that rate) over our time: {', '.join(shares)}"]
    lines += [f"- {note}" for note in report["notes"]]
    return "\n".join([*lines, *(f"- FAILED: {failure}" for failure in report["failures"])])
