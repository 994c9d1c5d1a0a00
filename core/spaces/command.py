"""The commands that write a Space's folder and publish it; `python -m core.hub` has them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

To = Annotated[Path, typer.Option(help="New or empty folder, or that of the same Space written before.")]
Only = Annotated[str | None, typer.Option(help="Show this technique alone, such as tracking; all if left out.")]
Hardware = Annotated[str, typer.Option(help="What it will run on: cpu-basic, l4x1, a100-large, zero-a10g, ...")]
Owner = Annotated[str | None, typer.Option("--repo-owner", help="Owner of the checkpoints' repositories on the Hub.")]
Repo = Annotated[str, typer.Option(help="The Space on the Hub: owner/name.")]
Private = Annotated[bool, typer.Option("--private", help="Make it a private one.")]
Message = Annotated[str | None, typer.Option(help="Of the commit.")]
DeleteOthers = Annotated[bool, typer.Option("--delete-others", help="Take away files that this Space does not have.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be pushed; contact nothing.")]


def space_command(to: To, only: Only = None, hardware: Hardware = "cpu-basic", owner: Owner = None) -> None:
    """Write a Hugging Face Space that is ready to be pushed: card, app, requirements and checkpoints."""
    from core.hub.cli import clear_errors

    with clear_errors():
        from core.spaces.build import build_space

        space = build_space(to, only=only, hardware=hardware, repo_owner=owner)
    shown = ", ".join(space.slugs)
    typer.echo(f"{to}: {shown} for {space.hardware}; {len(space.files)} files, {space.size:,} bytes")


def push_space_command(
    repo: Repo,
    only: Only = None,
    hardware: Hardware = "cpu-basic",
    private: Private = False,
    message: Message = None,
    delete_others: DeleteOthers = False,
    dry_run: DryRun = False,
) -> None:
    """Publish a Space on the Hub in one commit. The token is HF_TOKEN's, or that of 'hf auth login'."""
    from core.hub.cli import clear_errors

    with clear_errors():
        from core.spaces.build import make_space
        from core.spaces.push import plan_space, push_space, space_target

        target = space_target(repo, visibility="private" if private else "public")
        space = make_space(only=only, hardware=hardware, repo_owner=repo.partition("/")[0])
        if dry_run:
            typer.echo("\n".join(plan_space(space, target).lines()))
            return
        done = push_space(space, target, message=message, may_delete=delete_others)
    changed = f"{len(done.changed)} files pushed, {len(done.deleted)} taken away" if done.committed else "nothing to do"
    typer.echo(f"https://huggingface.co/spaces/{repo}: {changed}; commit {done.commit}")
