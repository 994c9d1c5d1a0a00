"""The technique of the README's recipe, as an outside distribution laid out on disk as pip leaves an installed one."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.test_readme import blocks, python_block

MODULE = "quartet_backwards"
ENABLED = "backwards"


def install(folder: Path) -> Path:
    """Write the distribution from the README's own lines; gives back `folder`, which then belongs on PYTHONPATH."""
    (text,) = blocks("toml")
    points = tomllib.loads(text)["project"]["entry-points"]["quartet.plugins"]
    information = folder / f"{MODULE}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {MODULE}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    (information / "entry_points.txt").write_text(f"[quartet.plugins]\n{lines}")
    (folder / f"{MODULE}.py").write_text(python_block(MODULE))
    return folder
