"""Where an app listens: the same two options, variables and defaults for the suite and for a page alone."""

from __future__ import annotations

import os
from typing import Annotated

import typer

Host = Annotated[str, typer.Option(envvar="QUARTET_HOST", help="Address to listen on; 0.0.0.0 is open to the network.")]
Port = Annotated[int | None, typer.Option(envvar="QUARTET_PORT", help="Port; by default the first free from 7860 up.")]

# On a Space the platform's proxy has to reach the app; everywhere else nobody but this machine should.
ON_A_SPACE = "SPACE_ID" in os.environ
DEFAULT_HOST = "0.0.0.0" if ON_A_SPACE else "127.0.0.1"
DEFAULT_PORT = 7860 if ON_A_SPACE else None
