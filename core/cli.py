"""What the plugins' command lines share."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import typer


def forward_command(
    app: typer.Typer, name: str, target: str, summary: str, errors: Callable[[], AbstractContextManager[None]]
) -> None:
    """Register a command that another module defines; that module is imported when the command runs.

    Its options, and so its --help, are read from its signature then: help on the whole stays free of torch.

    Args:
        target: "package.module:function".
        summary: the command's line in the help on the whole.
        errors: makes the block that turns what the user can put right into a line on stderr.
    """
    path, _, function = target.partition(":")

    def run(context: typer.Context) -> None:
        try:
            command = getattr(importlib.import_module(path), function)
        except ModuleNotFoundError as error:
            if error.name != path:
                raise
            typer.echo(f"error: {name} is not part of this installation: there is no {path}", err=True)
            raise typer.Exit(2) from None
        inner = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        inner.command()(command)
        with errors():
            inner(context.args, prog_name=context.command_path)

    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command(name, context_settings=settings, help=summary)(run)
