"""What every folder of hub_cards that holds a checkpoint has to be, whatever is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CARDS = Path(__file__).resolve().parents[1] / "hub_cards"
FOLDERS = sorted(path for path in CARDS.iterdir() if path.is_dir())
checkpoints = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_every_technique_with_weights_has_its_folder():
    assert [folder.name for folder in FOLDERS] == [
        "attribution-tiny",
        "sata-tiny",
        "sparse-video-tiny",
        "ui-action-tiny",
    ]


@checkpoints
def test_the_weights_are_safetensors_in_files_below_ten_megabytes(folder: Path):
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert all(file.stat().st_size < 10_000_000 for file in files)
    assert not [file for file in files if file.suffix in {".bin", ".pt", ".ckpt", ".pth", ".pkl"}]
    assert [file for file in files if file.suffix == ".safetensors"]


@checkpoints
def test_no_file_names_a_folder_of_the_machine_that_made_it(folder: Path):
    for file in folder.rglob("*.json"):
        assert not re.search(r'"/\w', file.read_text(encoding="utf-8")), file
