"""Publishing files as a Hub repository: one commit, or none where nothing is new; after a failure, run it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from core.errors import InputError, UnavailableError
from core.hub.bundle import RepositoryFile, repository_files
from core.hub.explain import explained
from core.spaces.card_text import refuse
from core.spaces.model_card import model_card_problems

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

Visibility = Literal["public", "private"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The repository that files go to.

    Attributes:
        repo_id: "owner/name".
        kind: what it is on the Hub.
        visibility: of a repository that is made; one that exists keeps its own, and is refused where it is public and
            ought to be private.
        sdk: of a Space: "gradio", "docker" or "static".
        tag: name for the commit, such as "v1"; None sets none.
    """

    repo_id: str
    kind: Literal["model", "space"] = "model"
    visibility: Visibility = "public"
    sdk: str | None = None
    tag: str | None = None

    def __post_init__(self) -> None:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        from core.hub.resolve import is_revision

        try:
            validate_repo_id(self.repo_id)
        except HFValidationError as error:
            raise InputError(f"{self.repo_id[:200]!r} is not a Hub id: write 'owner/name'.") from error
        if self.repo_id.count("/") != 1:
            raise InputError(f"{self.repo_id!r} names no owner: write 'owner/{self.repo_id}'.")
        if self.tag is not None and not is_revision(self.tag):
            raise InputError(
                f"{self.tag[:200]!r} cannot be a tag: use letters, digits, '.', '-' and '_', as in 'v1.0'."
            )
        if (self.kind == "space") != (self.sdk is not None):
            raise InputError("A Space needs an sdk ('gradio', 'docker' or 'static'), and a model has none.")


@dataclass(frozen=True, slots=True)
class PushPlan:
    """What a push would bring to a repository, as far as can be known without asking the Hub.

    Attributes:
        target: where to.
        files: everything that the repository holds afterwards.
    """

    target: Target
    files: tuple[RepositoryFile, ...]

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(file.size for file in self.files)

    def lines(self) -> tuple[str, ...]:
        """The plan in words, for a terminal."""
        target = self.target
        tag = f", tagged {target.tag!r}" if target.tag else ""
        return (
            f"{target.kind} {target.repo_id} ({target.visibility} where it has to be made): one commit{tag}",
            *(f"  {file.size:>12,}  {file.path}" for file in self.files),
            f"  {self.size:>12,}  bytes in {len(self.files)} files; those that are there already are not sent again",
        )


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did.

    Attributes:
        repo_id: where.
        commit: the commit that holds the files, new or not.
        changed: files that were new or different.
        deleted: files that were taken away.
        tag: the tag on the commit; None if none was asked for.
    """

    repo_id: str
    commit: str
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    tag: str | None = None

    @property
    def committed(self) -> bool:
        """Whether there was anything to commit."""
        return bool(self.changed or self.deleted)


def plan(slug: str, target: Target) -> PushPlan:
    """What `push` would bring; nothing is asked of the network.

    Raises:
        InputError, QuartetError: as `repository_files`, or the card is not one that the Hub takes.
    """
    return PushPlan(target, _with_sound_card(slug))


def push(
    slug: str, target: Target, *, message: str | None = None, token: str | None = None, may_delete: bool = False
) -> Pushed:
    """Publish a technique's checkpoint, with its card and code.

    Args:
        message: of the commit; None writes one.
        token: None takes that of HF_TOKEN or of 'hf auth login'.
        may_delete: whether files that the repository has and the checkpoint has not may go.

    Raises:
        InputError: the card has problems; the repository holds other files, is public and ought to be private, or its
            tag is taken; or as `repository_files`.
        UnavailableError: no token or a wrong one, no rights, or the Hub cannot be reached.
    """
    said = message or f"Publish {slug}"
    return push_files(_with_sound_card(slug), target, message=said, token=token, may_delete=may_delete)


def _with_sound_card(slug: str) -> tuple[RepositoryFile, ...]:
    """A checkpoint's files, before anything is sent: a card with problems is refused with all of them."""
    files = repository_files(slug)
    (card,) = (file for file in files if file.path == "README.md")
    refuse(f"The card of {slug}", model_card_problems(card.content.decode()))
    return files


def push_files(
    files: Sequence[RepositoryFile],
    target: Target,
    *,
    message: str,
    token: str | None = None,
    may_delete: bool = False,
) -> Pushed:
    """Make a repository hold exactly these files, in one commit; arguments and errors as of `push`."""
    api = _api(token)
    with explained(target.repo_id, target.kind):
        api.create_repo(
            target.repo_id,
            repo_type=target.kind,
            private=target.visibility == "private" or None,
            exist_ok=True,
            space_sdk=target.sdk,
        )
        head = _head(api, target)
        there = _hashes(api, target, head)
        changed = tuple(file for file in files if there.get(file.path) not in (file.sha256, file.git_sha1))
        surplus = tuple(sorted(there.keys() - {file.path for file in files}))
        _refuse_deletion(target, surplus, may_delete)
        tagged = _tagged_commit(api, target)
        if tagged is not None and (changed or surplus or tagged != head):
            raise _tag_taken(target, tagged)
        if changed or surplus:
            head = _commit(api, target, head, _operations(changed, surplus), message)
        if target.tag is not None and tagged is None:
            api.create_tag(target.repo_id, tag=target.tag, revision=head, repo_type=target.kind)
    return Pushed(target.repo_id, head, tuple(file.path for file in changed), surplus, target.tag)


def _api(token: str | None) -> HfApi:
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UnavailableError("HF_HUB_OFFLINE=1 forbids the network.", "Unset it to push.")
    found = token or get_token()
    if not found:
        raise UnavailableError(
            "There is no Hub token.", "Run 'hf auth login', or set HF_TOKEN to a token that may write."
        )
    return HfApi(token=found)


def _head(api: HfApi, target: Target) -> str:
    """The last commit of main."""
    info = api.repo_info(target.repo_id, repo_type=target.kind)
    if target.visibility == "private" and not info.private:
        raise InputError(
            f"{target.repo_id} is there already and is public: make it private in its settings on the Hub, or push "
            "without --private."
        )
    return str(info.sha)


def _hashes(api: HfApi, target: Target, head: str) -> dict[str, str]:
    """What the repository holds: of each file its sha256 where it is a large one, else git's sha1."""
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(target.repo_id, recursive=True, revision=head, repo_type=target.kind)
    return {
        entry.path: entry.lfs.sha256 if entry.lfs is not None else entry.blob_id
        for entry in tree
        if isinstance(entry, RepoFile)
    }


def _refuse_deletion(target: Target, surplus: Sequence[str], may_delete: bool) -> None:
    if surplus and not may_delete:
        shown = ", ".join(surplus[:3]) + (f" and {len(surplus) - 3} more" if len(surplus) > 3 else "")
        raise InputError(
            f"{target.repo_id} holds files that are not among those to be pushed ({shown}). If they may go, add "
            "--delete-others (the Hub keeps them in its history); else check the name."
        )


def _tagged_commit(api: HfApi, target: Target) -> str | None:
    """The commit that has the tag already; None where there is none, or none is asked for."""
    if target.tag is None:
        return None
    refs = api.list_repo_refs(target.repo_id, repo_type=target.kind)
    return next((ref.target_commit for ref in refs.tags if ref.name == target.tag), None)


def _tag_taken(target: Target, commit: str) -> InputError:
    return InputError(
        f"{target.repo_id} has a tag {target.tag!r} already, on {commit[:12]}, which holds other files. Nothing was "
        "pushed: choose another tag."
    )


def _operations(
    changed: Sequence[RepositoryFile], surplus: Sequence[str]
) -> list[CommitOperationAdd | CommitOperationDelete]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    return [
        *(CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=file.content) for file in changed),
        *(CommitOperationDelete(path_in_repo=path) for path in surplus),
    ]


def _commit(
    api: HfApi,
    target: Target,
    head: str,
    operations: list[CommitOperationAdd | CommitOperationDelete],
    message: str,
) -> str:
    """One commit on top of `head`; not upload_folder, which may make several and leave some of the files published."""
    made = api.create_commit(
        target.repo_id, operations, commit_message=message, repo_type=target.kind, parent_commit=head
    )
    return made.oid
