"""An outside distribution with two plugins that fail, laid out on disk as pip leaves an installed one."""

from __future__ import annotations

from pathlib import Path

MODULE = "quartet_broken"
ENABLED = "no-import,half-built"
METADATA = f"Metadata-Version: 2.1\nName: {MODULE}\nVersion: 1.0\n"
ENTRY_POINTS = f"""[quartet.plugins]
no-import = {MODULE}_import:SPEC
half-built = {MODULE}:SPEC
"""
NO_IMPORT = "import a_package_that_nobody_has\n"
HALF_BUILT = f'''
from core.registry import PluginSpec

SPEC = PluginSpec(
    slug="half-built",
    title="Half built",
    task="feature-extraction",
    summary="Fails half-way through its page.",
    paper="2511.19470",
    pipeline="{MODULE}:Pipeline",
    page="{MODULE}:page",
    checkpoint=None,
    min_memory_gb=0,
)


def page():
    import gradio as gr

    with gr.Blocks():
        gr.Markdown("This much was built.")
        raise RuntimeError("the <b>second</b> half is missing")
'''


def install(folder: Path) -> Path:
    """Write the distribution; gives back `folder`, which then belongs on PYTHONPATH."""
    information = folder / f"{MODULE}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(METADATA)
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / f"{MODULE}.py").write_text(HALF_BUILT)
    (folder / f"{MODULE}_import.py").write_text(NO_IMPORT)
    return folder
