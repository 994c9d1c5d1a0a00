"""Open the suite: `python app.py`, then http://127.0.0.1:7860. This file is also the Space's entry point."""

from __future__ import annotations

import typer

from apps.address import DEFAULT_HOST, DEFAULT_PORT, Host, Port


def main(host: Host = DEFAULT_HOST, port: Port = DEFAULT_PORT) -> None:
    """Open all techniques in one app. QUARTET_STRICT=1 stops at the first plugin that does not load."""
    # Imported here, after the arguments are known, so that --help answers at once.
    from apps.pages import mount_pages
    from apps.server import serve
    from apps.shell import build_suite
    from core.registry import entries

    pages = mount_pages(entries())
    serve(build_suite(pages), pages, host=host, port=port)


if __name__ == "__main__":
    typer.run(main)
