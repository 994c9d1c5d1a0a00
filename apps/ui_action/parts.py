"""The plugin's parts by name, imported only when a handler needs them, and its errors as messages for people."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

import gradio as gr

from apps.job_pages import shown_errors
from core.registry import load_object

SLUG = "ui-action"


def part(path: str) -> Any:
    """What "module:name" names inside the plugin."""
    return load_object(f"plugins.ui_action.{path}")


def input_error() -> type[Exception]:
    """The plugin's own error, whose messages are written for users."""
    return part("errors:UIActionInputError")


@contextmanager
def plain_errors() -> Generator[None]:
    """The plugin's errors, and the house's, become Gradio's, without a stack trace."""
    with shown_errors():
        try:
            yield
        except input_error() as error:
            raise gr.Error(str(error), print_exception=False) from error


@cache
def _found_browser() -> str:
    """Where the browser is; only one that was found is remembered."""
    if path := part("environments.chromium:find_installed")():
        return path
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
    except Exception as error:  # no such package, no driver: what it would raise is the package's own matter
        raise FileNotFoundError("no Chromium") from error
    if not part("environments.chromium:runs")(path):
        raise FileNotFoundError("no Chromium")
    return path


def browser_missing() -> str:
    """What to do to get a real browser; "" where there is one."""
    try:
        _found_browser()
    except FileNotFoundError:
        return f"No Chromium runs here: {part('environments.chromium:INSTALL')}. The simulator works without one."
    return ""
