"""Publishing a Space: its repository is made where it has to be, and gets everything in one commit."""

from __future__ import annotations

from core.hub.push import Pushed, PushPlan, Target, Visibility, push_files
from core.spaces.build import Space


def space_target(repo_id: str, *, visibility: Visibility = "public") -> Target:
    """The Space that files go to; InputError for a name that is not owner/name."""
    return Target(repo_id=repo_id, kind="space", sdk="gradio", visibility=visibility)


def plan_space(space: Space, target: Target) -> PushPlan:
    """What `push_space` would bring; nothing is asked of the network."""
    return PushPlan(target, space.files)


def push_space(
    space: Space, target: Target, *, message: str | None = None, token: str | None = None, may_delete: bool = False
) -> Pushed:
    """Make the Space's repository hold exactly these files, in one commit, or none where nothing is new.

    Args:
        message: of the commit; None writes one.
        token: None takes that of HF_TOKEN or of 'hf auth login'.
        may_delete: whether files that the repository has and this Space has not may go. One that the Hub has just made
            holds a README and .gitattributes, which are among ours.

    Raises:
        InputError: the repository holds other files, or is public and ought to be private.
        UnavailableError: no token or a wrong one, no rights, or the Hub cannot be reached.
    """
    said = message or f"Publish {space.card.title}"
    return push_files(space.files, target, message=said, token=token, may_delete=may_delete)
