"""The report: all of a run on one page, on which nothing but our own words is markup."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from plugins.ui_action.actions import Action
from plugins.ui_action.backends.scripted import ScriptedBackend
from plugins.ui_action.policy import Policy
from plugins.ui_action.report import describe, report_html, write_report
from plugins.ui_action.trace import TraceWriter, read_trace
from tests.ui_action.playground import QUIT, WIN, click, played

HOSTILE = """</dd><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}{% raw %}&lt;"'"""
NEVER = Policy(confirm="never", deny=(QUIT,))
EMPTY = {"meta", "circle", "line", "rect", "image", "br"}


class Page(HTMLParser):
    """Elements, attributes and texts of a page, with the text that each element holds."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self) -> str:
        return "\n".join(data for _, data in self.texts)


def report(folder: Path, lines, **options) -> Page:
    options.setdefault("policy", NEVER)
    with TraceWriter(folder / "run.jsonl") as writer:
        played(lines, trace=writer, **options)
    return Page(report_html(read_trace(folder / "run.jsonl")))


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> Page:
    lines = [
        click(20, 30),
        click(4, 4),
        "Action: drag(start_box='(10,10)', end_box='(30,12)')",
        "Action: scroll(start_box='(28,28)', direction='down')",
        "Action: press(key='a')",
        "no action at all",
        WIN,
    ]
    return report(tmp_path_factory.mktemp("report"), lines)


def test_every_step_is_there_with_thought_action_verdict_times_and_the_outcome(shown):
    headings = [text for tag, text in shown.texts if tag == "h2"]
    assert headings == [*(f"Step {number}" for number in range(1, 8)), "End: success"]
    text = shown.text()
    assert "UI action run: success" in text
    assert "select the goal" in text
    assert text.count("there.") == 3
    assert "click (20, 30)" in text
    assert "drag (10, 10) to (30, 12)" in text
    assert "refused (region): (4, 4) is in a region that must not be touched" in text
    assert "no action at all" in text
    assert len(re.findall(r"scripted \(both\) \d+ ms", text)) == 7


def test_every_screen_is_in_the_page_and_what_was_planned_is_drawn_on_it(shown):
    images = [attributes["href"] or "" for attributes in shown.all("image")]
    assert len(images) == 8
    for address in images:
        head, _, content = address.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(content, validate=True).startswith(b"\x89PNG")
    assert {attributes["viewbox"] for attributes in shown.all("svg")} == {"0 0 56 56"}
    circles = [(each["cx"], each["cy"]) for each in shown.all("circle") if each["class"] == "mark"]
    assert circles == [("20.0", "30.0"), ("4.0", "4.0"), ("10.0", "10.0"), ("28.0", "28.0"), ("45.0", "45.0")]
    ends = [(each["x2"], each["y2"]) for each in shown.all("line") if each["class"] == "mark"]
    assert ends == [("30.0", "12.0"), ("28.0", "39.2")]


def test_it_loads_nothing_and_runs_nothing(shown):
    assert shown.all("script") == []
    assert shown.all("link") == []
    (policy,) = (each["content"] or "" for each in shown.all("meta") if each.get("http-equiv"))
    assert "default-src 'none'" in policy
    addresses = [each.get(name) for _, each in shown.elements for name in ("href", "src", "action", "srcset")]
    assert all(address.startswith("data:image/png") for address in addresses if address is not None)
    assert not any(name.startswith("on") for _, each in shown.elements for name in each)


def test_hostile_text_stays_text_wherever_it_comes_from(tmp_path):
    lines = [
        f"Thought: {HOSTILE}\nAction: click(start_box='(20,20)')",
        f'Reflection: {HOSTILE}\nAction_Summary: {HOSTILE}\nAction: type(content="</script><script>x</script>")',
        HOSTILE,
        f"Thought: x\nAction: finished(content='{HOSTILE.replace(chr(39), '')}')",
    ]
    reasoner = ScriptedBackend(lambda prompt: HOSTILE, name=HOSTILE)
    page = report(tmp_path, lines, reasoner=reasoner, instruction=HOSTILE)
    assert page.all("script") == []
    assert page.all("img") == []
    assert page.open == []
    assert page.text().count(HOSTILE) >= 9
    assert "49" not in [text.strip() for _, text in page.texts]


def test_it_follows_light_and_dark_and_narrow_screens(shown):
    style = next(text for tag, text in shown.texts if tag == "style")
    assert "prefers-color-scheme: dark" in style
    assert "max-width: 40rem" in style
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in shown.all("meta")


def test_screens_are_named_for_those_who_do_not_see_them(shown):
    assert [each["aria-label"] for each in shown.all("svg")][:2] == ["Screen before step 1", "Screen before step 2"]
    assert {each["role"] for each in shown.all("svg")} == {"img"}


def test_a_screen_that_was_changed_is_not_shown_but_named(tmp_path):
    with TraceWriter(tmp_path / "run.jsonl") as writer:
        played([click(20, 20), WIN], trace=writer, policy=NEVER)
    trace = read_trace(tmp_path / "run.jsonl")
    Image.new("RGB", (56, 56)).save(tmp_path / f"{trace.steps[1].screenshot}.png")
    write_report(trace, tmp_path / "run.html")
    page = Page((tmp_path / "run.html").read_text(encoding="utf-8"))
    assert len(page.all("image")) == 2
    assert "was changed: its hash is not its name" in page.text()


def test_a_dry_run_says_so(tmp_path):
    page = report(tmp_path, [WIN], policy=replace(NEVER, dry_run=True, max_steps=1))
    assert "dry run" in page.text()
    assert ("dd", "not carried out") in page.texts


@pytest.mark.parametrize(
    ("action", "line"),
    [
        (Action("click", start=(1.5, 2)), "click (1.5, 2)"),
        (Action("scroll", start=(1, 2), direction="up"), "scroll (1, 2) up"),
        (Action("hotkey", keys=("ctrl", "c")), "hotkey ctrl c"),
        (Action("type", text="B4", submit=True), "type “B4” and Enter"),
        (Action("wait", milliseconds=5000), "wait 5000 ms"),
    ],
)
def test_actions_read_as_one_line(action, line):
    assert describe(action) == line
