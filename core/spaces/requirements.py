"""What a Space installs: this tree's own requirements, less what the platform brings, as its hardware needs them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from core.errors import InputError, QuartetError
from core.spaces.hub_terms import hardware_names

Kind = Literal["cpu", "gpu", "zero"]

# At the versions that the card's sdk_version brings; naming them again can only make the build fail.
OF_THE_PLATFORM = frozenset({"gradio", "gradio-client", "huggingface-hub", "spaces"})
# Needed by these techniques alone; what is not named here goes into every Space.
ONLY_FOR: dict[str, frozenset[str]] = {
    "diffusers": frozenset({"sparse-video"}),
    "ftfy": frozenset({"sparse-video"}),
    "pycocotools": frozenset({"tracking"}),
    "scikit-learn": frozenset({"attribution"}),
    "threadpoolctl": frozenset({"attribution"}),
    "pyarrow": frozenset({"attribution"}),
    "playwright": frozenset({"ui-action"}),
}
# apt packages: the browser that agents drive, and letters for its pages.
SYSTEM_PACKAGES: dict[str, tuple[str, ...]] = {"ui-action": ("chromium", "fonts-dejavu-core")}
# The newest torch that ZeroGPU runs (Spaces documentation, August 2026: 2.8.0 to 2.11.0).
ZERO_GPU_TORCH_BELOW = "2.12"
CPU_INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def hardware_kind(hardware: str) -> Kind:
    """Whether the hardware is a CPU, a GPU of its own, or ZeroGPU; InputError for a name that the Hub lacks."""
    if hardware not in hardware_names():
        raise InputError(f"There is no hardware {hardware!r} on the Hub: choose one of {', '.join(hardware_names())}.")
    if hardware.startswith("cpu"):
        return "cpu"
    return "zero" if hardware.startswith("zero") else "gpu"


def space_requirements(root: Path, slugs: Iterable[str], hardware: str) -> str:
    """The text of a Space's requirements.txt.

    Args:
        root: this tree, which holds requirements.txt and requirements-gpu.txt.
        slugs: the techniques that the Space shows.
        hardware: what it runs on; the Hub's name.
    """
    kind, shown = hardware_kind(hardware), set(slugs)
    lines = [f"# For {hardware}. The platform brings {', '.join(sorted(OF_THE_PLATFORM))}."]
    lines += [CPU_INDEX] if kind == "cpu" else []
    for line in stated_packages(root / "requirements.txt"):
        name = package_name(line)
        if name in OF_THE_PLATFORM or not shown & ONLY_FOR.get(name, shown):
            continue
        lines.append(_for_zero_gpu(line) if (name, kind) == ("torch", "zero") else line)
    if kind == "gpu":
        lines += [line for line in stated_packages(root / "requirements-gpu.txt") if package_name(line) == "xformers"]
    return "\n".join(lines) + "\n"


def system_packages(slugs: Iterable[str]) -> tuple[str, ...]:
    """The apt packages that these techniques need; the platform has ffmpeg."""
    return tuple(package for slug in slugs for package in SYSTEM_PACKAGES.get(slug, ()))


def required_versions(root: Path, package: str) -> str:
    """The range of versions that requirements.txt asks for, such as ">=6.28,<7"."""
    for line in stated_packages(root / "requirements.txt"):
        if package_name(line) == package:
            return line[len(package) :].strip()
    raise QuartetError(f"requirements.txt does not name {package}: this tree is not complete, take it again.")


def package_name(line: str) -> str:
    """The package that a line of a requirements file names, in lower case with hyphens."""
    name = _NAME.match(line)
    return name[0].lower().replace("_", "-") if name else ""


def _for_zero_gpu(line: str) -> str:
    lowest = re.search(r">=\s*([0-9.]+)", line)
    return f"torch>={lowest[1] if lowest else '2.10'},<{ZERO_GPU_TORCH_BELOW}"


def stated_packages(path: Path) -> Iterator[str]:
    """The lines that name packages: no comments, no options."""
    if not path.is_file():
        raise QuartetError(f"There is no {path.name} beside the app: build the Space from a whole copy of this tree.")
    for line in path.read_text(encoding="utf-8").splitlines():
        stated = line.partition("#")[0].strip()
        if stated and not stated.startswith("-"):
            yield stated
