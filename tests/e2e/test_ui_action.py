"""The UI action page, used as a visitor does: play, step, allow, stop, reload, replay, parse, and the API behind it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Locator, Page, expect

from core.registry import catalogue
from tests.e2e.accessibility import findings
from tests.e2e.browser import find_chromium
from tests.e2e.conftest import RunningApp
from tests.e2e.test_shell import SIZES, open_section, open_tab

SLUG = "ui-action"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(SLUG not in [spec.slug for spec in catalogue()], reason="UI action is not in the catalogue"),
]

EXPERT: dict[str, Any] = {"player": "expert", "pace": 0}
WITHIN_MS = 60_000  # generous: a functional limit on a busy machine
WITHIN_SECONDS = 60.0


@pytest.fixture(scope="module")
def client(app: RunningApp) -> Client:
    """The app as a program uses it."""
    return Client(app.url, verbose=False)


@pytest.fixture(scope="module")
def finished(client: Client) -> str:
    """The id of a game that the expert has won."""
    job = client.predict(**EXPERT, api_name="/ui_action_play")
    assert wait_for(client, job)["result"]["outcome"]["status"] == "success"
    return job


def wait_for(client: Client, job: str) -> dict[str, Any]:
    limit = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < limit:
        answer = client.predict(job, api_name="/ui_action_result")
        if answer["status"] not in ("waiting", "running"):
            assert answer["status"] != "failed", answer["error"]
            return answer
        time.sleep(0.1)
    pytest.fail(f"job {job} did not end: {answer}")


def open_page(page: Page, app: RunningApp, theme: str = "light") -> None:
    """Open the tab and wait for its nine games."""
    open_tab(page, app, SLUG, theme)
    expect(page.locator("#ui-action-cells img")).to_have_count(9, timeout=30_000)
    expect(page.locator("#ui-action-first .screen img")).to_be_visible(timeout=15_000)


def open_job(page: Page, app: RunningApp, job: str, theme: str = "light") -> None:
    """Open a finished job by its link."""
    page.goto(f"{app.url}/?tab={SLUG}&job={job}&__theme={theme}")
    expect(page.locator("#ui-action-player .turn .screen img").first).to_be_visible(timeout=30_000)


def choose_expert(page: Page) -> None:
    page.get_by_label("Expert: rules").check()


def begin(page: Page, button: str = "Run") -> str:
    """Press a button that begins a game, once what was typed is at rest; the id of its job."""
    page.wait_for_timeout(500)
    page.get_by_role("button", name=button, exact=True).click()
    page.wait_for_url(re.compile("job="), timeout=15_000)
    return page.url.split("job=")[1][:16]


@contextmanager
def endpoint(answer: str) -> Generator[tuple[str, list[str]]]:
    """A server that answers every chat with one text; its base URL and the keys that it was sent."""
    keys: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            keys.append(self.headers["Authorization"])
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", keys
    finally:
        server.shutdown()
        server.server_close()


def test_one_click_plays_a_whole_game_live_and_ends_in_steps_to_go_through(app: RunningApp, page: Page) -> None:
    open_page(page, app)
    choose_expert(page)
    begin(page)
    live = page.locator("#ui-action-live .stage")
    expect(live.locator(".marks text")).to_have_text("click", timeout=WITHIN_MS)
    expect(live.locator(".screen")).to_be_in_viewport(ratio=0.5)
    expect(page.locator("#ui-action-cards .score")).to_have_count(5, timeout=WITHIN_MS)
    expect(page.locator("#ui-action-cards")).to_contain_text("Won")
    steps = page.locator("#ui-action-steps tbody tr").count()
    assert steps == page.locator("#ui-action-player .strip button").count() - 1 > 3
    image = page.locator("#ui-action-player .turn:not([hidden]) .screen img")
    assert image.evaluate("node => [node.naturalWidth, node.width, getComputedStyle(node).imageRendering]") == [
        196,
        588,
        "pixelated",
    ]


def test_a_game_is_found_again_by_its_link_and_gone_through_with_the_keyboard(
    app: RunningApp, page: Page, finished: str
) -> None:
    open_job(page, app, finished)
    shown = page.locator("#ui-action-player .turn:not([hidden]) .says")
    slider = page.get_by_role("slider", name="Step")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(shown).to_contain_text(re.compile("Step.*2 of"))
    page.keyboard.press("End")
    expect(shown).to_contain_text("the task is solved")
    expect(page.get_by_role("button", name="The end")).to_have_attribute("aria-current", "step")
    page.get_by_role("button", name=re.compile("^Step 3: ")).press("Enter")
    expect(shown).to_contain_text(re.compile("Step.*3 of"))
    expect(slider).to_have_attribute("aria-valuetext", re.compile("^step 3 of"))


def test_another_game_is_chosen_with_the_keyboard_and_played_step_by_step(
    app: RunningApp, page: Page, client: Client
) -> None:
    open_page(page, app)
    page.get_by_role("radio", name="Resource allocation, Web").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("radio", name="Resource allocation, Mobile")).to_be_checked()
    expect(page.locator("#ui-action-first")).to_contain_text("Resource allocation, Mobile")
    choose_expert(page)
    page.get_by_role("button", name="Step", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("job="), timeout=15_000)
    status, live = page.locator("#ui-action-status"), page.locator("#ui-action-live")
    expect(status).to_contain_text("press Step or Run", timeout=WITHIN_MS)
    expect(live).to_contain_text("1 of at most 30")
    page.reload()  # the game is the server's
    expect(live).to_contain_text("1 of at most 30", timeout=30_000)
    page.get_by_role("button", name="Step", exact=True).click()
    expect(live).to_contain_text("2 of at most 30", timeout=15_000)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#ui-action-cards")).to_contain_text("Won", timeout=WITHIN_MS)
    job = page.url.split("job=")[1][:16]
    params = client.predict(job, api_name="/ui_action_result")["result"]["params"]
    assert (params["task"], params["platform"], params["stepwise"]) == ("resource-allocation", "mobile", True)


def press_until_heard(page: Page, button: Locator, heard: str) -> None:
    """Answer a question; a press while the page goes from one to the next belongs to neither, and one presses again."""
    for timeout in (8_000, 15_000):
        button.click(timeout=WITHIN_MS)
        try:
            expect(page.locator("#ui-action-status")).to_contain_text(heard, timeout=timeout)
        except AssertionError:
            continue
        return
    pytest.fail(f"{heard} did not come")


def test_the_visitor_is_asked_and_refuses_allows_and_stops(app: RunningApp, page: Page, client: Client) -> None:
    open_page(page, app)
    choose_expert(page)
    open_section(page, "Seed, safety")
    page.get_by_label("Before every action").check()
    expect(page.get_by_label("Before every action")).to_be_checked()
    job = begin(page)
    refuse, allow = page.get_by_role("button", name="Refuse"), page.get_by_role("button", name="Allow")
    press_until_heard(page, refuse, "step 1")
    press_until_heard(page, allow, "step 2")
    expect(allow).to_be_visible(timeout=15_000)
    page.get_by_role("button", name="Stop").click()
    answer = wait_for(client, job)
    assert answer["status"] == "stopped"
    executed = [row["actions"][0]["executed"] for row in answer["result"]["steps"]]
    assert executed[:3] == [False, True, False]
    expect(page.locator("#ui-action-refused")).to_contain_text("a person said no", timeout=15_000)
    expect(allow).to_be_hidden()


def test_one_player_is_played_on_every_interface_in_one_table(app: RunningApp, page: Page) -> None:
    open_page(page, app)
    choose_expert(page)
    begin(page, "Play all nine")
    expect(page.locator("#ui-action-across tbody .good")).to_have_count(9, timeout=WITHIN_MS)
    expect(page.locator("#ui-action-across")).to_contain_text("9 of 9 games won")
    expect(page.locator("#ui-action-cards")).to_be_hidden()


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium for the agent")
def test_the_same_game_in_a_real_browser_goes_through_the_same_states(client: Client, finished: str) -> None:
    job = client.predict(**EXPERT, place="browser", api_name="/ui_action_play")
    played = wait_for(client, job)["result"]
    assert played["outcome"]["status"] == "success"
    assert set(played["blocked"]["counts"].values()) == {0}
    simulated = client.predict(finished, api_name="/ui_action_result")["result"]
    states = [[row["state_after"] for row in each["steps"]] for each in (played, simulated)]
    assert states[0] == states[1]


def test_a_model_behind_an_endpoint_is_asked_with_its_key_which_is_shown_nowhere(
    app: RunningApp, page: Page, client: Client
) -> None:
    key = "sk-e2e-0123456789"
    with endpoint(f"Thought: I was told {key}.\nAction: wait()") as (address, keys):
        open_page(page, app)
        page.get_by_label("OpenAI-compatible endpoint").check()
        page.locator("#ui-action-endpoint").get_by_label("Base URL").fill(address)
        page.locator("#ui-action-endpoint").get_by_label("The name by which").fill("stub")
        page.locator("#ui-action-endpoint input[type=password]").fill(key)
        open_section(page, "Seed, safety")
        page.get_by_label("Steps at most").fill("2")
        job = begin(page)
        expect(page.locator("#ui-action-cards")).to_contain_text("Out of steps", timeout=WITHIN_MS)
    assert keys == [f"Bearer {key}"] * 4
    assert key not in page.content()
    assert key not in json.dumps(client.predict(job, api_name="/ui_action_result"))
    expect(page.locator("#ui-action-steps")).to_contain_text("[redacted]")


def test_a_trace_is_taken_away_and_replayed(app: RunningApp, page: Page, client: Client, finished: str) -> None:
    archive = Path(client.predict(finished, "trace.zip", api_name="/ui_action_file"))
    open_page(page, app)
    open_section(page, "Replay a trace")
    said = page.locator("#ui-action-replayed")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add a trace, check and replay it").click()
    chooser.value.set_files(archive)
    expect(said).to_contain_text("chain of hashes is whole", timeout=15_000)
    expect(said.locator("tbody .good")).to_have_count(said.locator("tbody tr").count())


def test_any_model_output_is_parsed_while_it_is_typed(app: RunningApp, page: Page) -> None:
    open_page(page, app)
    open_section(page, "Parse any model output")
    text, said = page.locator("#ui-action-parse-text textarea"), page.locator("#ui-action-parsed")
    text.fill("Action: drag(start_box='(0,0)', end_box='(966,546)')")
    expect(said.locator("tbody")).to_contain_text("(960, 540)", timeout=10_000)
    expect(said.locator(".marks line").first).to_be_attached()
    text.fill('Action: teleport("<img src=x onerror=alert(1)>")')
    expect(said).to_contain_text("unknown_action", timeout=10_000)
    assert said.locator("img").count() == 0


def test_what_cannot_be_played_is_said_in_a_sentence(app: RunningApp, page: Page, client: Client) -> None:
    open_page(page, app)
    page.get_by_label("OpenAI-compatible endpoint").check()
    page.locator("#ui-action-endpoint").get_by_label("Base URL").fill("http://example.com/v1")
    page.locator("#ui-action-endpoint").get_by_label("The name by which").fill("stub")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("screens and keys go out over https only")).to_be_visible(timeout=15_000)
    with pytest.raises(AppError, match="seed is"):
        client.predict(**EXPERT, seed=-5, api_name="/ui_action_play")
    assert client.predict("Action: wait()", api_name="/ui_action_parse")["actions"][0]["milliseconds"] == 5000


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_the_page_is_accessible_and_fits_before_and_after_a_game(
    app: RunningApp, browser: Browser, finished: str, size: str, theme: str
) -> None:
    page = browser.new_context(viewport=SIZES[size]).new_page()
    open_page(page, app, theme)
    for name in ("Seed, safety", "Parse any model output", "Replay a trace"):
        open_section(page, name)
    page.get_by_label("OpenAI-compatible endpoint").check()
    expect(page.get_by_text("Family", exact=True)).to_be_visible(timeout=10_000)
    found = findings(page)
    open_job(page, app, finished, theme)
    found += findings(page)
    assert found == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    page.context.close()
