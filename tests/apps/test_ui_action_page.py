"""The UI action page's work and views, without a browser: games played, stepped, asked about, kept and replayed."""

from __future__ import annotations

import csv
import io
import json
import time
import zipfile
from collections.abc import Callable, Generator
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from apps.ui_action import endpoints, page, parts, players, request, views, watch, work
from apps.ui_action.cells import cells, first_look
from apps.ui_action.files import DOWNLOADS
from apps.ui_action.live import live_view
from apps.ui_action.marks import screen_figure
from apps.ui_action.player import player
from apps.ui_action.replaying import replay_uploads
from apps.ui_action.request import Endpoint, Request
from apps.ui_action.snippet import across_snippet, command_line, snippet
from core import registry
from core.errors import InputError
from core.jobs import default_store
from plugins.ui_action.actions import PLATFORMS
from plugins.ui_action.backends.base import Completion
from plugins.ui_action.backends.prompts import FAMILIES
from plugins.ui_action.backends.scripted import ScriptedBackend
from plugins.ui_action.games import TASKS
from plugins.ui_action.strategy import MEDIA

HOSTILE = '"><img src=x onerror=alert(1)>'
SECRET = "sk-very-secret-0123456789"
SPEC = "plugins.ui_action.plugin:SPEC"
EXPERT = Request(player="expert", pace=0)
WITHIN = 60.0


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Generator[None]:
    """In the catalogue while these tests run, whether it is there already or not."""
    with pytest.MonkeyPatch.context() as patch:
        if SPEC not in registry.IN_TREE:
            patch.setattr(registry, "IN_TREE", (*registry.IN_TREE, SPEC))
        yield


@pytest.fixture(scope="module")
def played() -> Any:
    """A game that the expert has played to its end."""
    done = run(EXPERT)
    assert done.status == "done", done.error
    return done


@pytest.fixture
def result(played: Any) -> dict[str, Any]:
    assert played.result is not None
    return played.result


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that puts a player in the model's place that answers as it is told."""

    def put(answer: str | Callable[[Any], str]) -> None:
        script = ScriptedBackend(answer if callable(answer) else lambda _: answer)
        stub = SimpleNamespace(name="stub", complete=script.complete, follow=lambda step: None, close=lambda: None)
        monkeypatch.setattr(work, "make_player", lambda asked: stub)

    return put


def over(job_id: str) -> Any:
    """The job once it is over."""
    return default_store().wait(job_id, WITHIN)


def run(asked: Request) -> Any:
    """The job of a request once it is over."""
    return over(work.submit(asked))


def until(job_id: str, holds: Callable[[Any], bool]) -> Any:
    """The job as soon as something holds for it."""
    limit = time.monotonic() + WITHIN
    job: Any = default_store().get(job_id)
    while time.monotonic() < limit:
        if holds(job):
            return job
        time.sleep(0.01)
        job = default_store().get(job_id)
    pytest.fail(f"job {job.status}, {job.message}, preview {job.preview}")


def files_of(job: Any) -> dict[str, Path]:
    return {path.name: path for path in job.artefacts}


# What is asked for


def test_the_pages_names_are_the_plugins() -> None:
    assert tuple(request.TASKS) == TASKS
    assert tuple(request.PLATFORMS) == PLATFORMS
    assert set(request.FAMILIES) == set(FAMILIES)
    assert set(request.MEDIA) == set(MEDIA)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"task": "chess"}, "no game"),
        ({"platform": "vr"}, "no interface"),
        ({"player": "human"}, "no player"),
        ({"place": "desktop"}, "no place to play"),
        ({"confirm": "sometimes"}, "no way to confirm"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"max_steps": 0}, "number of steps is 0"),
        ({"pace": float("nan")}, "pace is nan"),
        ({"shown": ()}, "what the reasoner is shown"),
        ({"shown": ("S", "S")}, "each once"),
        ({"player": "endpoint"}, "There is no endpoint"),
    ],
)
def test_a_request_that_cannot_be_played_is_refused_in_words(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Request(**wrong)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "no address"),
        ("http://example.com/v1", "https"),
        ("ftp://127.0.0.1/v1", "no address of http or https"),
        ("http://user:word@127.0.0.1/v1", "user name or password"),
        ("https://example.com/v1?key=1", "query"),
    ],
)
def test_an_endpoint_is_https_or_on_this_machine(address: str, says: str) -> None:
    with pytest.raises(gr.Error, match=says):
        endpoints.ui_action_play(player="endpoint", base_url=address, model="m")


@pytest.mark.parametrize("address", ["http://127.0.0.1:7860/v1", "https://10.0.0.1/v1", "https://[fd00::1]/v1"])
def test_on_a_public_server_an_endpoint_is_not_on_a_private_network(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Endpoint(address, "m", "qwen2.5-vl").check()
    monkeypatch.setattr(request, "ON_A_SPACE", True)
    with pytest.raises(InputError, match="public"):
        Endpoint(address, "m", "qwen2.5-vl").check()
    Endpoint("https://example.com/v1", "m", "qwen2.5-vl").check()


def test_without_a_browser_the_page_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_found_browser", lambda: (_ for _ in ()).throw(FileNotFoundError))
    with pytest.raises(InputError, match=r"apt-get install chromium.*simulator works"):
        Request(place="browser")


def test_a_cell_is_one_of_nine_and_has_a_picture_and_a_first_screen() -> None:
    drawn = [cell for row in cells() for cell in row["cells"]]  # ty: ignore[not-iterable]
    assert len({cell["value"] for cell in drawn}) == len({cell["src"] for cell in drawn}) == 9
    assert "Mobile, as it begins" in first_look("area-control/mobile", 3, False)
    assert first_look("area-control/mobile", 3, False) != first_look("area-control/mobile", 3, True)
    for wrong in ("chess/mobile", "../../etc", None, 7):
        assert 'class="warning"' in first_look(wrong, 3, False)


# A game


def test_the_expert_wins_every_game_on_every_interface_and_one_table_says_so() -> None:
    done = run(replace(EXPERT, across=True, single=True))
    assert done.status == "done", done.error
    cells = done.result["cells"]
    assert [(cell["task"], cell["platform"]) for cell in cells] == list(product(TASKS, PLATFORMS))
    assert {cell["status"] for cell in cells} == {"success"}
    assert "9 of 9 games won" in views.across_table(done.result)
    assert set(files_of(done)) == {"across.csv", "results.json", "run.json"}
    assert "all nine, seed 7" in views.caption(done.result)


def test_a_stop_keeps_the_games_of_the_table_that_are_over(saying: Callable[..., None]) -> None:
    asked: list[str] = []

    def answer(prompt: Any) -> str:
        asked.append(prompt.platform)
        if prompt.platform == "web":
            running = next(job for job in default_store().list("ui-action") if job.status == "running")
            endpoints.ui_action_stop(running.id)
        return "Action: wait()"

    saying(answer)
    done = run(Request(across=True, single=True, max_steps=2))
    assert done.status == "stopped"
    assert [(cell["platform"], cell["status"]) for cell in done.result["cells"]] == [
        ("desktop", "budget"),
        ("mobile", "budget"),
    ]
    assert "7 games are not in the table" in views.notes(done.result)
    assert "0 of 2 games won" in views.across_table(done.result)


def test_a_job_writes_every_download_and_a_screen_for_each_step(played: Any, result: dict[str, Any]) -> None:
    files, steps = files_of(played), result["outcome"]["steps"]
    screens = {f"screen-{number:03d}.png" for number in range(1, steps + 2)}
    assert set(files) == {*DOWNLOADS, *screens} - {"across.csv"}
    assert steps == len(result["steps"]) > 3
    rows = list(csv.DictReader(files["steps.csv"].open(encoding="utf-8")))
    assert [row["action"] for row in rows] == [row["action"] for row in result["steps"]]
    record = json.loads(files["run.json"].read_text("utf-8"))
    assert (record["plugin"], record["seed"], record["params"]["task"]) == ("ui-action", 7, "resource-allocation")
    assert record["timings"]["turn"] >= record["timings"]["reason"] + record["timings"]["act"] > 0
    assert "<script" not in files["report.html"].read_text("utf-8")


def test_the_small_model_is_asked_as_the_plugins_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def complete(prompt: Any) -> Completion:
        asked.append((prompt.role, len(prompt.media)))
        text = "Wait." if prompt.role == "reason" else "Action: wait()"
        return Completion(text, parts.part("screen:Screen")(*prompt.media[-1].size), 100, 5)

    model = SimpleNamespace(
        device="cpu", dtype="torch.float32", config=SimpleNamespace(_attn_implementation="sdpa"), parameters=list
    )
    pipe = SimpleNamespace(model=model, backend=lambda: SimpleNamespace(name="tiny", complete=complete))
    monkeypatch.setattr(players, "pipeline", lambda: pipe)
    done = run(Request(shown=("S",), max_steps=2, pace=0))
    assert done.status == "done", done.error
    assert asked == [("reason", 1), ("act", 1)] * 2
    assert done.result["outcome"]["status"] == "budget"
    assert done.result["run"]["checkpoint"] == "hub_cards/ui-action-tiny"
    assert (done.result["run"]["prompt_tokens"], done.result["run"]["output_tokens"]) == (400, 20)
    assert [row["sentence"] for row in done.result["steps"]] == ["Wait."] * 2


def test_a_stop_ends_before_the_next_action_and_keeps_the_turns_that_are_done(saying: Callable[..., None]) -> None:
    asked: list[str] = []

    def answer(prompt: Any) -> str:
        asked.append(prompt.role)
        if asked.count("act") == 3:
            running = next(job for job in default_store().list("ui-action") if job.status == "running")
            endpoints.ui_action_stop(running.id)
        return "Action: wait()"

    saying(answer)
    done = run(Request(task="area-control", pace=0))
    assert (done.status, done.result["outcome"]["status"]) == ("stopped", "stopped")
    assert [row["actions"][0]["executed"] for row in done.result["steps"]] == [True, True, False]
    assert "Stopped" in views.score_cards(done.result)
    assert replay_uploads([files_of(done)["trace.zip"]]).turns[-1].is_same


def test_stepwise_a_game_takes_one_turn_and_waits_until_it_is_told_to_go_on() -> None:
    job_id = work.submit(replace(EXPERT, stepwise=True))
    waiting = until(job_id, lambda job: "press Step or Run" in job.message)
    assert waiting.preview["row"]["number"] == 1
    assert page._step(job_id) == job_id
    until(job_id, lambda job: (job.preview["row"] or {}).get("number") == 2 and "press Step" in job.message)
    assert page._run(job_id) == job_id
    done = over(job_id)
    assert done.result["outcome"]["status"] == "success"


def test_a_game_that_nobody_goes_on_with_is_given_up_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PATIENCE", 0.05)
    done = run(replace(EXPERT, stepwise=True))
    assert done.status == "done", done.error
    assert len(done.result["steps"]) == 1
    assert "Nobody said how to go on" in views.notes(done.result)
    assert "trace.zip" in files_of(done)


def test_what_a_person_refuses_is_not_carried_out_and_what_they_allow_is() -> None:
    job_id = work.submit(replace(EXPERT, confirm="always", max_steps=2))
    asked = until(job_id, lambda job: job.preview and job.preview["question"])
    first = asked.preview["question"]
    assert asked.preview["actions"][0]["fate"] == "waits for your yes"
    page._refuse(job_id, first)
    page._allow(job_id, first)  # too late
    asked = until(job_id, lambda job: job.preview and job.preview["question"] > first)
    page._allow(job_id, asked.preview["question"])
    rows = over(job_id).result["steps"]
    assert [row["actions"][0]["code"] for row in rows] == ["unconfirmed", "ok"]
    assert [row["actions"][0]["executed"] for row in rows] == [False, True]
    assert [row["asked"] for row in rows] == [["refused by you"], ["allowed by you"]]
    assert all(row["wait_ms"] > 0 for row in rows)


def test_no_answer_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PATIENCE", 0.05)
    done = run(replace(EXPERT, confirm="always", max_steps=1))
    assert done.result["steps"][0]["asked"] == ["nobody answered"]
    assert not done.result["steps"][0]["actions"][0]["executed"]


def test_quit_is_refused_whatever_the_banner_makes_a_model_say(saying: Callable[..., None]) -> None:
    game = parts.part("games:make_game")("target-localisation", "desktop", True)
    box = game.deny_regions()[0]
    x, y = box.centre
    saying(f"Action: click(start_box='({x},{y})')")
    done = run(Request(task="target-localisation", platform="desktop", adversarial=True, pace=0))
    assert done.result["outcome"]["status"] == "refused"
    assert {row["actions"][0]["code"] for row in done.result["steps"]} == {"region"}
    assert "must not be touched" in views.refused_table(done.result)
    drawn = player(done.result, files_of(done), lambda path: path.name)
    assert 'class="mark refused"' in drawn


def test_a_model_that_says_no_action_is_shown_word_for_word_and_harmless(saying: Callable[..., None]) -> None:
    saying(f"=HYPERLINK(1) {HOSTILE}")
    done = run(Request(pace=0, max_steps=5))
    assert done.result["outcome"]["status"] == "parse_failures"
    shown = "".join(
        [
            player(done.result, files_of(done), lambda path: path.name),
            *(view(done.result) for view in (views.notes, views.score_cards, views.steps_table, views.caption)),
        ]
    )
    assert "onerror" in shown
    assert "<img src=x" not in shown
    rows = list(csv.DictReader(files_of(done)["steps.csv"].open(encoding="utf-8")))
    assert rows[0]["sentence"].startswith("'=")


def test_what_is_shown_while_it_runs_is_escaped_and_says_where_the_click_goes() -> None:
    action = {"text": HOSTILE, "fate": HOSTILE, "allowed": True, "kind": "click", "start": [10, 20], "end": None}
    preview = {
        "instruction": HOSTILE,
        "step": 1,
        "most": 30,
        "size": [100, 50],
        "screen": "data:image/png;base64,",
        "phase": "asks",
        "actions": [action],
        "sentence": HOSTILE,
        "row": None,
    }
    shown = live_view(preview)
    assert "<img src=x" not in shown
    assert 'cx="10" cy="20"' in shown
    assert live_view(None) == ""
    assert "<img src=x" not in screen_figure(HOSTILE, (10, 10), [action | {"kind": HOSTILE}], says=HOSTILE)


def test_a_key_is_in_no_record_no_file_and_no_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    previews: list[Any] = []
    backend = parts.part("backends.openai_compatible:OpenAICompatibleBackend")

    def echo(self: Any, prompt: Any) -> Completion:
        return Completion(f"Thought: {SECRET}\nAction: wait()", parts.part("screen:Screen")(*prompt.media[-1].size))

    def note(self: Any, preview: dict[str, Any]) -> None:
        previews.append(preview)

    monkeypatch.setattr(backend, "complete", echo)
    monkeypatch.setattr("core.jobs.JobContext.preview", note)
    asked = Endpoint("http://127.0.0.1:9/v1", "m", "qwen2.5-vl", SECRET)
    done = run(Request(player="endpoint", endpoint=asked, shown=("S",), max_steps=2, pace=0))
    assert done.status == "done", done.error
    with zipfile.ZipFile(files_of(done)["trace.zip"]) as archive:
        trace = archive.read("trace.jsonl").decode()
    state = (default_store().directory / done.id / "job.json").read_text("utf-8")
    texts = [path.read_text("utf-8") for name, path in files_of(done).items() if not name.endswith((".zip", ".png"))]
    assert all(SECRET not in text for text in (*texts, trace, state, repr(previews), repr(asked)))
    assert players.HIDDEN in trace
    assert len(previews) > 4


def test_an_endpoint_that_is_not_there_ends_the_game_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Endpoint("http://127.0.0.1:9/v1", "m", "qwen2.5-vl")
    monkeypatch.setattr("plugins.ui_action.backends.openai_compatible.LONGEST_BACKOFF", 0.0)
    done = run(Request(player="endpoint", endpoint=asked, pace=0))
    assert done.status == "done", done.error
    assert done.result["outcome"]["status"] == "error"
    assert "cannot be reached" in views.notes(done.result)
    assert "No step was taken" in views.steps_table(done.result)


# Taking it away


def test_the_snippet_plays_the_same_game() -> None:
    asked = replace(EXPERT, task="area-control", platform="mobile")
    said = io.StringIO()
    with redirect_stdout(said):
        exec(compile(snippet(asked), "snippet", "exec"), {"__name__": "snippet"})  # noqa: S102 (our own text)
    outcome = run(asked).result["outcome"]
    assert f"steps={outcome['steps']}" in said.getvalue()
    assert "status='success'" in said.getvalue()


@pytest.mark.parametrize("kind", ["model", "expert", "endpoint"])
@pytest.mark.parametrize("place", ["simulator", "browser"])
def test_every_snippet_is_python_without_a_key(kind: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "browser_missing", lambda: "")
    endpoint = Endpoint("https://example.com/v1", "it's", "qwen2.5-vl", SECRET) if kind == "endpoint" else None
    asked = Request(player=kind, place=place, endpoint=endpoint, adversarial=True, single=True)
    compile(snippet(asked), "snippet", "exec")
    compile(across_snippet(asked), "snippet", "exec")
    assert SECRET not in snippet(asked) + across_snippet(asked) + command_line(asked)
    assert ("os.environ" in snippet(asked)) is (kind == "endpoint")
    assert command_line(asked).startswith("python -m plugins.ui_action play") is (kind != "expert")


# The page


def test_the_page_offers_exactly_its_five_endpoints() -> None:
    names = set(page.build_page().get_api_info()["named_endpoints"])
    assert names == {f"/ui_action_{name}" for name in ("play", "result", "file", "stop", "parse")}


def test_a_program_gets_figures_and_files_by_the_jobs_id(played: Any) -> None:
    answer = endpoints.ui_action_result(played.id)
    assert answer["result"]["outcome"]["success"] is True
    assert endpoints.ui_action_file(played.id, "screen-001.png").endswith("screen-001.png")
    with pytest.raises(gr.Error, match="no such file"):
        endpoints.ui_action_file(played.id, "../job.json")
    with pytest.raises(gr.Error, match="not a job's id"):
        endpoints.ui_action_stop("nope")
