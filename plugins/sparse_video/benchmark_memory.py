"""Peak memory of one attention call on a CPU, in a process of its own, with nothing left over from others."""

from __future__ import annotations

import contextlib
import ctypes
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from core.devices import resolve_dtype
from core.runs import peak_memory, reset_peak_memory

from .benchmark_data import Case
from .benchmark_methods import Method
from .executors.choose import choose_executor

CPU = torch.device("cpu")


def peak_in_new_process(case: Case, method: Method, dtype: torch.dtype) -> int | None:
    """Bytes, the process and the inputs included; None where that cannot be measured."""
    given = {
        "case": {**asdict(case), "file": None},
        "rectify": method.rectify,
        "density": method.density,
        "executor": None if method.executor is None else method.executor.name,
        "dtype": str(dtype).removeprefix("torch."),
    }
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import print_peak; print_peak()"],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


def print_peak() -> None:
    """In the new process: read case and method from stdin, run it once, print the peak in bytes."""
    given = json.load(sys.stdin)
    case = given["case"]
    case = Case(case["name"], tuple(case["grid"]), case["heads"], case["head_dim"])
    dtype = resolve_dtype(getattr(torch, given["dtype"]), CPU)
    tensors = case.tensors(CPU, dtype)
    choice = choose_executor(given["executor"], CPU, dtype) if given["executor"] else None
    method = Method("", rectify=given["rectify"], density=given["density"], executor=choice)
    _give_back_freed_memory()  # making the fields took more than attention does, which could use it unseen
    if not reset_peak_memory():
        raise SystemExit(1)
    with torch.no_grad():
        method.run(tensors, case)
    sys.stdout.write(f"{peak_memory()}\n")


def _give_back_freed_memory() -> None:
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL("libc.so.6").malloc_trim(0)
