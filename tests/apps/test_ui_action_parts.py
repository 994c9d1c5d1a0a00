"""The UI action page's panels: a trace that somebody uploads, checked and replayed, and any model output, parsed."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.ui_action import endpoints, parts, work
from apps.ui_action.parsing import parse_text, parsed_view, show_parsed
from apps.ui_action.replaying import replay_uploads, replayed_view, show_replayed
from apps.ui_action.request import Request
from apps.ui_action.uploads import MOST_FILES, unpack
from core import registry
from core.errors import InputError
from core.jobs import default_store
from plugins.ui_action.trace import TraceError

HOSTILE = '"><img src=x onerror=alert(1)>'
SPEC = "plugins.ui_action.plugin:SPEC"


@pytest.fixture(scope="module")
def archive() -> Generator[Path]:
    """The trace.zip of a game that the expert has won."""
    with pytest.MonkeyPatch.context() as patch:
        if SPEC not in registry.IN_TREE:
            patch.setattr(registry, "IN_TREE", (*registry.IN_TREE, SPEC))
        job = default_store().wait(work.submit(Request(player="expert", pace=0)), 60)
        yield next(path for path in job.artefacts if path.name == "trace.zip")


# Replaying


def test_a_replayed_run_is_the_same_step_by_step(archive: Path) -> None:
    replayed = replay_uploads([archive])
    assert (replayed.task, replayed.adversarial) == ("resource-allocation", False)
    assert all(turn.is_same for turn in replayed.turns)
    assert len(replayed.turns) == len(replayed.trace.steps) > 3
    assert set(replayed.screens) == {"as recorded"}
    assert "whole" in replayed_view(replayed)


def test_a_trace_alone_is_replayed_and_its_screens_are_said_to_be_missing(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        (tmp_path / "my trace.jsonl").write_bytes(packed.read("trace.jsonl"))
    assert set(replay_uploads([tmp_path / "my trace.jsonl"]).screens) == {"missing"}


def test_a_line_that_was_edited_is_named(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        lines = packed.read("trace.jsonl").split(b"\n")
    lines[2] = lines[2].replace(b'"executed":true', b'"executed":false')
    (tmp_path / "trace.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(TraceError, match="line 3: not as it was written"):
        replay_uploads([tmp_path / "trace.jsonl"])
    assert "line 3" in show_replayed([str(tmp_path / "trace.jsonl")])


def test_a_run_whose_states_were_made_up_differs_at_that_step(archive: Path, tmp_path: Path) -> None:
    """Its chain is whole: whoever writes the whole file anew can make one."""
    canonical, sha256 = parts.part("records:canonical"), parts.part("records:sha256")
    with zipfile.ZipFile(archive) as packed:
        records = [json.loads(line)["record"] for line in packed.read("trace.jsonl").splitlines()]
    records[3]["step"]["state_after"] = "0" * 64
    previous, lines = "0" * 64, []
    for record in records:
        previous = sha256(previous + canonical(record))
        lines.append(f'{{"hash":"{previous}","record":{canonical(record)}}}\n')
    (tmp_path / "trace.jsonl").write_text("".join(lines))
    replayed = replay_uploads([tmp_path / "trace.jsonl"])
    assert [turn.is_same for turn in replayed.turns] == [True, True, False]
    assert "step 3 leads to another state" in replayed_view(replayed)


@pytest.mark.parametrize(
    "name", ["../trace.jsonl", "/etc/trace.jsonl", "a/../../trace.jsonl", "C:\\trace.jsonl", "a/b/trace.jsonl"]
)
def test_a_zip_whose_names_lead_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as packed:
        packed.writestr(name, "x")
    target = tmp_path / "inside"
    target.mkdir()
    with pytest.raises(InputError, match="leads elsewhere"):
        unpack([tmp_path / "evil.zip"], target)
    assert list(target.iterdir()) == []
    assert not (tmp_path / "trace.jsonl").exists()


def test_uploads_beyond_the_limits_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "inside"
    target.mkdir()
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("trace.jsonl", bytes(17 * 2**20))
    assert (tmp_path / "bomb.zip").stat().st_size < 2**17
    with pytest.raises(InputError, match="16 MB in a file"):
        unpack([tmp_path / "bomb.zip"], target)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as packed:
        for number in range(MOST_FILES + 1):
            packed.writestr(f"{number}.txt", "")
    with pytest.raises(InputError, match=f"limit {MOST_FILES}"):
        unpack([tmp_path / "many.zip"], target)
    for wrong, says in (([], "no trace yet"), ([tmp_path / "many.zip"] * 401, "files are given")):
        with pytest.raises(InputError, match=says):
            unpack(wrong, target)


@given(data=st.data())
@settings(max_examples=60)
def test_a_damaged_zip_gives_a_sentence(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("trace.jsonl", b"not a trace\n" * 40)
    content = bytearray(buffer.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("zip") / "trace.zip"
    path.write_bytes(content)
    assert show_replayed([str(path)]).startswith('<p class="warning"')


def test_an_entry_without_a_name_is_no_trace(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("a", b"")
    path = tmp_path / "nameless.zip"
    path.write_bytes(content.getvalue().replace(b"a", b"\0"))
    assert show_replayed([str(path)]).startswith('<p class="warning"')


# Parsing


def test_a_point_is_read_in_the_models_image_and_given_in_the_screens_pixels() -> None:
    text = "Action: click(start_box='(100,200)')"
    found = parse_text(text, 1920, 1080, 1932, 1092, "absolute", True)
    assert found["actions"][0]["start"] == pytest.approx((99.379, 197.802), abs=1e-3)
    found = parse_text(text, 1920, 1080, 0, 0, "relative-1000", True)
    assert found["actions"][0]["start"] == pytest.approx((192, 216))
    assert 'cx="192" cy="216"' in parsed_view(found, (1920, 1080))
    assert "To the letter" in parsed_view(found, (1920, 1080))


def test_what_is_no_action_gives_its_code_and_what_was_read_leniently_its_flag() -> None:
    answer = endpoints.ui_action_parse("Action: teleport()")
    assert (answer["actions"], answer["error"]["code"]) == ([], "unknown_action")
    assert "full_width_colon" in show_parsed("Action：wait()", 100, 100, None, None, "absolute", True)
    assert "bad_syntax" in show_parsed("Action：wait()", 100, 100, 0, 0, "absolute", False)


@pytest.mark.parametrize(
    ("screen", "says"),
    [
        ((0, 10, 0, 0, "absolute"), "at least 1 x 1"),
        ((10, 10, 5, 0, "absolute"), "give both"),
        ((10**9, 10, 0, 0, "absolute"), "up to 16,384"),
        ((10, 10, 0, 0, HOSTILE), "choose one of"),
    ],
)
def test_a_screen_that_is_none_is_said_to_be_none(screen: tuple[Any, ...], says: str) -> None:
    with pytest.raises(gr.Error, match=says):
        endpoints.ui_action_parse("Action: wait()", *screen)
    assert "<img src=x" not in show_parsed("Action: wait()", *screen, True)


@given(
    st.text(max_size=60)
    | st.from_regex(r"Action: [a-z_]{4,12}\((start_box|content|key)='[ -~]{0,20}'\)", fullmatch=True)
)
@settings(max_examples=80)
def test_any_text_at_all_is_answered_with_harmless_html(text: str) -> None:
    shown = show_parsed(f"{text}{HOSTILE}", 640, 480, 0, 0, "absolute", True)
    assert "<img" not in shown
    assert not re.search(r"<(?!/?(p|figure|svg|g|circle|line|rect|text|div|table|thead|tbody|tr|th|td|code)\b)", shown)
