"""Command line: write the Hub repository of a checkpoint, or publish it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Annotated

import typer

from core.spaces.command import push_space_command, space_command

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Slug = Annotated[str, typer.Argument(help="Technique whose checkpoint it is, such as tracking.")]


@contextlib.contextmanager
def clear_errors() -> Generator[None]:
    """What the user can put right becomes a line on stderr and exit code 2."""
    from core.errors import QuartetError

    try:
        yield
    except (QuartetError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


@app.command("bundle")
def bundle_command(
    slug: Slug, to: Annotated[Path, typer.Argument(help="New or empty folder, or that of an earlier bundle.")]
) -> None:
    """Write the Hub repository of a checkpoint, exactly as it is published, into a folder."""
    with clear_errors():
        from .bundle import bundle

        made = bundle(slug, to)
    typer.echo(f"{to}: {len(made.files)} files, {sum(file.size for file in made.files):,} bytes")


@app.command("push")
def push_command(
    slug: Slug,
    repo_id: Annotated[str, typer.Argument(help="Repository on the Hub: owner/name.")],
    private: Annotated[bool, typer.Option("--private", help="Make it a private one.")] = False,
    tag: Annotated[str | None, typer.Option(help="Name for the commit, such as v1.")] = None,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    delete_others: Annotated[
        bool, typer.Option("--delete-others", help="Take away files that the checkpoint does not have.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be pushed; contact nothing.")] = False,
) -> None:
    """Publish a checkpoint on the Hub in one commit. The token is HF_TOKEN's, or that of 'hf auth login'."""
    with clear_errors():
        from .push import Target, plan, push

        target = Target(repo_id=repo_id, visibility="private" if private else "public", tag=tag)
        if dry_run:
            typer.echo("\n".join(plan(slug, target).lines()))
            return
        done = push(slug, target, message=message, may_delete=delete_others)
    typer.echo(_report(done.repo_id, done.commit, len(done.changed), len(done.deleted), done.tag))


app.command("space")(space_command)
app.command("push-space")(push_space_command)


def _report(repo_id: str, commit: str, changed: int, deleted: int, tag: str | None) -> str:
    what = f"{changed} files pushed, {deleted} taken away" if changed or deleted else "nothing to do"
    return f"{repo_id}: {what}; commit {commit}" + (f", tag {tag}" if tag else "")
