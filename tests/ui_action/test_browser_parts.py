"""What the real browser's environment decides without one: hosts, keys, and what a page says of itself."""

from __future__ import annotations

import base64
import io
from itertools import count

import pytest
from PIL import Image

from plugins.ui_action.environments.browser_guard import LOG_LIMIT, AllowList, BrowserEvents, Guard
from plugins.ui_action.environments.gestures_dom import key_name
from plugins.ui_action.environments.page_hook import FRAME_LIMIT, decode_frame, read_answer
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.keys import KEYS


@pytest.mark.parametrize(
    ("hosts", "url", "allowed"),
    [
        (["127.0.0.1"], "http://127.0.0.1:8000/a", True),
        (["127.0.0.1"], "ws://127.0.0.1:8000/a", True),
        (["127.0.0.1"], "http://127.0.0.1:8001/", False),
        (["127.0.0.1", "127.0.0.1:8001"], "http://127.0.0.1:8001/", True),
        (["127.0.0.1"], "http://localhost:8000/", False),
        (["127.0.0.1"], "http://127.0.0.1.example.org:8000/", False),
        (["127.0.0.1"], "http://127.0.0.1:8000@example.org/", False),
        (["127.0.0.1"], "ftp://127.0.0.1:8000/", False),
        (["127.0.0.1"], "http://[::1]:8000/", False),
        (["127.0.0.1", "example.org"], "https://example.org/", True),
        (["127.0.0.1", "example.org"], "https://EXAMPLE.org.:444/", True),
        (["127.0.0.1", "example.org"], "https://www.example.org/", False),
        (["127.0.0.1", "example.org:443"], "http://example.org/", False),
    ],
)
def test_the_allow_list_means_whole_hosts_and_on_this_machine_the_pages_port(
    hosts: list[str], url: str, allowed: bool
) -> None:
    assert AllowList.of(hosts, "http://127.0.0.1:8000/").allows_request(url) is allowed


def test_what_was_refused_is_counted_without_end_but_logged_within_limits() -> None:
    guard = Guard(AllowList.of(["127.0.0.1"], "http://127.0.0.1/"))
    for _ in range(LOG_LIMIT + 5):
        guard.refuse("requests", "http://x/\n\x1b[2J" + "a" * 1000)
    assert guard.events.requests == LOG_LIMIT + 5
    assert len(guard.events.log) == LOG_LIMIT
    assert all(len(line) <= 200 and line.isprintable() for line in guard.events.log)
    assert guard.events.since(BrowserEvents(requests=LOG_LIMIT)) == "refused: 5 requests"


@pytest.mark.parametrize("key", [*KEYS, "a", "1", ";", "Ctrl", "esc"])
def test_every_key_that_a_policy_may_allow_has_a_name_in_the_dom(key: str) -> None:
    assert key_name(key)


def png(width: int, height: int, *, format: str = "PNG") -> str:
    data = io.BytesIO()
    Image.new("RGB", (width, height)).save(data, format)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (None, "data addresses"),
        ("http://127.0.0.1/a.png", "data addresses"),
        ("data:image/png;base64,@@@@", "PNG images"),
        ("data:image/png;base64,AAAA", "PNG images"),
        (png(8, 4, format="BMP"), "PNG images"),
        (png(9, 4), "8 x 4 pixels, not 9 x 4"),
        (png(8, 4)[:-40], "PNG images"),
        ("data:image/png;base64," + "A" * FRAME_LIMIT, "at most"),
    ],
    ids=count(),
)
def test_a_frame_that_is_no_png_of_the_screens_size_is_refused(frame: object, message: str) -> None:
    with pytest.raises(UIActionInputError, match=message):
        decode_frame(frame, (8, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (7, "characters of JSON"),
        ("", "characters of JSON"),
        ("{", "plain JSON"),
        ("[" * 100_000, "plain JSON"),
        ('{"state": {"a": NaN}}', "plain JSON"),
        ("[]", "object of answers"),
        ('{"state": []}', "as an object"),
        ('{"state": {"a": "' + "x" * 1_000_001 + '"}}', "at most 1,000,000"),
        ('{"hash": "0"}', "64 hexadecimal"),
        ('{"done": 1}', "done"),
        ('{"success": "yes"}', "success"),
        ('{"frames": {}}', "list of at most"),
        ('{"frames": [' + ",".join(["1"] * 65) + "]}", "list of at most"),
    ],
    ids=count(),
)
def test_what_a_page_says_of_itself_is_checked(text: object, message: str) -> None:
    with pytest.raises(UIActionInputError, match=message):
        read_answer(text, (8, 4))
