"""What the commands share: errors in one line, seeds and costs as text, files written whole, progress on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Annotated

import typer

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")]
Seeds = Annotated[str, typer.Option(help="Seeds A to B - 1 of what is generated, as A:B.")]


def digest(file: Path) -> str:
    import hashlib

    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextlib.contextmanager
def clear_errors() -> Generator[None]:
    """What the user can put right is one line on stderr and exit code 2."""
    from core.errors import QuartetError

    from .errors import AttributionInputError

    try:
        yield
    except (AttributionInputError, QuartetError, OSError) as error:
        clear_progress()
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from None


def split(columns: str | None) -> list[str] | None:
    return None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]


def read_costs(pairs: list[str] | None) -> dict[str, float] | None:
    from .errors import AttributionInputError

    costs = {}
    for pair in pairs or []:
        name, separator, dollars = pair.rpartition("=")
        try:
            if not separator or not name:
                raise ValueError("no name")
            costs[name] = float(dollars)
        except ValueError as error:
            message = f"the cost {pair!r} cannot be read: write name=dollars, such as thermal=40"
            raise AttributionInputError(message) from error
    return costs or None


def read_seeds(text: str) -> range:
    from core.seeds import seed_range

    from .errors import AttributionInputError

    return seed_range(text, AttributionInputError)


def check_folders(*paths: Path | None) -> None:
    """Before any work: every file that is asked for can be written."""
    from .errors import AttributionInputError

    for path in paths:
        if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
            raise AttributionInputError(f"{path} cannot be written: name a file in a folder that exists")


def write(path: Path, text: str) -> None:
    """The whole file or, after a crash, the old one."""
    handle, name = tempfile.mkstemp(dir=path.resolve().parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def progress(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r\033[K{text}", nl=False, err=True)


def clear_progress() -> None:
    progress("")


def advance(fraction: float, message: str) -> None:
    progress("" if fraction >= 1.0 else f"{fraction:4.0%} {message}")
