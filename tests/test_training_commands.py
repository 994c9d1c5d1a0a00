"""Every plugin that trains can be trained by `python -m plugins.<name>.train`."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TRAINERS = sorted(path.parent.name for path in ROOT.glob("plugins/*/train.py"))


@pytest.mark.filterwarnings("ignore:.*found in sys.modules.*:RuntimeWarning")
@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_run_as_a_module_takes_its_options(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", "--minutes", "0"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"plugins.{name}.train", run_name="__main__")
    assert ended.value.code == 2
    assert "is not above 0" in capsys.readouterr().err
