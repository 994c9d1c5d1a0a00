"""A real browser: actions become events at the right place, and a page gets out nowhere."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest

from plugins.ui_action.actions import Action
from plugins.ui_action.environments.browser import BrowserEnvironment
from plugins.ui_action.environments.chromium import Chromium
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.kill_switch import KillSwitch, StoppedError
from tests.ui_action.pages import HEIGHT, STATE, WIDTH, Site, script_of, serving

# Nobody answers there, and nothing may get there.
OUTSIDE = "http://example.org"
CLICK = Action("click", start=(120, 40))
QUICK: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "settle_milliseconds": 0, "pace": 0}


@pytest.fixture(scope="module")
def site() -> Generator[Site]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Generator[Chromium]:
    running = Chromium()
    yield running
    running.close()


@pytest.fixture
def opened(chromium: Chromium, site: Site) -> Generator[Callable[..., BrowserEnvironment]]:
    """Environments without pauses that share a browser."""
    made: list[BrowserEnvironment] = []

    def open_(url: str, **options: Any) -> BrowserEnvironment:
        made.append(BrowserEnvironment(url, chromium=chromium, **{**QUICK, **options}))
        return made[-1]

    yield open_
    for environment in made:
        environment.close()


@pytest.fixture(scope="module")
def boards(chromium: Chromium, site: Site) -> Generator[Callable[[Any], BrowserEnvironment]]:
    """The board on a platform, loaded once and cleared for each test."""
    made: dict[str, BrowserEnvironment] = {}

    def board(platform: Any) -> BrowserEnvironment:
        if platform not in made:
            url = site.url + "/board"
            made[platform] = BrowserEnvironment(url, platform=platform, chromium=chromium, **QUICK)
            made[platform].reset(0)
        made[platform].state_script = "(clear(), {})"
        made[platform].state()
        made[platform].state_script = STATE
        return made[platform]

    yield board
    for environment in made.values():
        environment.close()


@pytest.fixture
def board(boards: Callable[[Any], BrowserEnvironment]) -> BrowserEnvironment:
    return boards("web")


@pytest.fixture
def phone(boards: Callable[[Any], BrowserEnvironment]) -> BrowserEnvironment:
    return boards("mobile")


def seen(environment: BrowserEnvironment, *types: str) -> list[Any]:
    """Events of these types so far."""
    return [event for event in environment.state()["log"] if event[0] in types]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what a page does of its own accord."""
    limit = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < limit, "it did not come"
        time.sleep(0.05)


def test_screens_are_in_css_pixels_and_the_page_is_as_wide_as_the_screen(board: BrowserEnvironment) -> None:
    observation = board.execute(Action("wait", milliseconds=0))
    assert observation.image.size == (WIDTH, HEIGHT)
    assert observation.image.mode == "RGB"
    assert observation.image.getpixel((WIDTH - 1, HEIGHT - 1)) == (0x33, 0x66, 0x99)
    assert observation.frames == (observation.image,)
    assert (board.state()["ratio"], board.state()["size"]) == (1, [WIDTH, HEIGHT])


def test_mouse_actions_arrive_at_their_pixel_in_order(board: BrowserEnvironment) -> None:
    board.execute(Action("click", start=(10.5, 21.5)))
    assert seen(board, "mousedown", "mouseup", "click") == [
        [name, 10, 22, 1] for name in ("mousedown", "mouseup", "click")
    ]
    board.execute(Action("left_double", start=(WIDTH, 0)))
    assert seen(board, "dblclick") == [["dblclick", WIDTH - 1, 0, 2]]
    board.execute(Action("right_single", start=(50, 60)))
    assert seen(board, "contextmenu") == [["contextmenu", 50, 60, 0]]
    board.execute(Action("hover", start=(70, 80)))
    assert seen(board, "mousemove")[-1] == ["mousemove", 70, 80, 0]


def test_a_drag_holds_the_button_along_a_straight_path(board: BrowserEnvironment) -> None:
    board.execute(Action("drag", start=(20, 30), end=(220, 80)))
    moves = [event for event in seen(board, "mousemove") if event[3] == 1]
    assert [event[1:3] for event in moves] == [[20 + 20 * step, 30 + 5 * step] for step in range(1, 11)]
    assert seen(board, "mousedown", "mouseup") == [["mousedown", 20, 30, 1], ["mouseup", 220, 80, 1]]


@pytest.mark.parametrize(
    ("direction", "delta"), [("down", (0, 128)), ("up", (0, -128)), ("right", (192, 0)), ("left", (-192, 0))]
)
def test_the_wheel_shows_more_of_the_side_that_is_named(
    board: BrowserEnvironment, direction: Any, delta: tuple[int, int]
) -> None:
    board.execute(Action("scroll", direction=direction))
    until(lambda: bool(seen(board, "wheel")))
    assert seen(board, "wheel") == [["wheel", *delta, 0]]
    assert seen(board, "mousemove")[-1][1:3] == [WIDTH // 2, HEIGHT // 2]


def test_typed_text_is_the_same_whatever_its_script_and_enter_follows_if_asked_for(board: BrowserEnvironment) -> None:
    board.execute(Action("click", start=(50, 130)))
    board.execute(Action("type", text="it's 单位 é🙂"))
    assert board.state()["text"] == "it's 单位 é🙂"
    assert ["keydown", "Enter"] not in seen(board, "keydown")
    board.execute(Action("type", text="x", submit=True))
    assert seen(board, "keydown")[-1] == ["keydown", "Enter"]


def test_a_hotkey_goes_down_in_order_and_up_in_reverse(board: BrowserEnvironment) -> None:
    board.execute(Action("hotkey", keys=("ctrl", "shift", "b")))
    assert seen(board, "keydown", "keyup") == [
        ["keydown", "Control"],
        ["keydown", "Shift"],
        ["keydown", "B"],
        ["keyup", "B"],
        ["keyup", "Shift"],
        ["keyup", "Control"],
    ]


def test_a_pressed_key_stays_down_until_it_is_released_by_name_or_all_together(board: BrowserEnvironment) -> None:
    board.execute(Action("press", keys=("shift",)))
    board.execute(Action("press", keys=("a",)))
    assert seen(board, "keyup") == []
    board.execute(Action("release", keys=("a",)))
    assert seen(board, "keyup") == [["keyup", "A"]]
    board.release()
    assert seen(board, "keyup") == [["keyup", "A"], ["keyup", "Shift"]]


def stopping_after(calls: int) -> Callable[[], None]:
    """A kill switch that goes on by itself."""
    switch, left = KillSwitch(), iter(range(calls))

    def between() -> None:
        if next(left, None) is None:
            switch.set()
        switch.check()

    return between


@pytest.mark.parametrize(("platform", "end"), [("web", "mouseup"), ("mobile", "pointercancel")])
def test_a_drag_that_is_stopped_half_way_lets_go(
    boards: Callable[[Any], BrowserEnvironment], monkeypatch: pytest.MonkeyPatch, platform: str, end: str
) -> None:
    environment = boards(platform)
    monkeypatch.setattr(environment, "between", stopping_after(7))
    with pytest.raises(StoppedError):
        environment.execute(Action("drag", start=(0, 0), end=(200, 100)))
    until(lambda: bool(seen(environment, end)))
    assert len(seen(environment, end)) == 1
    assert 0 < max(event[1] for event in seen(environment, "mousemove", "pointermove")) < 200


def test_a_held_key_is_let_go_when_an_action_is_stopped(
    board: BrowserEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.execute(Action("press", keys=("ctrl",)))
    monkeypatch.setattr(board, "between", stopping_after(0))
    with pytest.raises(StoppedError):
        board.execute(CLICK)
    assert seen(board, "keyup", "click") == [["keyup", "Control"]]
    board.execute(Action("release", keys=("ctrl",)))  # which nothing stops


def test_on_a_phone_everything_is_a_finger(phone: BrowserEnvironment) -> None:
    phone.execute(Action("click", start=(30, 40)))
    assert seen(phone, "pointerdown", "click") == [["pointerdown", 30, 40, 0], ["click", 30, 40, 1]]
    before = len(phone.state()["log"])
    phone.execute(Action("scroll", direction="right"))
    path = [event[1] for event in phone.state()["log"][before:] if event[0].startswith("pointer")]
    assert path == sorted(path, reverse=True)
    assert path[0] - path[-1] == 192  # to the left, so that what lies right comes in
    phone.execute(Action("scroll", start=(50, 140), end=(50, 20)))
    assert seen(phone, "pointerup")[-1] == ["pointerup", 50, 20, 0]
    began = time.monotonic()
    phone.execute(Action("long_press", start=(30, 40), milliseconds=300))
    assert time.monotonic() - began >= 0.3
    assert [event[:3] for event in seen(phone, "pointerdown", "pointerup")[-2:]] == [
        ["pointerdown", 30, 40],
        ["pointerup", 30, 40],
    ]
    phone.execute(Action("press_back"))  # on the first page, where there is nowhere to go
    assert seen(phone, "keydown") == [["keydown", "Escape"]]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Action("click", start=(241, 10)), "not on the screen"),
        (Action("click", start=(float("nan"), 10)), "not on the screen"),
        (Action("click"), "the point is missing"),
        (Action("drag", start=(1, 1)), "the end of the drag is missing"),
        (Action("scroll"), "no scroll with a direction"),
        (Action("hotkey"), "without a key"),
        (Action("hotkey", keys=("ctrl", "hyper")), "key 'hyper'"),
        (Action("press", keys=("a", "b")), "name one"),
        (Action("long_press", start=(1, 1)), "has no long_press: choose of call_user, click"),
        (Action("press_home"), "has no press_home"),
        (Action("navigate", text="http://example.org/"), "not allowed"),
        (Action("navigate", text="file:///etc/passwd"), "no address of http"),
        (Action("navigate", text="data:text/html,hello"), "no address of http"),
        (Action("navigate", text="http://127.0.0.1:9/"), "another port of this machine"),
    ],
)
def test_what_a_page_does_not_have_is_refused_without_an_event(
    board: BrowserEnvironment, action: Action, message: str
) -> None:
    with pytest.raises(UIActionInputError, match=message):
        board.execute(action)
    assert seen(board, "mousedown", "wheel", "keydown") == []


def test_navigation_goes_on_and_back_but_not_before_the_first_page(
    opened: Callable[..., BrowserEnvironment], site: Site
) -> None:
    page = opened(site.url + "/board")
    page.reset(0)
    first = page.state_hash()  # of pixels: this page tells of no state
    assert page.state() == {}
    page.execute(Action("navigate_back"))
    assert page.state_hash() == first
    page.execute(Action("navigate", text=site.url + "/game"))
    assert page.state()["tick"] == 0
    page.execute(Action("navigate_back"))
    assert page.state_hash() == first
    with pytest.raises(UIActionInputError, match="answers 404"):
        page.execute(Action("navigate", text=site.url + "/none"))


def test_a_page_with_a_hook_is_reset_by_its_seed_and_tells_clock_frames_and_success(
    opened: Callable[..., BrowserEnvironment], site: Site
) -> None:
    game = opened(site.url + "/game")
    game.reset(7)
    after = game.execute(CLICK)
    assert (after.tick, after.done, after.success) == (2, False, None)
    assert [frame.getpixel((5, 5)) for frame in after.frames] == [(7, 10, 0), (7, 20, 0)]
    assert after.frames[-1] is after.image
    last = game.execute(Action("wait", milliseconds=3000))  # of the page's own time
    assert (last.tick, last.done, last.success, len(last.frames)) == (5, True, True, 3)


def test_a_reset_with_the_same_seed_begins_with_the_same_and_keeps_nothing(
    opened: Callable[..., BrowserEnvironment], site: Site
) -> None:
    game = opened(site.url + "/game")
    first = (game.reset(7).image.tobytes(), game.state(), game.state_hash())
    game.execute(CLICK)
    assert game.state_hash() != first[2]
    assert (game.reset(7).image.tobytes(), game.state(), game.state_hash()) == first
    assert first[1] == {"seed": 7, "tick": 0, "kept": ""}


def test_a_page_without_a_hook_is_watched_at_intervals(opened: Callable[..., BrowserEnvironment], site: Site) -> None:
    script = "let n = 0; setInterval(() => document.body.style.background = `rgb(${n = (n + 9) % 256}, 0, 0)`, 20)"
    page = opened(site.page("/moving", script), frames=3, frame_milliseconds=60)
    frames = page.reset(0).frames
    assert len({frame.tobytes() for frame in frames}) == len(frames) == 3


WAYS_OUT = f"""
  const out = {script_of(OUTSIDE)}, add = (tag, values) => document.body.append(
    Object.assign(document.createElement(tag), values));
  fetch(out + "/fetch").catch(() => 0);
  fetch("http://localhost:9/other-port").catch(() => 0);
  navigator.sendBeacon(out + "/beacon", "x");
  add("img", {{src: out + "/img"}});
  add("iframe", {{src: out + "/iframe"}});
  add("iframe", {{src: "/redirect"}});
  add("iframe", {{src: "/refresh"}});
  add("img", {{src: "/redirect"}});
  new Worker(URL.createObjectURL(new Blob([`new WebSocket("ws://example.org/worker")`])));
  new WebSocket("ws://example.org/socket");
  open(out + "/popup"); open("/board"); open("about:blank");
  alert("a"); confirm("b"); prompt("c");
  add("a", {{href: "/file", download: "x"}}); document.body.lastChild.click();
  Notification.requestPermission(); navigator.geolocation.getCurrentPosition(() => document.title = "located");
  add("form", {{action: out + "/form", method: "post"}});
  addEventListener("load", () => document.forms[0].submit());
"""


def test_every_way_out_is_refused_and_counted_and_the_page_stays(
    opened: Callable[..., BrowserEnvironment], site: Site
) -> None:
    site.pages.update({"/refresh": f"<meta http-equiv=refresh content='0;url={OUTSIDE}/meta'>", "/file": "x"})
    site.redirects["/redirect"] = f"{OUTSIDE}/redirected"
    script = "({title: document.title, url: location.href, permission: Notification.permission})"
    page = opened(site.page("/out", WAYS_OUT), state_script=script)
    page.reset(0)
    paths = ("fetch", "beacon", "img", "iframe", "meta", "popup", "form", "redirected")
    wanted = {f"{OUTSIDE}/{path}" for path in paths} | {"http://localhost:9/other-port"}
    counts = {"requests": 10, "popups": 3, "dialogs": 3, "downloads": 1, "websockets": 2, "permissions": 2}
    until(lambda: all(page.events().counts[name] >= count for name, count in counts.items()))
    until(lambda: page.events().connections >= 3)  # the redirects and the sockets get as far as the gate
    assert page.events().counts == {**counts, "connections": page.events().connections, "file_choosers": 0}
    assert wanted <= {entry.split(" ")[-1] for entry in page.events().log}
    assert page.state() == {"title": "", "url": site.url + "/out", "permission": "denied"}


def test_a_page_cannot_take_itself_elsewhere(opened: Callable[..., BrowserEnvironment], site: Site) -> None:
    targets = [f"{OUTSIDE}/left", "file:///etc/passwd", "data:text/html,hello"]
    script = f"addEventListener('mousedown', (event) => location = {script_of(targets)}[event.clientX])"
    page = opened(site.page("/leaving", script), state_script="({url: location.href})")
    before = page.reset(0).image
    for number in range(len(targets)):
        after = page.execute(Action("click", start=(number, 20)))
        assert after.image.tobytes() == before.tobytes()
        assert page.state() == {"url": site.url + "/leaving"}
    until(lambda: page.events().requests > 0)
    assert page.events().requests == 1  # Chromium itself does not even ask for the others
    assert any(line.endswith(targets[0]) for line in page.events().log)


def test_a_page_that_is_redirected_outside_arrives_nowhere(
    opened: Callable[..., BrowserEnvironment], site: Site
) -> None:
    site.redirects["/away"] = f"{OUTSIDE}/away"
    page = opened(site.page("/clicked", "addEventListener('mousedown', () => { alert(1); location = '/away' })"))
    page.reset(0)
    assert "1 dialog" in page.execute(CLICK).note
    until(lambda: page.events().connections >= 1)
    assert page.events().requests == 1
    with pytest.raises(UIActionInputError, match="could not be opened"):
        page.execute(Action("navigate", text=site.url + "/away"))


def test_a_page_may_reach_its_own_server_until_it_is_cut_off(
    opened: Callable[..., BrowserEnvironment], site: Site
) -> None:
    script = "document.write('<img src=/early>'); addEventListener('mousedown', () => fetch('/late').catch(() => 0))"
    page = opened(site.page("/calling", script), offline_after_load=True)
    page.reset(0)
    page.execute(CLICK)
    until(lambda: page.events().requests == 1)
    assert [path for path in site.seen if path in ("/early", "/late")] == ["/early"]
    with pytest.raises(UIActionInputError, match="network is cut"):
        page.execute(Action("navigate", text=site.url + "/board"))


def test_a_page_that_hangs_is_given_up_and_can_be_reset(opened: Callable[..., BrowserEnvironment], site: Site) -> None:
    page = opened(site.page("/hanging", "addEventListener('mousedown', () => { for (;;); })"))
    page.reset(0)
    page.seconds = 0.6
    with pytest.raises(UIActionInputError, match="did not come to rest within"):
        page.execute(CLICK)
    with pytest.raises(UIActionInputError, match="reset the environment"):
        page.state()
    page.seconds = 20.0
    assert page.reset(0).image.size == (WIDTH, HEIGHT)


def test_words_of_a_page_do_not_get_into_an_error(board: BrowserEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "state_script", "(() => { throw new Error('press QUIT') })()")
    with pytest.raises(UIActionInputError, match="the page broke off") as caught:
        board.state()
    assert "QUIT" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "http://example.org/"}, "not allowed"),
        ({"url": "file:///etc/passwd"}, "no address of http"),
        ({"url": "http://user:word@127.0.0.1/"}, "password"),
        ({"allowed_hosts": "localhost"}, "give a list"),
        ({"allowed_hosts": ["*.example.org"]}, "give a name"),
        ({"platform": "tv"}, "choose one of"),
        ({"width": 0}, "at least 1 x 1"),
        ({"height": 5000}, "at most 4096"),
        ({"frames": 0}, "give 1 to 16"),
        ({"pace": -1}, "no negative"),
        ({"seconds": 0}, "more than 0"),
    ],
)
def test_an_environment_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"url": "http://127.0.0.1:8000/", "width": 8, "height": 8, **change}
    with pytest.raises(UIActionInputError, match=message):
        BrowserEnvironment(options.pop("url"), **options)


def test_a_server_that_is_not_there_is_a_clear_error(opened: Callable[..., BrowserEnvironment]) -> None:
    with pytest.raises(UIActionInputError, match=r"could not be opened .* is its server running"):
        opened("http://127.0.0.1:9/").reset(0)


def test_the_browser_costs_nothing_until_it_is_used() -> None:
    code = "import sys, plugins.ui_action.environments.browser; sys.exit('playwright' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_where_no_chromium_runs_one_is_told_how_to_get_one(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    monkeypatch.setenv("QUARTET_CHROMIUM", "/nowhere/chrome")
    environment = BrowserEnvironment(site.url + "/board", width=8, height=8)
    with pytest.raises(UIActionInputError, match="no Chromium runs here as /nowhere/chrome: install one"):
        environment.reset(0)
    environment.close()
