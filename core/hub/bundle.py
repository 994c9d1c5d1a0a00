"""The Hub repository of a technique's checkpoint, as files: card, settings, weights, and the code that loads it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from core.errors import InputError, QuartetError
from core.hub.code import INDEX, for_diffusers, published_code
from core.hub.resolve import check_weights
from core.registry import ROOT, PluginSpec, find

SUFFIXES = frozenset({".json", ".jinja", ".md", ".model", ".png", ".py", ".safetensors", ".svg", ".txt"})
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.png filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(frozen=True, slots=True)
class RepositoryFile:
    """One file of a repository.

    Attributes:
        path: where it lies in the repository, with forward slashes.
        content: its bytes.
    """

    path: str
    content: bytes = field(repr=False)

    def __post_init__(self) -> None:
        pure = PurePosixPath(self.path)
        if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in self.path or str(pure) != self.path:
            raise InputError(f"{self.path!r} cannot be a file of a repository: give a relative path inside it.")

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content)

    @property
    def sha256(self) -> str:
        """Of the content, in hex; what the Hub calls a large file by."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_sha1(self) -> str:
        """Of the content as git stores it, in hex; what the Hub calls any other file by."""
        return hashlib.sha1(b"blob %d\0" % self.size + self.content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A repository that was written to a folder.

    Attributes:
        slug: whose checkpoint it is.
        folder: where it lies.
        files: what is in it, in order of path.
    """

    slug: str
    folder: Path
    files: tuple[RepositoryFile, ...]


def repository_files(slug: str) -> tuple[RepositoryFile, ...]:
    """What the Hub repository of a technique's checkpoint holds, in order of path: the same bytes each time.

    Raises:
        InputError: there is no such technique, or it has no checkpoint of its own.
        QuartetError: its folder in hub_cards holds something else, or code that is not the plugin's.
    """
    spec = find(slug)
    folder = _card_folder(spec)
    card = {file.relative_to(folder).as_posix(): file.read_bytes() for file in _card_files(folder)}
    code = published_code(spec)
    _check_copies(folder, card, code)
    if INDEX in card:
        code = for_diffusers(spec, code, card[INDEX])
    found = {**card, **code, ".gitattributes": ATTRIBUTES}
    return tuple(RepositoryFile(path, found[path]) for path in sorted(found))


def bundle(slug: str, to: Path) -> Bundle:
    """Write the Hub repository of a technique's checkpoint into a folder, whole or not at all.

    Args:
        to: a new or empty folder, or one that an earlier bundle of this checkpoint was written to.

    Raises:
        InputError: the folder holds something else, or as `repository_files`.
        QuartetError: as `repository_files`.
    """
    files = repository_files(slug)
    write_folder(files, to)
    return Bundle(slug, to, files)


def write_folder(files: Sequence[RepositoryFile], to: Path) -> None:
    """Write the files into a folder that holds nothing else, so that no reader finds half of them.

    Raises:
        InputError: the folder holds something else, or is a file.
    """
    to = to.absolute()  # "." has no name and no parent
    _check_target(to, {file.path for file in files})
    if to.is_dir() and all(_is_written(to, file) for file in files):
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as scratch:
        made, old = Path(scratch, "new"), Path(scratch, "old")
        for file in files:
            path = made / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
        if to.exists():
            to.rename(old)
        try:
            made.rename(to)
        except OSError:
            if old.exists():
                shutil.move(old, to)
            raise


def _card_folder(spec: PluginSpec) -> Path:
    if spec.checkpoint is None:
        raise InputError(f"{spec.slug} has no checkpoint of its own, so there is nothing to publish.")
    folder = ROOT / spec.checkpoint
    if not (folder / "README.md").is_file():
        raise InputError(f"There is no card of {spec.slug} at {spec.checkpoint}: run this from a whole checkout.")
    check_weights(folder)
    return folder


def _card_files(folder: Path) -> Iterator[Path]:
    """The files of a card's folder but for caches and hidden files.

    Raises:
        QuartetError: one that cannot be part of a published checkpoint.
    """
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if any(part.startswith(".") or part == "__pycache__" for part in inside.parts):
            continue
        if path.is_symlink() or (path.is_file() and path.suffix not in SUFFIXES):
            raise QuartetError(
                f"{folder.name}/{inside.as_posix()} is not part of a published checkpoint, which holds plain files "
                f"that end in {', '.join(sorted(SUFFIXES))}: take it out of the folder."
            )
        if path.is_file():
            yield path


def _check_copies(folder: Path, card: dict[str, bytes], code: dict[str, bytes]) -> None:
    """Code in the card's folder has to be the plugin's."""
    wrong = [name for name in card if name.endswith(".py") and card[name] != code.get(name)]
    if wrong:
        raise QuartetError(
            f"{folder.name} holds code that is not the plugin's now ({', '.join(wrong)}): copy the plugin's files "
            "there again, or take them out."
        )


def _check_target(to: Path, expected: set[str]) -> None:
    if to.is_symlink() or (to.exists() and not to.is_dir()):
        raise InputError(f"{to} is not a folder: name a new or empty one.")
    present = (path for path in to.rglob("*") if not path.is_dir() or path.is_symlink()) if to.exists() else ()
    others = sorted(path.relative_to(to).as_posix() for path in present)
    others = [name for name in others if name not in expected]
    if others:
        shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise InputError(f"{to} holds something else ({shown}): name a new or empty folder.")


def _is_written(folder: Path, file: RepositoryFile) -> bool:
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.size and path.read_bytes() == file.content
