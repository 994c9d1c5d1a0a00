"""Serve blocks over HTTP: Gradio's own server with our limits, our look, health checks and, where it can, MCP."""

from __future__ import annotations

import importlib.util
import logging
import os
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from apps.pages import Page
from apps.readiness import Startup
from apps.theme import CSS_FILE, FAVICON, QuartetTheme
from core import zero_gpu
from core.jobs import default_store
from core.runs import quartet_version

logger = logging.getLogger(__name__)

MAX_UPLOAD = "200mb"
MAX_WAITING = 64


def health(pages: Sequence[Page]) -> dict[str, object]:
    """What `/healthz` answers: `status` is "ok", or "degraded" where a plugin is unavailable."""
    plugins = [
        {"slug": page.slug, "available": page.failure is None, "reason": page.failure and page.failure.reason}
        for page in pages
    ]
    status = "ok" if all(plugin["available"] for plugin in plugins) else "degraded"
    return {"status": status, "version": quartet_version(), "gradio": version("gradio"), "plugins": plugins}


def speaks_mcp() -> bool:
    """Whether to serve the endpoints as MCP tools: where gradio[mcp] is installed, unless QUARTET_MCP is 0."""
    return os.environ.get("QUARTET_MCP") != "0" and importlib.util.find_spec("mcp") is not None


def health_routes(pages: Sequence[Page], startup: Startup) -> list[Route]:
    """`/healthz`: this process answers; `/readyz`: it has finished starting."""
    body = health(pages)

    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse(body)

    async def readyz(_: Request) -> JSONResponse:
        status, answer = startup.answer()
        return JSONResponse(answer, status)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def shared_folders() -> list[str]:
    """Folders that Gradio may hand files out from, beside its own cache.

    Results under the temporary folder are copied to the cache when a page returns them. A data folder
    elsewhere has to be named; its files are then open to whoever knows a job's id, as the job's page is.
    """
    jobs = Path(default_store().directory).resolve()
    return [] if jobs.is_relative_to(Path(tempfile.gettempdir()).resolve()) else [str(jobs)]


def serve(blocks: gr.Blocks, pages: Sequence[Page], *, host: str, port: int | None) -> None:
    """Launch and block until interrupted; without a port, Gradio takes the first free one from 7860 up."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio's own start-up probes
    startup = Startup()
    if zero_gpu.active():
        startup.run()  # ZeroGPU takes stock of the weights when the app is launched
    else:
        startup.run_beside()

    # `launch` rather than a FastAPI app of our own: ZeroGPU hooks into it, and it still takes routes.
    _, address, _ = blocks.queue(max_size=MAX_WAITING).launch(
        server_name=host,
        server_port=port,
        app_kwargs={"routes": health_routes(pages, startup)},
        mcp_server=speaks_mcp(),
        theme=QuartetTheme(),
        css_paths=[CSS_FILE],
        favicon_path=FAVICON,
        footer_links=["api", "settings"],
        max_file_size=MAX_UPLOAD,
        allowed_paths=shared_folders(),
        show_error=False,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        enable_monitoring=False,
        # Gradio would keep inputs and outputs in the visitor's browser; the job store keeps what is wanted.
        run_history=False,
        pwa=False,
    )
    logger.info("open on %s", address)
    blocks.block_thread()
