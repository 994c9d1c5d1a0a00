"""Traces: what is written, that nothing of it can be changed unseen, and that a run can be carried out again."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from plugins.ui_action.backends.base import BackendError, Prompt, Turn, Video
from plugins.ui_action.backends.scripted import ScriptedBackend
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.kill_switch import KillSwitch, StoppedError
from plugins.ui_action.policy import Policy
from plugins.ui_action.records import canonical, prompt_hash
from plugins.ui_action.replay import replay
from plugins.ui_action.trace import FIRST, MOST_LINE_BYTES, Trace, TraceError, TraceWriter, read_trace
from tests.ui_action.playground import QUIT, WIN, Playground, agent, click, played

NEVER = Policy(confirm="never")
LINES = [click(20, 20), click(4, 4), "what?", "Action: press(key='a')", "Action: type(content='B4')", WIN]


def written(folder: Path, lines=LINES, **options) -> Path:
    path = folder / "run.jsonl"
    options.setdefault("policy", replace(NEVER, deny=(QUIT,)))
    with TraceWriter(path) as writer:
        played(lines, trace=writer, **options)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("trace"), seed=7)


@pytest.fixture(scope="module")
def trace(path) -> Trace:
    return read_trace(path)


def chained(records: list[dict]) -> bytes:
    """A file whose chain is right, whatever its records say."""
    previous, lines = FIRST, []
    for record in records:
        previous = hashlib.sha256((previous + canonical(record)).encode()).hexdigest()
        lines.append(f'{{"hash":"{previous}","record":{canonical(record)}}}\n')
    return "".join(lines).encode()


def records(path: Path) -> list[dict]:
    return [json.loads(line)["record"] for line in path.read_text().splitlines()]


class TestWriting:
    def test_the_header_says_what_the_run_was_given(self, trace):
        header = trace.header
        assert (header.instruction, header.platform, header.seed) == ("select the goal", "web", 7)
        assert (header.reasoner, header.executor) == (None, "scripted")
        assert header.policy == replace(NEVER, deny=(QUIT,), platform="web")
        assert header.memory.media == ("S",)

    def test_every_turn_is_there_with_answer_action_verdict_and_states(self, trace):
        steps = [line.step for line in trace.steps]
        assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
        assert [step.calls[0].text for step in steps] == LINES
        assert [[one.verdict.code for one in step.planned] for step in steps] == [["ok"], ["region"], [], *[["ok"]] * 3]
        assert [[one.executed for one in step.planned] for step in steps] == [[True], [False], [], *[[True]] * 3]
        assert [step.state_before != step.state_after for step in steps] == [True, False, False, True, True, True]
        assert [step.state_before for step in steps[1:]] == [step.state_after for step in steps[:-1]]
        assert steps[3].released == ("a",)
        assert steps[2].error
        assert steps[0].thought == "there."
        assert all(len(step.calls[0].prompt) == 64 for step in steps)
        assert trace.outcome.status == "success"

    def test_the_same_question_has_the_same_hash_and_another_one_another(self, trace):
        hashes = [line.step.calls[0].prompt for line in trace.steps]
        assert len(set(hashes)) == len(hashes)  # the history grows with every turn
        again = [event.step.calls[0].prompt for event in played(LINES, policy=trace.header.policy, seed=7)[2]]
        assert again == hashes

    def test_all_that_a_model_is_asked_is_in_the_hash(self):
        red, blue = (Image.new("RGB", (2, 2), name) for name in ("red", "blue"))
        prompt = Prompt("both", "go", (red,), "web", (Turn((red,), "a", "b"),))
        others = [
            replace(prompt, role="act"),
            replace(prompt, instruction="stay"),
            replace(prompt, platform="mobile"),
            replace(prompt, media=(blue,)),
            replace(prompt, media=(red, red)),
            replace(prompt, media=(Video((red,), 2.0),)),
            replace(prompt, media=(Video((red,), 1.0),)),
            *(replace(prompt, history=(turn,)) for turn in (Turn((), "a", "b"), Turn((red,), "c", "b"))),
            replace(prompt, history=(Turn((red,), "a", "c"),)),
            replace(prompt, history=()),
        ]
        assert len({prompt_hash(each) for each in (prompt, *others)}) == len(others) + 1
        assert prompt_hash(replace(prompt, media=(red.copy(),))) == prompt_hash(prompt)

    def test_screens_lie_beside_it_under_the_hash_of_their_file(self, path, trace):
        for name in {*(line.screenshot for line in trace.steps), trace.last_screenshot}:
            content = path.with_name(f"{name}.png").read_bytes()
            assert hashlib.sha256(content).hexdigest() == name
            assert trace.image(name).size == (56, 56)
        assert trace.image(trace.steps[1].screenshot).getpixel((0, 0)) == (1, 0, 7)

    def test_a_line_is_on_disk_before_the_next_turn(self, tmp_path):
        with TraceWriter(tmp_path / "run.jsonl") as writer:
            one, _ = agent(LINES, trace=writer)
            for number, _event in enumerate(one.run(), 1):
                steps = [each for each in records(tmp_path / "run.jsonl") if each["kind"] == "step"]
                assert len(steps) == number

    def test_a_file_that_is_there_is_never_written_over(self, path):
        before = path.read_bytes()
        with pytest.raises(TraceError, match="a file of its own"):
            TraceWriter(path)
        assert path.read_bytes() == before

    def test_a_run_that_is_gone_on_with_is_one_trace(self, tmp_path):
        answers = iter([click(20, 20), None, WIN])

        def answer(prompt: Prompt) -> str:
            given = next(answers)
            if given is None:
                raise BackendError("gone")
            return given

        with TraceWriter(tmp_path / "run.jsonl") as writer:
            one, _ = agent(answer, trace=writer)
            list(one.run())
            assert read_trace(tmp_path / "run.jsonl").outcome.status == "error"
            list(one.run())
        read = read_trace(tmp_path / "run.jsonl")
        assert (read.outcome.status, len(read.steps)) == ("success", 2)

    def test_redacted_texts_are_nowhere_in_the_file(self, tmp_path):
        secret = "hunter2"
        lines = [f"Thought: I type {secret}.\nAction: type(content='{secret}')", f"{secret}?", WIN]
        policy = replace(NEVER, redact=(secret,))
        environment = Playground()
        path = written(tmp_path, lines, policy=policy, environment=environment, instruction=f"log in with {secret}")
        assert environment.done[0].text == secret
        content = path.read_text()
        assert secret not in content
        assert content.count("[redacted]") >= 5
        assert read_trace(path).header.policy.redact == ()

    def test_two_models_are_written_down_apart(self, tmp_path):
        path = written(tmp_path, [WIN], reasoner=ScriptedBackend(["Click the goal."], name="thinker"))
        trace = read_trace(path)
        assert trace.header.reasoner == "thinker"
        assert [(call.role, call.backend) for call in trace.steps[0].step.calls] == [
            ("reason", "thinker"),
            ("act", "scripted"),
        ]

    def test_odd_and_very_long_answers_are_written_and_read(self, tmp_path):
        lines = ["Thought: \ud800 \x00 🎯\n" + "🎯" * 100_000 + "(", "Action: type(content='\ud83d')", WIN]
        trace = read_trace(written(tmp_path, lines))
        assert len(trace.steps) == 3
        assert len(trace.steps[0].step.calls[0].text) == 8000


class TestReading:
    @given(st.data())
    def test_one_edited_byte_anywhere_is_found(self, path, data):
        content = bytearray(path.read_bytes())
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= data.draw(st.integers(1, 255))
        changed = path.with_name("changed.jsonl")
        changed.write_bytes(content)
        with pytest.raises(TraceError, match=r"changed\.jsonl"):
            read_trace(changed)

    @given(st.data())
    def test_a_file_that_was_cut_is_found(self, path, data):
        content = path.read_bytes()
        changed = path.with_name("cut.jsonl")
        changed.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        with pytest.raises(TraceError, match=r"cut\.jsonl"):
            read_trace(changed)

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
            (lambda lines: [*lines[:3], *lines[4:]], 4),
            (lambda lines: [*lines[:3], lines[2], *lines[3:]], 4),
            (lambda lines: lines[1:], 1),
            (lambda lines: [lines[0], b"\n", *lines[1:]], 2),
            (lambda lines: [lines[0], lines[1].replace(b'"hash"', b' "hash"'), *lines[2:]], 2),
            (lambda lines: [*lines, b"{}\n"], 9),
        ],
    )
    def test_moved_missing_doubled_and_added_lines_are_named(self, path, change, line):
        lines = path.read_bytes().splitlines(keepends=True)
        assert len(lines) == 8
        changed = path.with_name("moved.jsonl")
        changed.write_bytes(b"".join(change(lines)))
        with pytest.raises(TraceError, match=f"moved.jsonl, line {line}: "):
            read_trace(changed)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"hello\n",
            b"[]\n",
            b'{"hash":1,"record":NaN}\n',
            b"[" * 100_000 + b"\n",
            b'{"record":' + b"9" * 5000 + b"}\n",
            b"\xff\xfe\n",
            b'{"record":"' + b"a" * MOST_LINE_BYTES + b'"}\n',
        ],
    )
    def test_what_is_no_trace_is_refused(self, tmp_path, content):
        (tmp_path / "odd.jsonl").write_bytes(content)
        with pytest.raises(TraceError, match=r"odd\.jsonl"):
            read_trace(tmp_path / "odd.jsonl")

    def test_a_right_chain_does_not_make_up_for_wrong_contents(self, path, tmp_path):
        good = records(path)

        def verdict(change) -> None:
            made = json.loads(json.dumps(good))
            (tmp_path / "made.jsonl").write_bytes(chained(change(made) or made))
            read_trace(tmp_path / "made.jsonl")

        verdict(lambda made: None)
        for change in (
            lambda made: made[1]["step"].update(number=2),
            lambda made: made[1]["step"].update(milliseconds="fast"),
            lambda made: made[1]["step"]["planned"][0]["action"].update(type="teleport"),
            lambda made: made[1]["step"]["screen"].update(width=-5),
            lambda made: made[1].pop("screenshot"),
            lambda made: made[0]["header"]["policy"].update(max_steps=0),
            lambda made: made[0].update(format="ui-action-trace-9"),
            lambda made: made[2].update(kind="surprise"),
            lambda made: [made[0], *made],
            lambda made: made[1:],
            lambda made: [*made, made[-1]],
            lambda made: made[:-1],
        ):
            with pytest.raises(TraceError):
                verdict(change)

    def test_only_plain_files_are_read(self, path, tmp_path):
        (tmp_path / "link.jsonl").symlink_to(path)
        os.mkfifo(tmp_path / "pipe.jsonl")
        for name in ("link.jsonl", "pipe.jsonl", "missing.jsonl", "."):
            with pytest.raises(TraceError):
                read_trace(tmp_path / name)


class TestScreens:
    @pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", ""])
    def test_only_hashes_are_names(self, trace, name):
        with pytest.raises(TraceError, match="names are 64"):
            trace.screenshot(name)

    def test_changed_missing_and_linked_files_are_refused(self, tmp_path):
        trace = read_trace(written(tmp_path))
        first, second, third = (tmp_path / f"{trace.steps[index].screenshot}.png" for index in (0, 1, 4))
        content = first.read_bytes()
        first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        second.rename(tmp_path / "moved.png")
        third.rename(tmp_path / "other.png")
        third.symlink_to(tmp_path / "other.png")
        for picture in (first, second, third):
            with pytest.raises(TraceError):
                trace.screenshot(picture.stem)

    def test_a_file_that_is_no_picture_is_refused(self, tmp_path):
        trace = read_trace(written(tmp_path))
        name = hashlib.sha256(b"GIF89a").hexdigest()
        (tmp_path / f"{name}.png").write_bytes(b"GIF89a")
        with pytest.raises(TraceError, match="no PNG picture"):
            trace.image(name)


class TestReplay:
    def test_the_same_environment_does_the_same(self, trace):
        environment = Playground()
        replayed = replay(trace, environment)
        assert replayed.is_same
        assert len(replayed.turns) == 6
        assert [turn.replayed for turn in replayed.turns] == [turn.recorded for turn in replayed.turns]
        assert [action.type for action in environment.done] == ["click", "press", "release", "type", "click"]
        assert environment.seed == 7

    def test_an_environment_that_does_something_else_is_found_at_once(self, trace):
        environment = Playground(offset=1)
        replayed = replay(trace, environment)
        assert (replayed.is_same, replayed.first_difference, len(replayed.turns)) == (False, 1, 1)
        assert len(environment.done) == 1

    def test_a_dry_run_replays_as_nothing(self, tmp_path):
        trace = read_trace(written(tmp_path, policy=replace(NEVER, dry_run=True, max_steps=2)))
        environment = Playground()
        assert replay(trace, environment).is_same
        assert environment.done == []

    def test_recorded_actions_pass_the_policy_of_the_one_who_replays(self, path, trace, tmp_path):
        environment = Playground()
        with pytest.raises(TraceError, match="step 1 is not allowed"):
            replay(trace, environment, policy=replace(NEVER, deny=((15, 15, 25, 25),)))
        assert environment.done == []
        made = records(path)
        made[1]["step"]["planned"][0]["action"].update(type="navigate", text="http://example.org")
        (tmp_path / "made.jsonl").write_bytes(chained(made))
        with pytest.raises(TraceError, match="step 1 is not allowed"):
            replay(read_trace(tmp_path / "made.jsonl"), environment)
        assert environment.done == []

    def test_a_redacted_text_cannot_be_replayed(self, tmp_path):
        trace = read_trace(written(tmp_path, policy=replace(NEVER, redact=("B4",), deny=(QUIT,))))
        environment = Playground()
        with pytest.raises(TraceError, match="step 5: the text of type was redacted"):
            replay(trace, environment)
        assert environment.closed == 1

    def test_another_platform_is_another_run(self, trace):
        with pytest.raises(TraceError, match="give the same"):
            replay(trace, Playground(platform="desktop"))

    def test_it_can_be_stopped(self, trace):
        switch, environment = KillSwitch(), Playground()
        environment.before_action = lambda action: switch.set()
        with pytest.raises(StoppedError):
            replay(trace, environment, kill_switch=switch)
        assert len(environment.done) == 1


def test_errors_of_traces_are_ones_that_pages_can_show():
    assert issubclass(TraceError, UIActionInputError)
