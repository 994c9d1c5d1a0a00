"""What a page tells of itself through `window.quartet`; all of it is the page's word, and checked before use.

A page that wants to be scored puts an object there with any of these functions, each of which may give a promise:

    reset(seed)     begin again from this whole number
    state()         plain JSON, an object; a whole number under "tick" is its clock
    stateHash()     SHA-256 over that, 64 hex digits
    frames()        the screens since the last action as PNG data addresses, oldest first, the current one last
    done(), success()   booleans; success may be null while it cannot be told
    wait(ms)        let this much of its own clock pass; without it, waiting takes real time
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import re
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..errors import UIActionInputError

STATE_LIMIT = 1_000_000
FRAMES_LIMIT, FRAME_LIMIT = 64, 4_000_000
PREFIX = "data:image/png;base64,"
HASH = re.compile(r"[0-9a-f]{64}")

# Gives one text, or null for a page without a hook. Sizes are looked at in the page already, so that an honest mistake
# is not copied out; they are looked at again outside, since a page may have replaced anything that this calls.
READ = """async (limit) => {
  const hook = window.quartet;
  if (!hook) return null;
  const ask = async (name) => typeof hook[name] === "function" ? await hook[name]() : undefined;
  const text = JSON.stringify({
    state: await ask("state"), hash: await ask("stateHash"), frames: await ask("frames"),
    done: await ask("done"), success: await ask("success"),
  });
  return text.length > limit ? "" : text;
}"""
RESET = """async (seed) => {
  if (window.quartet && typeof window.quartet.reset === "function") await window.quartet.reset(seed);
}"""
WAIT = """async (milliseconds) => {
  if (!window.quartet || typeof window.quartet.wait !== "function") return false;
  await window.quartet.wait(milliseconds);
  return true;
}"""
READ_LIMIT = STATE_LIMIT + FRAMES_LIMIT * FRAME_LIMIT


@dataclass(frozen=True)
class PageState:
    """What a page told, checked.

    Attributes:
        state: plain JSON; {} where the page tells none.
        hash: SHA-256, hex: the page's own, else over `state`; "" where there is no state.
        frames: RGB, of the screen's size, oldest first; () where the page tells none.
        tick, done, success: as in `Observation`.
    """

    state: dict[str, Any]
    hash: str = ""
    frames: tuple[Image.Image, ...] = ()
    tick: int = 0
    done: bool = False
    success: bool | None = None


def read_answer(text: object, size: tuple[int, int]) -> PageState:
    """Check what `READ` gave for a page of this (width, height). Raises UIActionInputError for anything odd."""
    if text is None:
        return PageState({})
    if not isinstance(text, str) or not 0 < len(text) <= READ_LIMIT:
        raise _bad(f"the answers together, at most {READ_LIMIT:,} characters of JSON")
    try:
        answer = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _bad("plain JSON") from error
    if not isinstance(answer, dict):
        raise _bad("an object of answers")
    state = _state(answer.get("state"))
    tick = state.get("tick", 0)
    return PageState(
        state=state,
        hash=_hash(answer.get("hash"), state),
        frames=_frames(answer.get("frames"), size),
        tick=tick if type(tick) is int and tick >= 0 else 0,
        done=_boolean(answer.get("done"), "done") or False,
        success=_boolean(answer.get("success"), "success"),
    )


def decode_frame(url: object, size: tuple[int, int]) -> Image.Image:
    """The image [height, width, RGB] of a PNG data address. Its size is read from the header before it is unpacked."""
    if not isinstance(url, str) or not url.startswith(PREFIX) or len(url) > FRAME_LIMIT:
        raise _bad(f"frames() as data addresses that begin with {PREFIX} and have at most {FRAME_LIMIT:,} characters")
    try:
        data = base64.b64decode(url[len(PREFIX) :], validate=True)
        image = Image.open(io.BytesIO(data), formats=["PNG"])
    except (binascii.Error, ValueError, OSError, Image.DecompressionBombError) as error:
        raise _bad("frames() as PNG images") from error
    if image.size != size:
        raise _bad(f"frames() of {size[0]} x {size[1]} pixels, not {image.size[0]} x {image.size[1]}")
    try:
        return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _bad("frames() as whole PNG images") from error


def _state(state: object) -> dict[str, Any]:
    if state is None:
        return {}
    if not isinstance(state, dict):
        raise _bad("state() as an object")
    if len(json.dumps(state)) > STATE_LIMIT:
        raise _bad(f"state() with at most {STATE_LIMIT:,} characters")
    return state


def _hash(told: object, state: dict[str, Any]) -> str:
    if told is None:
        if not state:
            return ""
        return hashlib.sha256(json.dumps(state, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    if not isinstance(told, str) or not HASH.fullmatch(told):
        raise _bad("stateHash() as 64 hexadecimal digits, lower case")
    return told


def _frames(frames: object, size: tuple[int, int]) -> tuple[Image.Image, ...]:
    if frames is None:
        return ()
    if not isinstance(frames, list) or len(frames) > FRAMES_LIMIT:
        raise _bad(f"frames() as a list of at most {FRAMES_LIMIT}")
    return tuple(decode_frame(frame, size) for frame in frames)


def _boolean(told: object, name: str) -> bool | None:
    if told is not None and not isinstance(told, bool):
        raise _bad(f"{name}() as true or false")
    return told


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _bad(wanted: str) -> UIActionInputError:
    return UIActionInputError(f"the page's window.quartet must give {wanted}: mend the page, or leave the hook out")
