"""From catalogue entries to pages: what works is built, what fails is kept for its tab."""

from __future__ import annotations

import sys
from pathlib import Path

import gradio as gr
import pytest

from apps.pages import mount_page, mount_pages
from apps.shell import build_single, build_suite
from core.registry import CatalogueEntry, PluginFailure, PluginSpec, entries

SOURCE = """
import gradio as gr


def works():
    with gr.Blocks() as blocks:
        text = gr.Textbox(label="Text")
        text.submit(str.upper, text, text, api_name="{name}_shout")
    return blocks


def fails():
    with gr.Blocks():
        gr.Markdown("half")
        raise RuntimeError("no second half")
"""


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function from slug and page function to a catalogue entry, with the pages in a module on disk."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("QUARTET_STRICT", raising=False)

    def make(slug: str, function: str) -> CatalogueEntry:
        (tmp_path / f"page_{slug}.py").write_text(SOURCE.replace("{name}", slug))
        page = f"page_{slug}:{function}"
        spec = PluginSpec(
            slug=slug,
            title=slug.title(),
            task="feature-extraction",
            summary="For a test.",
            paper="2511.19470",
            pipeline=f"page_{slug}:Pipeline",
            page=page,
            checkpoint=None,
            min_memory_gb=0,
        )
        return CatalogueEntry(slug, spec=spec)

    yield make
    for name in [name for name in sys.modules if name.startswith("page_")]:
        del sys.modules[name]


def endpoints(blocks: gr.Blocks) -> set[str]:
    """Names of the endpoints that clients are shown."""
    return set(blocks.get_api_info()["named_endpoints"])


def test_a_page_that_builds_is_mounted(entry) -> None:
    page = mount_page(entry("one", "works"))
    assert isinstance(page.blocks, gr.Blocks)
    assert page.failure is None


def test_a_page_that_fails_half_way_carries_the_reason(entry) -> None:
    page = mount_page(entry("one", "fails"))
    assert page.blocks is None
    assert page.failure is not None
    assert "no second half" in page.failure.reason
    assert page.failure.how_to_fix


def test_strict_mode_raises_what_a_page_raised(entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_STRICT", "1")
    with pytest.raises(RuntimeError, match="no second half"):
        mount_page(entry("one", "fails"))


def test_a_spec_that_did_not_import_keeps_its_failure() -> None:
    failure = PluginFailure("no such package", "install it")
    page = mount_page(CatalogueEntry("far-away", failure=failure))
    assert (page.title, page.failure) == ("Far away", failure)


def test_the_suite_offers_the_endpoints_of_every_page_that_works_and_no_other(entry) -> None:
    pages = mount_pages([entry("one", "works"), entry("two", "fails"), entry("three", "works")])
    assert endpoints(build_suite(pages)) == {"/one_shout", "/three_shout"}


def test_a_page_alone_offers_the_same_endpoints_as_in_the_suite(entry) -> None:
    alone = build_single(mount_page(entry("one", "works")))
    assert endpoints(alone) == {"/one_shout"}


def test_no_event_of_the_suite_makes_others_dear():
    """Gradio writes what an event shows progress on, with all that is inside, anew at every later event."""
    blocks = build_suite(mount_pages(entries()))
    config = blocks.get_config_file()
    kinds = {each["id"]: each["type"] for each in config["components"]}
    events = [each for each in config["dependencies"] if each["backend_fn"] and each["api_visibility"] == "private"]
    assert len(events) > 20
    for event in events:
        watched = event["outputs"] if event["show_progress_on"] is None else event["show_progress_on"]
        assert watched == [], (event["targets"], [kinds[id] for id in watched])
