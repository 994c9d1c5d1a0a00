"""The about page: what is installed, where it comes from, and how to use it without the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import gradio as gr

from apps.components import html_table, readout
from apps.pages import Page
from core.runs import collect_versions

USE = """
## Use it without this page

**Python**: every technique is a pipeline that needs no app around it.

```python
from core.registry import load_pipeline

pipeline = load_pipeline("attribution")
```

**Command line**: every technique is a module; this lists what it can do.

```bash
python -m plugins.attribution --help
```

**Over HTTP**: every button is an endpoint. The names, inputs and outputs of all of them:

```bash
curl http://127.0.0.1:7860/gradio_api/info
```

```python
from gradio_client import Client

client = Client("http://127.0.0.1:7860")
client.view_api()
```

**Links**: the address follows the tab and the job on it, so copying it is enough to come back.

## Licence

Apache License 2.0. The techniques are those of the papers above; the code is an implementation of its own.
"""
HEADINGS = ("Technique", "What it is for", "Paper", "Checkpoint", "Memory", "Status")


def plugin_cells(page: Page) -> tuple[str, ...]:
    """One technique as cells of HTML; what is unknown because the plugin did not load reads as a dash."""
    spec = page.spec
    status = escape("ready" if page.failure is None else f"unavailable: {page.failure.reason}")
    if spec is None:
        return escape(page.slug), "–", "–", "–", "–", status
    name = f"<strong>{escape(spec.title)}</strong><br><code>{escape(spec.slug)}</code>"
    paper = f'<a href="https://arxiv.org/abs/{escape(spec.paper)}">arXiv {escape(spec.paper)}</a>'
    checkpoint = escape(spec.checkpoint or "needs none")
    return name, escape(spec.summary), paper, checkpoint, f"{spec.min_memory_gb:g} GB", status


def plugin_table(pages: Sequence[Page]) -> str:
    """All techniques as an HTML table."""
    rows = map(plugin_cells, pages)
    return "<h2>Techniques in this app</h2>" + html_table(HEADINGS, rows, label="Techniques", style="plain")


def build_page(pages: Sequence[Page]) -> gr.Blocks:
    """The page as blocks; it lists exactly the pages it is given."""
    with gr.Blocks() as blocks:
        gr.HTML(plugin_table(pages), elem_id="about-plugins")
        versions = readout(collect_versions(), label="Versions")
        gr.HTML(f"<h2>Versions</h2>{versions}", elem_id="about-versions")
        gr.Markdown(USE, elem_id="about-use")
    return blocks
