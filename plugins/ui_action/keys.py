"""Which keys an agent may press, alone and together."""

from __future__ import annotations

import string
import unicodedata

_LETTERS = tuple(string.ascii_lowercase + string.digits + "-=[];',./\\`")
_NAMED = ("enter", "tab", "space", "escape", "backspace", "delete", "insert")
_MOVING = ("up", "down", "left", "right", "home", "end", "pageup", "pagedown")
_FUNCTION = tuple(f"f{number}" for number in range(1, 13))
_ALIASES = {
    " ": "space",
    "esc": "escape",
    "return": "enter",
    "del": "delete",
    "control": "ctrl",
    "option": "alt",
    "altgraph": "alt",
    "command": "meta",
    "cmd": "meta",
    "super": "meta",
    "win": "meta",
    "windows": "meta",
    "arrowup": "up",
    "arrowdown": "down",
    "arrowleft": "left",
    "arrowright": "right",
    "page_up": "pageup",
    "page_down": "pagedown",
}

KEYS: tuple[str, ...] = (*_LETTERS, *_NAMED, *_MOVING, *_FUNCTION, "shift", "ctrl", "alt")

# Close, open or leave a window or a tab, reach the address bar, developer tools or the system.
DENIED_KEYS: tuple[str, ...] = (
    "alt+f4",
    "alt+tab",
    "alt+d",
    "ctrl+alt+delete",
    "ctrl+w",
    "ctrl+t",
    "ctrl+n",
    "ctrl+l",
    "ctrl+o",
    "ctrl+q",
    "ctrl+shift",
    "f12",
    "meta",
)

RISKY_KEYS = frozenset({"enter", "delete", "backspace", "ctrl", "alt", "meta"})


def key_names(keys: tuple[str, ...]) -> tuple[str, ...]:
    """The names used in `KEYS`: lower case, one for each key."""
    # A letter of full width or in upper case is the same key.
    plain = (unicodedata.normalize("NFKC", key).lower() for key in keys)
    names = (key if key == " " else key.strip() for key in plain)
    # "ctrlleft", "control_l", "shift right", ...: either side is the same modifier.
    return tuple(_ALIASES.get(name, _ALIASES.get(_sideless(name), _sideless(name))) for name in names)


def keys_refusal(
    keys: tuple[str, ...], held: tuple[str, ...], allowed: tuple[str, ...], denied: tuple[str, ...], most: int
) -> str:
    """Why `keys`, pressed while `held` are down, are not allowed; "" if they are.

    Args:
        allowed: names of keys. denied: combinations "a+b", refused with whatever else is pressed.
        most: keys at once, those held included.
    """
    names = key_names(keys)
    together = set(names) | set(key_names(held))
    if not names:
        return "no key: name one"
    unknown = [name for name in names if name not in key_names(allowed)]
    if unknown:
        return f"the key {unknown[0][:20]!r} is not allowed"
    for combination in denied:
        if set(key_names(tuple(combination.split("+")))) <= together:
            return f"{'+'.join(sorted(together))} is not allowed: {combination} is denied"
    if len(together) > most or len(names) > most:
        return f"{max(len(together), len(names))} keys at once: at most {most} are allowed"
    return ""


def _sideless(name: str) -> str:
    for modifier in ("ctrl", "control", "shift", "alt", "meta"):
        if name.startswith(modifier) and name[len(modifier) :].strip(" _-") in ("l", "r", "left", "right"):
            return modifier
    return name
