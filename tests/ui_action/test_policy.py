"""The policy: what may be done, by the action and the screen alone; and the switch that stops everything."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.ui_action.actions import ACTION_TYPES, ALLOWED, Action
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.kill_switch import KillSwitch, StoppedError
from plugins.ui_action.policy import Policy
from plugins.ui_action.screen import Screen

SCREEN = Screen(200, 100)
DESKTOP, WEB, MOBILE = (Policy(platform=platform) for platform in ("desktop", "web", "mobile"))


def code(policy: Policy, action: Action, held: tuple[str, ...] = ()) -> str:
    verdict = policy.check(action, SCREEN, held)
    assert verdict.allowed is (verdict.code == "ok")
    assert bool(verdict.reason) is not verdict.allowed
    return verdict.code


def keys(*names: str) -> Action:
    return Action("hotkey", keys=names)


def click(x: float, y: float) -> Action:
    return Action("click", start=(x, y))


class TestActions:
    @pytest.mark.parametrize("platform", ["desktop", "mobile", "web"])
    def test_each_platform_allows_its_own_actions_only(self, platform):
        policy = Policy(platform=platform, apps=("Maps",))
        full = {"start": (1.0, 1.0), "end": (2.0, 2.0), "keys": ("a",)}
        texts = {"navigate": "http://localhost/", "open_app": "Maps"}
        passed = {kind for kind in ACTION_TYPES if policy.check(made(kind, full, texts), SCREEN).allowed}
        assert passed == ALLOWED[platform]

    def test_without_a_platform_only_what_all_have_is_allowed(self):
        assert code(Policy(), click(1, 1)) == "ok"
        assert code(Policy(), Action("hotkey", keys=("a",))) == "action"
        assert code(Policy(), Action("press_home")) == "action"

    def test_a_caller_may_allow_fewer_but_not_more(self):
        policy = Policy(platform="mobile", actions=("click", "hotkey"))
        assert code(policy, click(1, 1)) == "ok"
        assert code(policy, Action("wait")) == "action"
        assert code(policy, keys("a")) == "action"


def made(kind, full, texts) -> Action:
    return Action(kind, text=texts.get(kind, ""), **full)


class TestPlaces:
    @pytest.mark.parametrize("point", [(0, 0), (199.9, 99.9), (100, 50)])
    def test_points_on_the_screen_are_allowed(self, point):
        assert code(DESKTOP, Action("click", start=point)) == "ok"

    @pytest.mark.parametrize("point", [(-0.1, 5), (200, 5), (5, 100), (float("nan"), 5), (5, float("inf"))])
    def test_points_off_the_screen_are_not(self, point):
        assert code(DESKTOP, Action("click", start=point)) == "point"
        assert code(DESKTOP, Action("drag", start=(1, 1), end=point)) == "point"
        assert code(DESKTOP, Action("scroll", start=(1, 1), end=point)) == "point"

    @pytest.mark.parametrize("kind", ["click", "left_double", "right_single", "hover", "drag"])
    def test_an_action_that_has_to_say_where_says_it(self, kind):
        assert code(DESKTOP, Action(kind)) == "point"

    def test_a_drag_has_to_end_somewhere(self):
        assert code(DESKTOP, Action("drag", start=(1, 1))) == "point"

    def test_a_scroll_without_a_point_counts_as_at_the_centre(self):
        assert code(Policy(platform="web", deny=((90, 40, 110, 60),)), Action("scroll", direction="up")) == "region"

    def test_denied_regions_are_never_touched_by_any_end_of_an_action(self):
        policy = Policy(platform="desktop", deny=((100, 0, 150, 20),))
        for action in (
            click(120, 10),
            click(100, 20),
            Action("drag", start=(10, 10), end=(120, 10)),
            Action("drag", start=(120, 10), end=(10, 10)),
            Action("hover", start=(120, 10)),
        ):
            assert code(policy, action) == "region"
        assert code(policy, click(120, 21)) == "ok"

    @given(st.floats(0, 199.99), st.floats(0, 99.99))
    def test_no_allowed_click_is_rounded_into_a_denied_region(self, x, y):
        denied = (50, 30, 80, 60)
        verdict = Policy(platform="desktop", deny=(denied,)).check(click(x, y), SCREEN)
        pixel = min(round(x), 199), min(round(y), 99)
        hit = denied[0] <= pixel[0] <= denied[2] and denied[1] <= pixel[1] <= denied[3]
        assert not (verdict.allowed and hit)

    def test_with_allowed_regions_everything_else_is_out_of_reach(self):
        policy = Policy(platform="desktop", allow=((0, 0, 50, 50), (100, 0, 150, 50)), deny=((0, 0, 5, 5),))
        assert [code(policy, click(*at)) for at in ((10, 10), (120, 10), (75, 10), (2, 2))] == [
            *("ok", "ok"),
            *("region", "region"),
        ]
        assert code(policy, click(50.6, 10)) == "region"


class TestKeys:
    @pytest.mark.parametrize(
        "pressed",
        [
            *(
                "alt f4",
                "f4 alt",
                "ctrl w",
                "ctrl t",
                "ctrl n",
                "ctrl alt w",
                "f12",
                "meta",
                "meta a",
                "cmd q",
                "win r",
            ),
            *("ctrl shift a", "shift ctrl i", "Control W", "ctrl ｗ", "controlleft w", "ctrl_l w", "alt tab", "ctrl l"),
            *("volumeup", "ctrl+w", "controlormeta w", ""),
        ],
    )
    def test_keys_that_leave_the_page_are_denied_however_they_are_written(self, pressed):
        assert code(DESKTOP, keys(*pressed.split())) == "keys"

    @pytest.mark.parametrize(
        "pressed", ["ctrl c", "shift a", "enter", "up", "f5", "1", "ctrl alt a", "Escape", "Return"]
    )
    def test_ordinary_keys_are_allowed(self, pressed):
        assert code(DESKTOP, keys(*pressed.split())) == "ok"

    def test_at_most_three_at_once(self):
        assert code(DESKTOP, keys("a", "b", "c")) == "ok"
        assert code(DESKTOP, keys("a", "b", "c", "d")) == "keys"

    def test_a_combination_cannot_be_put_together_from_held_keys(self):
        assert code(DESKTOP, Action("press", keys=("w",))) == "ok"
        assert code(DESKTOP, Action("press", keys=("w",)), held=("ctrl",)) == "keys"
        assert code(DESKTOP, keys("w"), held=("ctrl",)) == "keys"
        assert code(DESKTOP, keys("d"), held=("a", "b", "c")) == "keys"

    @given(st.lists(st.sampled_from(["ctrl", "shift", "alt", "a", "w", "f4", "f12", "meta", "t"]), max_size=4))
    def test_the_order_of_keys_does_not_matter(self, pressed):
        assert code(DESKTOP, keys(*pressed)) == code(DESKTOP, keys(*reversed(pressed)))

    def test_a_caller_chooses_the_keys(self):
        policy = Policy(platform="web", keys=("w", "a"), denied_keys=("w+a",))
        assert [code(policy, keys(*each)) for each in ("w", "a", "wa", "s")] == ["ok", "ok", "keys", "keys"]


class TestTexts:
    @pytest.mark.parametrize("text", ["", "B4", "héllo 世界 🎯", "a" * 500])
    def test_printable_text_may_be_typed(self, text):
        assert code(WEB, Action("type", text=text)) == "ok"

    @pytest.mark.parametrize("text", ["a\nb", "\x1b[2J", "a\x00", "a\u202eb", "\ud800", "a" * 501])
    def test_control_characters_and_very_long_text_may_not(self, text):
        assert code(WEB, Action("type", text=text)) == "text"

    def test_redaction_replaces_what_the_patterns_match(self):
        policy = Policy(redact=(r"token-\d+", "secret"))
        assert policy.redacted("a token-12, a secret, a token") == "a [redacted], a [redacted], a token"


class TestAddresses:
    @pytest.mark.parametrize(
        "address", ["http://127.0.0.1:8000/x", "https://localhost/", "HTTP://LOCALHOST", "http://[::1]/"]
    )
    def test_this_machine_may_be_visited(self, address):
        assert code(WEB, Action("navigate", text=address)) == "ok"

    @pytest.mark.parametrize(
        "address",
        [
            *("https://example.org", "example.org", "//example.org", "", "http:localhost", "http:///localhost"),
            *("file:///etc/passwd", "data:text/html,x", "javascript:alert(1)", "ftp://localhost/", "about:blank"),
            *("http://user@localhost/", "http://localhost@example.org", "http://localhost\\@example.org"),
            *(
                "http://example.org\\@localhost",
                "http://local\thost",
                " http://localhost",
                "http://localhost.example.org",
            ),
            *("http://①27.0.0.1", "http://0.0.0.0", "http://2130706433", "http://localhost:99999/", "http://[::1"),
            *("java\nscript:alert(1)", "http://localhost.", "blob:http://localhost/1", "view-source:http://localhost"),
        ],
    )
    def test_nothing_else_may_by_default(self, address):
        assert code(WEB, Action("navigate", text=address)) == "address"

    def test_a_host_may_be_allowed_for_one_port(self):
        policy = Policy(platform="web", hosts=("127.0.0.1:8000", "example.org:443", "[::1]:5"))
        allowed = ("http://127.0.0.1:8000", "https://example.org/a", "http://[::1]:5/")
        denied = ("http://127.0.0.1", "http://127.0.0.1:9", "http://example.org", "http://[::1]:6/")
        assert {code(policy, Action("navigate", text=each)) for each in allowed} == {"ok"}
        assert {code(policy, Action("navigate", text=each)) for each in denied} == {"address"}

    def test_apps_are_opened_by_name_only(self):
        assert code(MOBILE, Action("open_app", text="Maps")) == "app"
        policy = dataclasses.replace(MOBILE, apps=("Maps",))
        assert code(policy, Action("open_app", text="Maps")) == "ok"
        assert code(policy, Action("open_app", text="Bank")) == "app"


class TestDurations:
    def test_nobody_waits_longer_than_five_seconds(self):
        assert code(WEB, Action("wait", milliseconds=5000)) == "ok"
        assert code(WEB, Action("wait")) == "ok"
        assert code(WEB, Action("wait", milliseconds=5001)) == "duration"
        assert code(WEB, Action("wait", milliseconds=-1)) == "duration"
        assert code(MOBILE, Action("long_press", start=(1, 1), milliseconds=60_000)) == "duration"


class TestConfirmation:
    RISKY = (
        Action("navigate", text="http://localhost/"),
        Action("navigate_back"),
        Action("type", text="a", submit=True),
        keys("enter"),
        keys("ctrl", "c"),
        Action("press", keys=("delete",)),
    )
    PLAIN = (click(1, 1), Action("type", text="a"), keys("a"), Action("wait"), Action("scroll", direction="up"))

    def test_what_leaves_the_page_or_sends_something_is_risky(self):
        assert [WEB.check(action, SCREEN).needs_confirmation for action in self.RISKY] == [True] * 6
        assert [WEB.check(action, SCREEN).needs_confirmation for action in self.PLAIN] == [False] * 5

    def test_a_held_key_makes_others_risky(self):
        assert WEB.check(keys("c"), SCREEN, held=("ctrl",)).needs_confirmation

    @pytest.mark.parametrize(("confirm", "wanted"), [("always", True), ("never", False)])
    def test_all_or_nothing_may_be_confirmed(self, confirm, wanted):
        policy = Policy(platform="web", confirm=confirm)
        assert {policy.check(action, SCREEN).needs_confirmation for action in (*self.RISKY, *self.PLAIN)} == {wanted}
        assert not policy.check(Action("finished"), SCREEN).needs_confirmation


class TestSettings:
    def test_the_defaults_are_the_safe_ones(self):
        policy = Policy()
        assert (policy.max_steps, policy.max_parse_failures, policy.max_repeats) == (25, 3, 3)
        assert (policy.max_wait_milliseconds, policy.actions_per_turn, policy.max_keys) == (5000, 1, 3)
        assert set(policy.hosts) == {"127.0.0.1", "localhost", "::1"}
        assert policy.apps == ()
        assert policy.confirm == "risky"

    def test_a_policy_cannot_be_changed(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            Policy().max_steps = 1000  # ty: ignore[invalid-assignment]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"platform": "toaster"},
            {"confirm": "sometimes"},
            {"actions": ("teleport",)},
            {"deny": ((5, 5, 5, 9),)},
            {"allow": ((0, 0, float("nan"), 9),)},
            {"max_steps": 0},
            {"max_seconds": float("inf")},
            {"max_text": 100_000},
            {"redact": ("(",)},
        ],
    )
    def test_settings_that_cannot_be_meant_are_refused(self, wrong):
        with pytest.raises(UIActionInputError):
            Policy(**wrong)

    @given(
        st.builds(
            Action,
            type=st.sampled_from(ACTION_TYPES),
            start=st.none() | st.tuples(st.floats(), st.floats()),
            end=st.none() | st.tuples(st.floats(), st.floats()),
            text=st.text(max_size=20),
            keys=st.lists(st.text(max_size=8), max_size=4).map(tuple),
            milliseconds=st.none() | st.integers(),
        ),
        st.sampled_from([Policy(), DESKTOP, MOBILE, WEB]),
    )
    def test_whatever_comes_gets_the_same_verdict_each_time_and_a_reason_if_refused(self, action, policy):
        verdict = policy.check(action, SCREEN)
        assert verdict == policy.check(action, SCREEN)
        assert verdict.allowed is not bool(verdict.reason)
        assert "\n" not in verdict.reason


class TestKillSwitch:
    def test_a_file_turns_it_on_for_as_long_as_it_is_there(self, tmp_path):
        switch = KillSwitch(tmp_path / "stop")
        switch.check()
        (tmp_path / "stop").touch()
        with pytest.raises(StoppedError, match="remove the file"):
            switch.check()
        (tmp_path / "stop").unlink()
        assert not switch.is_set()

    def test_a_file_that_cannot_be_looked_for_counts_as_there(self, tmp_path):
        assert KillSwitch(tmp_path / ("x" * 5000)).is_set()

    def test_an_event_turns_it_on(self):
        event = threading.Event()
        switch = KillSwitch(event=event)
        event.set()
        with pytest.raises(StoppedError):
            switch.check()

    def test_a_signal_turns_it_on_and_the_old_handler_comes_back(self):
        before = signal.getsignal(signal.SIGUSR1)
        with KillSwitch(signals=(signal.SIGUSR1,)) as switch:
            assert not switch.is_set()
            os.kill(os.getpid(), signal.SIGUSR1)
            assert switch.is_set()
        assert signal.getsignal(signal.SIGUSR1) is before
