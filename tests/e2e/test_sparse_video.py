"""The sparse video page, used as a visitor does: example, preview, stop, reload, players, and the API behind it."""

from __future__ import annotations

import io
import json
import os
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Page, expect

from core.media import probe_video
from tests.e2e.accessibility import findings
from tests.e2e.conftest import RunningApp
from tests.e2e.test_shell import SIZES, open_section, open_tab

pytestmark = pytest.mark.e2e

SLUG = "sparse-video"
PROMPT = "a yellow star rotates on sand"
HOSTILE = "a red <img src=x onerror=alert(1)> square moves right in the sky"
SMALL: dict[str, Any] = {
    "steps": 2,
    "frames": 15,
    "height": 96,
    "width": 96,
}  # 1,152 tokens; from 1,024 attention is sparse
EXAMPLE_WITHIN_MS = 240_000  # generous: a functional limit on a busy machine, speed is measured elsewhere
JOB_WITHIN_SECONDS = 150.0
TIMES = "[...document.querySelectorAll('.player video')].map(video => video.currentTime)"


@pytest.fixture(scope="module")
def client(app: RunningApp) -> Client:
    """The app as a program uses it."""
    return Client(app.url, verbose=False)


@pytest.fixture(scope="module")
def finished(client: Client) -> str:
    """The id of a small comparison that is done, with a prompt that means harm."""
    kinds = ["dense", "sparse", "rectified"]
    job = client.predict(HOSTILE, kinds, **SMALL, api_name="/sparse_video_compare")
    answer = wait_for(client, job)
    assert answer["status"] == "done", answer["error"]
    return job


def wait_for(client: Client, job: str, seconds: float = JOB_WITHIN_SECONDS) -> dict[str, Any]:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        answer = client.predict(job, api_name="/sparse_video_result")
        if answer["status"] not in ("waiting", "running"):
            return answer
        time.sleep(0.3)
    pytest.fail(f"job {job} did not end: {answer}")


def open_job(page: Page, app: RunningApp, job: str, theme: str = "light") -> None:
    """Open a finished job by its link."""
    page.goto(f"{app.url}/?tab={SLUG}&job={job}&__theme={theme}")
    expect(page.locator("#sparse-video-cards .verdict")).to_have_count(2, timeout=30_000)
    expect(page.locator("#sparse-video-errors .js-plotly-plot .bars path").first).to_be_attached(timeout=30_000)


def generate(page: Page) -> str:
    """Press the button; the id of the job."""
    page.get_by_role("button", name="Generate and compare").click()
    page.wait_for_url(re.compile("job="), timeout=15_000)
    return page.url.split("job=")[1][:16]


def test_the_example_is_one_click_away_and_ends_in_clips_and_figures(app: RunningApp, page: Page) -> None:
    open_tab(page, app, SLUG)
    if not os.environ.get("QUARTET_LONG"):  # all its steps take most of a minute
        open_section(page, "Seed, steps and size")
        for label, value in (("Steps", "4"), ("Frames", "21")):
            page.get_by_label(f"number input for {label}").fill(value)
            page.get_by_label(f"number input for {label}").blur()
    generate(page)
    films = page.locator("#sparse-video-live .film[role=img]")
    expect(films.first).to_be_visible(timeout=EXAMPLE_WITHIN_MS)
    expect(page.locator("#sparse-video-cards .verdict")).to_have_count(1, timeout=EXAMPLE_WITHIN_MS)
    expect(page.locator("#sparse-video-players video.own")).to_have_count(2)
    expect(page.locator("#sparse-video-caption")).to_contain_text("Tokens")
    expect(films).to_have_count(0)
    for place in ("times", "distances", "error-table", "recall", "cost"):
        expect(page.locator(f"#sparse-video-{place} table")).to_be_visible()
    expect(page.locator("#sparse-video-maps img").first).to_be_visible()
    heads = page.locator("#sparse-video-recall thead th", has_text="Head").count()
    layers = page.locator("#sparse-video-recall tbody tr").count()
    assert page.locator("#sparse-video-maps img").count() == heads * layers > 0


def test_an_example_fills_in_its_prompt(app: RunningApp, page: Page) -> None:
    open_tab(page, app, SLUG)
    page.get_by_role("button", name=PROMPT).click()
    expect(page.locator("#sparse-video-prompt textarea")).to_have_value(PROMPT)


def test_a_running_job_survives_a_reload_and_stops_within_a_step(app: RunningApp, page: Page, client: Client) -> None:
    open_tab(page, app, SLUG)
    job = generate(page)
    film = page.locator("#sparse-video-live .film[role=img]").first
    expect(film).to_be_visible(timeout=EXAMPLE_WITHIN_MS)
    page.reload()
    expect(film).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Pause the preview").click()
    expect(page.get_by_role("button", name="Play the preview")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    pressed = time.monotonic()
    assert wait_for(client, job)["status"] == "stopped"
    # A step of the small model takes a second or two on a machine that also runs a browser.
    assert time.monotonic() - pressed < 10.0
    expect(page.locator("#sparse-video-status")).to_contain_text("Stopped", timeout=10_000)
    # The pipeline that was stopped goes on to make clips.
    again = client.predict(PROMPT, "dense", **SMALL, api_name="/sparse_video_generate")
    assert wait_for(client, again)["status"] == "done"


def test_a_finished_job_is_there_in_another_browser(app: RunningApp, browser: Browser, finished: str) -> None:
    texts = []
    for _ in range(2):
        page = browser.new_context().new_page()
        open_job(page, app, finished)
        texts.append(page.locator("#sparse-video-cards").inner_text())
        page.context.close()
    assert texts[0] == texts[1]


def test_the_players_show_the_same_frame_paused_and_playing(app: RunningApp, page: Page, finished: str) -> None:
    open_job(page, app, finished)
    player = page.locator(".player")
    expect(player.get_by_role("button", name="Pause")).to_be_visible(timeout=10_000)
    page.wait_for_timeout(1500)
    times = page.evaluate(TIMES)
    assert len(times) == 5  # three clips, two differences
    fps = float(player.get_attribute("data-fps") or 0)
    assert max(times) - min(times) < 2 / fps
    player.get_by_role("button", name="Pause").click()
    slider = player.get_by_role("slider", name="Frame")
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "frame 4 of 15")
    page.wait_for_function(f"{TIMES}.every(time => Math.abs(time - {3.5 / fps}) < 0.01)", timeout=5_000)
    player.get_by_role("button", name="One frame ahead").press("Enter")
    expect(player.locator(".where")).to_have_text("5 / 15")
    player.get_by_role("button", name="Play").press("Enter")
    page.wait_for_function("document.querySelector('.player video').currentTime < 0.2", timeout=5_000)  # it loops


def test_the_difference_from_dense_takes_the_clips_place(app: RunningApp, page: Page, finished: str) -> None:
    open_job(page, app, finished)
    shown = page.locator(".player video:visible")
    expect(shown).to_have_count(3)
    page.get_by_role("checkbox", name="Difference from dense").check()
    expect(page.locator(".player video.difference:visible")).to_have_count(2)
    expect(page.locator(".player video.own:visible")).to_have_count(1)


def test_a_price_changes_the_cost_without_a_new_run(app: RunningApp, page: Page, finished: str) -> None:
    open_job(page, app, finished)
    dense = page.locator("#sparse-video-cost tbody tr").first.get_by_role("cell")
    before = dense.nth(2).text_content() or ""
    page.get_by_label("$ per GPU-hour").fill("3600")
    page.get_by_label("$ per GPU-hour").blur()
    expect(dense.nth(2)).not_to_have_text(before)
    seconds, dollars = dense.nth(0).inner_text(), dense.nth(2).inner_text()
    # At 3,600 dollars per hour a second costs a dollar.
    assert float(dollars.strip("$").replace(",", "")) == pytest.approx(float(seconds.replace(",", "")), abs=1)


def test_a_prompt_is_shown_as_text_and_its_unknown_words_are_named(app: RunningApp, page: Page, finished: str) -> None:
    open_job(page, app, finished)
    expect(page.locator("#sparse-video-caption")).to_contain_text("words that this model does not know")
    assert page.locator("img[src=x]").count() == 0
    assert "<img src=x" in page.locator("#sparse-video-snippet textarea").input_value()


def test_every_download_is_a_whole_file(app: RunningApp, page: Page, finished: str) -> None:
    open_job(page, app, finished)
    files = {}
    for name in ("rectified.mp4", "summary.csv", "attention.csv", "frames.zip", "run.json", "results.json"):
        with page.expect_download() as started:
            page.locator("#sparse-video-downloads").get_by_text(name, exact=True).click()
        files[name] = Path(started.value.path())
    info = probe_video(files["rectified.mp4"])
    assert (info.width, info.height, info.frames) == (96, 96, 15)
    assert files["summary.csv"].read_text("utf-8").startswith("method,")
    assert "estimated_recall" in files["attention.csv"].read_text("utf-8").splitlines()[0]
    names = zipfile.ZipFile(io.BytesIO(files["frames.zip"].read_bytes())).namelist()
    assert len(names) == 3 * 15
    assert json.loads(files["run.json"].read_text("utf-8"))["seed"] == 0
    assert json.loads(files["results.json"].read_text("utf-8"))["rows"][0]["method"] == "dense"


def test_an_empty_prompt_says_what_to_do(app: RunningApp, page: Page) -> None:
    open_tab(page, app, SLUG)
    page.locator("#sparse-video-prompt textarea").fill(" ")
    page.get_by_role("button", name="Generate and compare").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("The prompt is empty")


def test_choosing_nothing_says_what_to_do(app: RunningApp, page: Page) -> None:
    open_tab(page, app, SLUG)
    for name in ("Dense", "Plain sparse", "Rectified"):
        page.locator("#sparse-video-methods").get_by_label(name, exact=True).uncheck()
    page.get_by_role("button", name="Generate and compare").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("Nothing is chosen")


def test_a_prompt_of_ten_thousand_characters_names_the_limit(app: RunningApp, page: Page) -> None:
    open_tab(page, app, SLUG)
    page.locator("#sparse-video-prompt textarea").fill("a red square " * 770)
    generate(page)
    status = page.locator("#sparse-video-status")
    expect(status).to_contain_text("this model reads at most", timeout=60_000)
    expect(status).to_contain_text("Failed")
    expect(page.locator("body")).not_to_contain_text("Traceback")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"frames": 10}, "is the nearest"),
        ({"height": 100}, "multiples of"),
        ({"density": 1.5}, "above 0 and at most 1"),
        ({"frames": 6401}, "at most"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_is_off_the_models_grid_is_refused_with_what_is_allowed(
    client: Client, changed: dict[str, Any], message: str
) -> None:
    job = client.predict(PROMPT, **{**SMALL, **changed}, api_name="/sparse_video_generate")
    answer = wait_for(client, job)
    assert answer["status"] == "failed"
    assert message in answer["error"]
    assert answer["files"] == []


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_the_page_and_its_results_are_accessible_and_fit_the_screen(
    app: RunningApp, browser: Browser, finished: str, size: str, theme: str
) -> None:
    page = browser.new_context(viewport=SIZES[size]).new_page()
    open_tab(page, app, SLUG, theme)
    assert findings(page) == []
    open_job(page, app, finished, theme)
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    page.context.close()


def test_a_comparison_can_be_started_with_the_keyboard_alone(app: RunningApp, page: Page, client: Client) -> None:
    open_tab(page, app, SLUG)
    button = page.get_by_role("button", name="Generate and compare")
    for _ in range(40):
        page.keyboard.press("Tab")
        if button.evaluate("node => node === document.activeElement"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("job="), timeout=15_000)
    client.predict(page.url.split("job=")[1][:16], api_name="/sparse_video_stop")
    expect(page.locator("#sparse-video-status")).to_contain_text("Stopped", timeout=60_000)


def test_a_program_makes_a_clip_and_fetches_it(client: Client) -> None:
    job = client.predict(PROMPT, "rectified", 0.5, seed=3, **SMALL, api_name="/sparse_video_generate")
    answer = wait_for(client, job)
    assert answer["status"] == "done", answer["error"]
    row = answer["result"]["rows"][0]
    assert (row["method"], row["density_asked"], row["psnr"]) == ("rectified", 0.5, None)
    assert row["seconds_per_minute"] > 0
    clip = client.predict(job, "rectified.mp4", api_name="/sparse_video_file")
    assert probe_video(clip).frames == 15


def test_a_program_gets_our_sentence_for_an_unknown_job_or_file(client: Client, finished: str) -> None:
    with pytest.raises(AppError, match="no such job"):
        client.predict("0123456789abcdef", api_name="/sparse_video_result")
    with pytest.raises(AppError, match=r"rectified\.mp4"):
        client.predict(finished, "../job.json", api_name="/sparse_video_file")
