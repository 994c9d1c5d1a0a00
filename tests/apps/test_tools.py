"""What agents read of the endpoints: Gradio makes MCP tools and `/gradio_api/info` from the functions' docstrings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.utils import get_function_description

from apps.pages import mount_pages
from core.registry import entries

ENDPOINTS = json.loads((Path(__file__).parents[1] / "e2e" / "endpoints.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def functions() -> dict[str, tuple[Any, list[str]]]:
    """Every public endpoint: the function behind it, and the names of its parameters as clients see them."""
    found: dict[str, tuple[Any, list[str]]] = {}
    for page in mount_pages(entries()):
        assert isinstance(page.blocks, gr.Blocks), page.failure
        shown = page.blocks.get_api_info()["named_endpoints"]
        behind = {f"/{each.api_name}": each.fn for each in page.blocks.fns.values() if each.api_name}
        for name, about in shown.items():
            found[name] = (behind[name], [each["parameter_name"] for each in about["parameters"]])
    return found


def lacks(function: Any, parameters: list[str]) -> list[str]:
    """What Gradio does not find in the docstring."""
    description, described, returns = get_function_description(function)
    unfit = ["a sentence on what it does"] if len(description.split()) < 3 or not description.endswith(".") else []
    unfit += [f"a description of {name}" for name in parameters if not described.get(name)]
    return unfit + ([] if returns else ["what it gives"])


def test_every_endpoint_says_what_it_does_what_it_takes_and_what_it_gives(
    functions: dict[str, tuple[Any, list[str]]],
) -> None:
    assert functions.keys() >= ENDPOINTS.keys()
    wanting = {name: found for name, about in functions.items() if (found := lacks(*about))}
    assert wanting == {}


def test_what_is_not_said_is_found() -> None:
    def silent(path: str, depth: int) -> None:
        """Look.

        Args:
            path: where.
        """

    assert lacks(silent, ["path", "depth"]) == [
        "a sentence on what it does",
        "a description of depth",
        "what it gives",
    ]
