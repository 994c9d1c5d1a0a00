"""`python -m plugins.tracking.train` with a model and clips as small as can be, for several processes in a test."""

from __future__ import annotations

from dataclasses import replace

import typer

from plugins.tracking import train
from tests.tracking.tiny import tiny_config

SMALL = {"clips": 1, "frames": 2, "side": 64, "crowds": 1}

if __name__ == "__main__":
    small = tuple(replace(stage, **SMALL) for stage in train.STAGES)
    vars(train).update(STAGES=small, tiny_config=tiny_config)
    typer.run(train.train_command)
