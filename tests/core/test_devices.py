"""Devices and dtypes: what is there is found, what is not there is named with what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from core.devices import describe_device, resolve_device, resolve_dtype
from core.errors import InputError, UnavailableError

CPU = torch.device("cpu")


def needs_gpu(test):
    """Mark a test that runs on CUDA, and skip it where there is none."""
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")(test))


no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")


@no_cuda
@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has MPS")
@pytest.mark.parametrize("name", ["auto", None, "cpu", "cpu:0", CPU])
def test_a_machine_without_accelerator_resolves_to_the_cpu(name):
    assert resolve_device(name) == CPU


@no_cuda
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_missing_cuda_is_an_error_that_says_what_to_do(name):
    with pytest.raises(UnavailableError, match=f"{name}.*torch.*device='auto' or 'cpu'"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["", "gpu", "cuda:-1", "meta", "cuda:x", "../cpu"])
def test_an_unknown_device_name_lists_those_allowed(name):
    with pytest.raises(InputError, match="'auto', 'cpu', 'cuda'"):
        resolve_device(name)


@needs_gpu
def test_an_index_beyond_the_last_gpu_is_refused():
    with pytest.raises(InputError, match="CUDA indices here are 0 to"):
        resolve_device(f"cuda:{torch.cuda.device_count()}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, torch.float32),
        ("auto", torch.float32),
        ("bf16", torch.bfloat16),
        ("bfloat16", torch.bfloat16),
        ("fp16", torch.float16),
        ("float32", torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_dtype_names_resolve_on_the_cpu(name, expected):
    assert resolve_dtype(name, CPU) is expected


@pytest.mark.parametrize("name", ["int8", "Tensor", "", torch.int64, torch.float64])
def test_a_dtype_models_do_not_run_in_is_refused(name):
    with pytest.raises(InputError, match="use 'auto', 'bf16', 'fp16' or 'fp32'"):
        resolve_dtype(name, CPU)


@needs_gpu
def test_auto_dtype_on_a_current_gpu_is_a_half_precision():
    assert resolve_dtype("auto", torch.device("cuda")) in (torch.bfloat16, torch.float16)


def test_the_cpu_is_described_with_its_name_cores_and_memory():
    info = describe_device("cpu")

    assert info.kind == "cpu"
    assert info.name
    assert info.cores is not None
    assert info.cores >= 1
    assert info.total_memory_bytes > 2**28
    assert info.label.startswith(f"{info.name} · {info.cores} core")
    assert info.label.endswith("GiB")


@needs_gpu
def test_a_gpu_is_described_with_its_capability_and_memory():
    info = describe_device("cuda")

    assert info.kind == "cuda"
    assert info.capability == torch.cuda.get_device_capability()
    assert info.total_memory_bytes > 2**30


def test_importing_these_modules_imports_neither_torch_nor_media_libraries():
    heavy = ["torch", "av", "PIL", "diffusers", "transformers", "xformers", "huggingface_hub"]
    code = (
        "import sys, core.devices, core.attention, core.hub, core.media\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
