"""The entry point: what it settles before anything heavy is imported, and where it listens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("OMP_WAIT_POLICY", "GRADIO_ANALYTICS_ENABLED", "SPACE_ID", "QUARTET_HOST", "QUARTET_PORT")


def run(*arguments: str, **environment: str) -> str:
    """Output of Python in the repository's root, with none of our settings inherited."""
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    wide = {"COLUMNS": "200", "NO_COLOR": "1", **environment}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=inherited | wide, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_apps_settles_threads_and_analytics_and_imports_nothing_heavy() -> None:
    code = (
        "import apps, os, sys; print(os.environ['OMP_WAIT_POLICY'], os.environ['GRADIO_ANALYTICS_ENABLED'], "
        "'torch' in sys.modules, 'gradio' in sys.modules)"
    )
    assert run("-c", code).split() == ["passive", "False", "False", "False"]


def test_building_the_frame_imports_no_torch() -> None:
    code = "import sys; from apps.shell import build_suite; build_suite([]); print('torch' in sys.modules)"
    assert run("-c", code).strip() == "False"


def test_help_imports_neither_torch_nor_gradio() -> None:
    code = (
        "import sys; sys.argv = ['app.py', '--help']\n"
        "import runpy\n"
        "try: runpy.run_path('app.py', run_name='__main__')\n"
        "except SystemExit: print({'torch', 'gradio'} & set(sys.modules))"
    )
    assert run("-c", code).rstrip().endswith("set()")


def test_the_app_listens_on_loopback_by_default() -> None:
    assert "[default: 127.0.0.1]" in run("app.py", "--help")


def test_on_a_space_the_app_listens_where_the_platform_looks() -> None:
    text = run("app.py", "--help", SPACE_ID="someone/quartet")
    assert "[default: 0.0.0.0]" in text
    assert "[default: 7860]" in text
