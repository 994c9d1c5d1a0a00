"""Combinations of keys as models write them."""

from __future__ import annotations

import pytest

from plugins.ui_action.hotkeys import read_keys, spell_keys

KEYS = {
    "ctrl-shift-t": ("ctrl", "shift", "t"),
    "Ctrl + C": ("ctrl", "c"),
    "control  Return": ("ctrl", "enter"),
    "cmd Esc": ("meta", "escape"),
    "ArrowLeft": ("left",),
    "ctrl +": ("ctrl", "+"),
    "ctrl++": ("ctrl", "+"),
    "ctrl+-": ("ctrl", "-"),
    "ctrl minus": ("ctrl", "-"),
    "+": ("+",),
    "-": ("-",),
    "F5": ("f5",),
}


@pytest.mark.parametrize("text", KEYS)
def test_keys_are_split_and_named(text: str) -> None:
    assert read_keys(text) == KEYS[text]
    assert read_keys(spell_keys(KEYS[text])) == KEYS[text]
