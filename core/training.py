"""What every training here needs beside its model: a log that can be read back, and states that a cut cannot spoil."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer


class TrainingLog:
    """One JSON object a line, in a file and on the screen."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, stage: str, row: dict[str, Any]) -> None:
        line = json.dumps({"stage": stage} | row)
        typer.echo(line)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def of(self, stage: str) -> Callable[[dict[str, Any]], None]:
        """The log of one stage."""
        return lambda row: self(stage, row)


def save_state(file: Path, state: dict[str, Any]) -> None:
    """Write a training state beside its place and move it there, so that a cut leaves the old one whole."""
    import torch

    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(file)
