"""The frame around the pages: header, one tab per technique, links into tabs, and a place for what failed."""

from __future__ import annotations

import functools
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from html import escape

import gradio as gr
import typer

from apps import about
from apps.address import DEFAULT_HOST, DEFAULT_PORT, Host, Port
from apps.components import QUIET, readout, unavailable
from apps.pages import Page, mount_page
from apps.server import serve
from core.errors import QuartetError
from core.registry import CatalogueEntry, find

TAGLINE = "Four techniques that make multimodal AI deployable, each with the numbers to judge it by."
RUNS_ON = "What this server runs on"
MASTHEAD = """<header class="masthead">
<svg viewBox="0 0 32 32" width="40" height="40" aria-hidden="true" focusable="false">
<rect x="2" y="15" width="5" height="15" rx="2.5"/><rect x="10" y="3" width="5" height="27" rx="2.5"/>
<rect x="18" y="9" width="5" height="21" rx="2.5"/>
<rect class="fourth" x="26" y="20" width="5" height="10" rx="2.5"/>
</svg><div><h1>{title}</h1><p>{tagline}</p></div></header>"""
# Opens the tab that the address names, and keeps the address bar a link to what is on screen. A job belongs to its tab,
# so it goes when the tab does. On clicks (the keyboard makes them too) and not on Gradio's `select`: that also fires
# while the page opens, before the link in the address was followed. In the browser, because an event with the tabs
# among its outputs makes Gradio go through every component of the app at every event from then on.
FOLLOW_TABS = """() => {{
  const slugs = new Set({slugs});
  const wanted = new URL(window.location.href).searchParams.get("tab");
  if (slugs.has(wanted)) document.getElementById(`${{wanted}}-button`)?.click();
  document.addEventListener("click", (event) => {{
    const slug = event.target.closest("#suite [role=tab]")?.id.replace(/-button$/, "");
    const here = new URL(window.location.href);
    if (!slugs.has(slug) || here.searchParams.get("tab") === slug) return;
    here.searchParams.delete("job");
    here.searchParams.set("tab", slug);
    window.history.replaceState(null, "", here);
  }});
}}"""


@functools.cache
def runtime_readout() -> str:
    """Device and attention of this server, as HTML; the first call imports torch, which takes seconds."""
    try:
        from core.attention import resolve_attention
        from core.devices import describe_device, resolve_device, resolve_dtype

        device = resolve_device("auto")
        choice = resolve_attention("auto", device=device, dtype=resolve_dtype("auto", device))
        values = {"Device": describe_device(device).label, "Attention": f"{choice.backend}: {choice.reason}"}
    except (ImportError, QuartetError) as error:
        values = {"Device": f"unknown: {error}"}
    return readout(values, label=RUNS_ON)


@contextmanager
def frame(title: str, tagline: str) -> Generator[gr.Blocks]:
    """What stands around every page: masthead, and a read-out that fills in once the page is open."""
    checking = readout({"Device": "checking …", "Attention": "checking …"}, label=RUNS_ON)
    # Uploads and results in Gradio's cache are looked through every hour and dropped after a day.
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
        gr.HTML(MASTHEAD.format(title=escape(title), tagline=escape(tagline)), elem_id="masthead")
        runtime = gr.HTML(checking, elem_id="runtime")
        # In a load event, not here: start-up does not wait for torch.
        blocks.load(runtime_readout, None, runtime, **QUIET)
        yield blocks


def show(page: Page) -> None:
    """Put a page, or the reason why there is none, where the caller stands."""
    if page.blocks is not None:
        page.blocks.render()
    elif page.failure is not None:
        gr.HTML(unavailable(page.title, page.failure))


def build_suite(pages: Sequence[Page]) -> gr.Blocks:
    """All pages as tabs of one app, the about page last; `?tab=slug` in the address opens one of them."""
    every = (*pages, Page("about", None, blocks=about.build_page(pages)))
    slugs = [page.slug for page in every]

    with frame("Quartet", TAGLINE) as suite:
        with gr.Tabs(elem_id="suite", overflow_behavior="wrap"):
            for page in every:
                with gr.Tab(page.title, id=page.slug, elem_id=page.slug):
                    show(page)
        suite.load(None, js=FOLLOW_TABS.format(slugs=json.dumps(slugs)), api_visibility="private")
    return suite


def build_single(page: Page) -> gr.Blocks:
    """One page as an app of its own, for a Space that shows a single technique."""
    summary = page.spec.summary if page.spec else ""
    with frame(page.title, summary) as blocks:
        show(page)
    return blocks


def launch_page(slug: str) -> None:
    """Open the page of one plugin by itself, with the suite's options; `python -m apps.<page>` ends here."""

    def main(host: Host = DEFAULT_HOST, port: Port = DEFAULT_PORT) -> None:
        page = mount_page(CatalogueEntry(slug, spec=find(slug)))
        serve(build_single(page), (page,), host=host, port=port)

    typer.run(main)
