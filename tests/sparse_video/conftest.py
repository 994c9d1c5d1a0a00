"""Fixtures of the pipeline tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from .pipelines import make_pipeline


@pytest.fixture(scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return make_pipeline()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pipe: Any) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny"
    pipe.save_pretrained(path)
    return path
