"""A Space's repository, made from this tree: the app, what it needs, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import QuartetError
from core.hub.bundle import ATTRIBUTES, RepositoryFile, write_folder
from core.registry import ROOT, PluginSpec, catalogue, find
from core.spaces.card_text import refuse
from core.spaces.front_matter import SpaceCard, space_problems
from core.spaces.readme import readme_body, single_card, suite_card
from core.spaces.requirements import hardware_kind, required_versions, space_requirements, system_packages

MAX_BYTES = 100_000_000
MAX_FILE_BYTES = 10_000_000
_NEVER = frozenset({"__pycache__", "tests", "node_modules"})
_NEVER_SUFFIXES = frozenset({".pyc", ".pyo", ".log", ".tmp"})
SINGLE_APP = '''"""{title}, alone: `python app.py`, then http://127.0.0.1:7860. Also the Space's entry point."""

from apps.shell import launch_page

if __name__ == "__main__":
    launch_page("{slug}")
'''


@dataclass(frozen=True, slots=True)
class Space:
    """A Space that can be written to a folder or pushed.

    Attributes:
        card: its front matter.
        hardware: what its requirements are for, in the Hub's spelling.
        slugs: the techniques that it shows.
        files: everything that its repository holds, in order of path.
    """

    card: SpaceCard
    hardware: str
    slugs: tuple[str, ...]
    files: tuple[RepositoryFile, ...]

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(file.size for file in self.files)


def build_space(
    to: str | os.PathLike[str], *, only: str | None = None, hardware: str = "cpu-basic", repo_owner: str | None = None
) -> Space:
    """Write a Space's repository into a folder, whole or not at all.

    Args:
        to: the folder to write; a new or empty one, or one that the same Space was written to before.
        only: the technique to show alone; all of them when None.
        hardware: what the Space will run on, in the Hub's spelling, such as "cpu-basic", "l4x1" or "zero-a10g".
        repo_owner: who owns the checkpoints' repositories on the Hub; the card then names them.

    Raises:
        InputError: an unknown technique or hardware, or a folder that holds something else.
        QuartetError: what would be written is larger than a Space should be, or this tree is not complete.
    """
    space = make_space(only=only, hardware=hardware, repo_owner=repo_owner)
    write_folder(space.files, Path(to).expanduser().absolute())
    return space


def make_space(*, only: str | None = None, hardware: str = "cpu-basic", repo_owner: str | None = None) -> Space:
    """The same in memory; arguments and errors as of `build_space`."""
    hardware_kind(hardware)
    specs = catalogue() if only is None else (find(only),)
    card = _card(specs, only, hardware, repo_owner)
    contents = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in shipped_files(ROOT, specs)}
    contents |= {name: text.encode() for name, text in _own_files(card, specs, only, hardware).items()}
    contents[".gitattributes"] = ATTRIBUTES
    files = tuple(RepositoryFile(path, contents[path]) for path in sorted(contents))
    refuse(f"The card of {card.title}", space_problems(card.to_dict(), files=contents, gradio=_gradio()))
    _check_size(files)
    return Space(card, hardware, tuple(spec.slug for spec in specs), files)


def shipped_files(root: Path, specs: Sequence[PluginSpec]) -> Iterator[Path]:
    """The files of this tree that a Space with these techniques needs, in order of name; no links, no caches."""
    folders = [root / "core"]
    single = [root / "LICENSE", root / "pyproject.toml", root / "plugins" / "__init__.py"]
    single += [path for path in (root / "apps").iterdir() if path.is_file()]
    for spec in specs:
        folders += [_package(root, spec.page), _package(root, spec.pipeline)]
        folders += [root / spec.checkpoint] if spec.checkpoint and (root / spec.checkpoint).is_dir() else []
    found = {path for folder in folders for path in folder.rglob("*")} | set(single)
    yield from sorted(path for path in found if path.is_file() and _belongs(path, root))


def _package(root: Path, dotted: str) -> Path:
    """The folder of the package that a dotted path begins with: apps/tracking for apps.tracking.page:build."""
    folder = root.joinpath(*dotted.partition(":")[0].split(".")[:2])
    if not folder.is_dir():
        raise QuartetError(f"{dotted} lies outside this tree, and only what is in it can be put into a Space.")
    return folder


def _belongs(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts
    hidden = any(part.startswith(".") for part in parts)
    return not (hidden or path.is_symlink() or _NEVER & set(parts) or path.suffix in _NEVER_SUFFIXES)


def _card(specs: Sequence[PluginSpec], only: str | None, hardware: str, repo_owner: str | None) -> SpaceCard:
    own = SpaceCard.from_text((ROOT / "README.md").read_text(encoding="utf-8"))
    models = [f"{repo_owner}/{Path(spec.checkpoint).name}" for spec in specs if repo_owner and spec.checkpoint]
    return suite_card(own, hardware, models) if only is None else single_card(own, specs[0], hardware, models)


def _own_files(card: SpaceCard, specs: Sequence[PluginSpec], only: str | None, hardware: str) -> dict[str, str]:
    """README, app.py, requirements.txt and packages.txt."""
    slugs = [spec.slug for spec in specs]
    texts = {
        "README.md": card.to_text(readme_body(card.title, specs)),
        "requirements.txt": space_requirements(ROOT, slugs, hardware),
        "app.py": (ROOT / "app.py").read_text(encoding="utf-8")
        if only is None
        else SINGLE_APP.format(title=specs[0].title, slug=only),
    }
    if packages := system_packages(slugs):
        texts["packages.txt"] = "\n".join(packages) + "\n"
    return texts


def _gradio() -> str:
    return required_versions(ROOT, "gradio")


def _check_size(files: Sequence[RepositoryFile]) -> None:
    for file in files:
        if file.size > MAX_FILE_BYTES:
            raise QuartetError(f"{file.path} has {file.size / 1e6:.1f} MB, limit {MAX_FILE_BYTES / 1e6:.0f}: shard it.")
    total = sum(file.size for file in files)
    if total > MAX_BYTES:
        raise QuartetError(f"The Space would have {total / 1e6:.0f} MB, limit {MAX_BYTES / 1e6:.0f}: leave some out.")
