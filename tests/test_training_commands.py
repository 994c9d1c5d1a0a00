"""Every plugin that trains can be trained by `python -m plugins.<name>.train`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TRAINERS = sorted(path.parent.name for path in ROOT.glob("plugins/*/train.py"))


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_run_as_a_module_takes_its_options(name):
    arguments = [sys.executable, "-m", f"plugins.{name}.train", "--minutes", "0"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "is not above 0" in done.stderr
