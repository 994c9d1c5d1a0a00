"""The tracking page, used as a visitor does: draw, track, cut a sensor, stop, reload, and the API behind it."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Locator, Page, expect

from core.media import probe_video, write_video
from tests.e2e.accessibility import findings
from tests.e2e.conftest import RunningApp
from tests.e2e.test_shell import SIZES, open_tab

SLUG = "tracking"
pytestmark = pytest.mark.e2e

FRAMES = 8
SMALL: dict[str, Any] = {"seed": 3, "frames": FRAMES, "size": 64}
BOX = {"id": 7, "frame": 0, "box": [10, 10, 40, 40]}
WITHIN_MS = 240_000  # generous: a functional limit on a busy machine, speed is measured elsewhere
WITHIN_SECONDS = 150.0
HOSTILE = "<img src=x onerror=alert(1)>.mp4"


@pytest.fixture(scope="module")
def client(app: RunningApp) -> Client:
    """The app as a program uses it."""
    return Client(app.url, verbose=False)


@pytest.fixture(scope="module")
def finished(client: Client) -> str:
    """The id of a small run that is done."""
    job = client.predict("vos", ["rgb", "thermal"], **SMALL, api_name="/tracking_run")
    answer = wait_for(client, job)
    assert answer["status"] == "done", answer["error"]
    return job


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a clip of a moving square and gives back its path."""

    def write(name: str, frames: int = 6) -> Path:
        pictures = np.full((frames, 48, 64, 3), 90, np.uint8)
        for number, picture in enumerate(pictures):
            picture[10:30, 5 + 3 * number : 25 + 3 * number] = (220, 60, 40)
        write_video(tmp_path / "clip.mp4", pictures, 10)
        return (tmp_path / "clip.mp4").rename(tmp_path / name)

    return write


def wait_for(client: Client, job: str, seconds: float = WITHIN_SECONDS) -> dict[str, Any]:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        answer = client.predict(job, api_name="/tracking_result")
        if answer["status"] not in ("waiting", "running"):
            return answer
        time.sleep(0.3)
    pytest.fail(f"job {job} did not end: {answer}")


def open_page(page: Page, app: RunningApp, theme: str = "light") -> None:
    """Open the tab and wait for the first frames."""
    open_tab(page, app, SLUG, theme)
    expect(page.locator("#tracking-draw .canvas")).to_have_count(4, timeout=60_000)


def open_job(page: Page, app: RunningApp, job: str, theme: str = "light") -> None:
    """Open a finished job by its link."""
    page.goto(f"{app.url}/?tab={SLUG}&job={job}&__theme={theme}")
    expect(page.locator("#tracking-player video")).to_be_visible(timeout=60_000)
    expect(page.locator("#tracking-experts .js-plotly-plot .heatmaplayer .hm")).to_be_attached(timeout=30_000)


def track(page: Page) -> str:
    """Press the button; the id of the job."""
    page.get_by_role("button", name="Track", exact=True).click()
    page.wait_for_url(re.compile("job="), timeout=30_000)
    return page.url.split("job=")[1][:16]


def choose_numbers(page: Page, **values: int) -> None:
    """Fill number fields by their label and wait for the first frames of that scene."""
    for label, value in values.items():
        page.get_by_label(label, exact=True).fill(str(value))
        page.get_by_label(label, exact=True).blur()


def drag(page: Page, picture: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag over a picture; places in shares of its sides."""
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    assert box is not None
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=5)
    page.mouse.up()


def test_the_example_is_one_click_away_and_ends_in_overlays_and_figures(app: RunningApp, page: Page) -> None:
    open_page(page, app)
    expect(page.locator("#tracking-draw .prompt").first).to_be_visible()
    track(page)
    expect(page.locator("#tracking-live .tiles img")).to_have_count(2, timeout=WITHIN_MS)
    expect(page.locator("#tracking-live .tiles img").first).to_be_in_viewport(ratio=0.9)
    expect(page.locator("#tracking-cards .score")).to_have_count(4, timeout=WITHIN_MS)
    expect(page.locator("#tracking-live img")).to_have_count(0)
    for place in ("objects", "by-sensors", "metrics", "shares"):
        expect(page.locator(f"#tracking-{place} table")).to_be_visible()
    objects = page.locator("#tracking-objects tbody tr").count()
    assert page.locator("#tracking-player svg.lane:not(.sensor)").count() == objects > 0
    expect(page.locator("#tracking-caption")).to_contain_text("frames/s")
    expect(page.locator("#tracking-caption")).to_contain_text("sdpa")


def test_a_sensor_is_cut_and_restored_while_it_runs(app: RunningApp, page: Page) -> None:
    open_page(page, app)
    choose_numbers(page, Frames=60)
    track(page)
    thermal = page.locator("#tracking-switches").get_by_label("Thermal")
    thermal.uncheck(timeout=WITHIN_MS)
    expect(page.get_by_alt_text(re.compile("Thermal, frame .*, off"))).to_be_visible(timeout=WITHIN_MS)
    thermal.check()
    expect(page.get_by_alt_text(re.compile("Thermal, frame .*, with overlays"))).to_be_visible(timeout=WITHIN_MS)
    page.get_by_role("button", name="Stop").click()
    rows = page.locator("#tracking-by-sensors tbody tr")
    expect(rows).to_have_count(2, timeout=WITHIN_MS)
    expect(rows.nth(1)).to_contain_text("RGB")
    expect(rows.nth(1)).not_to_contain_text("Thermal")
    expect(page.locator("#tracking-switches")).to_be_hidden()


def test_a_running_job_survives_a_reload_and_stops_within_a_frame(app: RunningApp, page: Page, client: Client) -> None:
    open_page(page, app)
    choose_numbers(page, Frames=120)
    job = track(page)
    live = page.locator("#tracking-live .tiles img")
    expect(live).to_have_count(2, timeout=WITHIN_MS)
    page.locator("#tracking-switches").get_by_label("RGB").uncheck()
    expect(page.get_by_alt_text(re.compile("RGB, frame .*, off"))).to_be_visible(timeout=WITHIN_MS)
    page.reload()
    expect(live).to_have_count(2, timeout=30_000)
    expect(page.locator("#tracking-switches").get_by_label("RGB")).not_to_be_checked(timeout=15_000)
    page.get_by_role("button", name="Stop").click()
    pressed = time.monotonic()
    answer = wait_for(client, job)
    assert answer["status"] == "stopped"
    assert time.monotonic() - pressed < 15.0  # a frame, and the files of those that are done
    done = answer["result"]["clip"]["frames"]
    assert 0 < done < 120
    expect(page.locator("#tracking-notes")).to_contain_text(f"{done} of 120 frames are done", timeout=15_000)
    clip = client.predict(job, "overlay.mp4", api_name="/tracking_file")
    assert probe_video(clip).frames == done


def test_a_finished_job_is_there_in_another_browser(app: RunningApp, browser: Browser, finished: str) -> None:
    texts = []
    for _ in range(2):
        page = browser.new_context().new_page()
        open_job(page, app, finished)
        texts.append(page.locator("#tracking-cards").inner_text())
        page.context.close()
    assert texts[0] == texts[1] != ""


def test_a_box_is_drawn_with_the_mouse_and_followed(app: RunningApp, page: Page, client: Client) -> None:
    open_page(page, app)
    page.get_by_role("button", name="Remove all").click()
    expect(page.locator("#tracking-draw .prompt")).to_have_count(0)
    drag(page, page.locator("#tracking-draw .canvas").nth(1), (0.75, 0.75), (0.25, 0.25))
    fields = page.locator("#tracking-draw .prompt input")
    expect(fields).to_have_count(4)
    drawn = [float(fields.nth(place).input_value()) for place in range(4)]
    assert drawn == pytest.approx([32, 32, 96, 96], abs=1)
    expect(page.locator("#tracking-draw .canvas .box")).to_have_count(4)  # on every sensor
    page.get_by_label("Pace, frames per second").first.fill("0")
    answer = wait_for(client, track(page))
    assert answer["status"] == "done", answer["error"]
    assert [prompt["box"] for prompt in answer["result"]["prompts"]] == [pytest.approx(drawn)]


def test_points_are_marked_on_an_object_and_beside_it(app: RunningApp, page: Page) -> None:
    open_page(page, app)
    page.get_by_role("button", name="Remove all").click()
    canvas = page.locator("#tracking-draw .canvas").first
    page.get_by_role("radio", name="Point beside it").check()
    canvas.click(position={"x": 20, "y": 20})
    expect(page.locator("#tracking-draw")).to_contain_text("First mark a point on the object")
    page.get_by_role("radio", name="Point on it").check()
    canvas.click(position={"x": 60, "y": 60})
    page.get_by_role("radio", name="Point beside it").check()
    canvas.click(position={"x": 20, "y": 20})
    expect(page.locator("#tracking-draw .prompt")).to_have_count(1)
    expect(canvas.locator("circle.on")).to_have_count(1)
    expect(canvas.locator("circle.beside")).to_have_count(1)


def test_a_box_is_given_by_numbers_with_the_keyboard_alone(app: RunningApp, page: Page, client: Client) -> None:
    open_page(page, app)
    page.get_by_role("button", name="Remove all").press("Enter")
    page.get_by_role("button", name="Add a box by numbers").press("Enter")
    for name, value in (("left", "12"), ("top", "14"), ("right", "60"), ("bottom", "500")):
        field = page.get_by_role("group", name="Object 1").get_by_label(name)
        field.focus()
        page.keyboard.press("Control+A")
        page.keyboard.type(value)
        page.keyboard.press("Tab")
    # What is outside the frame is cut to it, and the focus moved on although the list was drawn anew.
    expect(page.get_by_role("group", name="Object 1").get_by_label("bottom")).to_have_value("128")
    expect(page.get_by_role("button", name="Remove object 1")).to_be_focused()
    button = page.get_by_role("button", name="Track", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("job="), timeout=30_000)
    job = page.url.split("job=")[1][:16]
    client.predict(job, api_name="/tracking_stop")
    wait_for(client, job)
    expect(page.locator("#tracking-status")).to_contain_text("Stopped", timeout=60_000)
    assert client.predict(job, api_name="/tracking_result")["status"] == "stopped"


def test_another_scene_brings_its_own_boxes(app: RunningApp, page: Page) -> None:
    open_page(page, app)
    before = page.locator("#tracking-draw img").first.get_attribute("src")
    choose_numbers(page, Seed=11)
    expect(page.locator("#tracking-draw img").first).not_to_have_attribute("src", before or "", timeout=30_000)
    page.get_by_role("button", name="Remove all").click()
    page.get_by_role("button", name="Boxes of the true objects").click()
    expect(page.locator("#tracking-draw .prompt").first).to_be_visible(timeout=15_000)


def test_a_result_leads_back_to_the_first_frame(app: RunningApp, page: Page, finished: str) -> None:
    open_job(page, app, finished)
    expect(page.locator("#tracking-stage")).to_be_hidden()
    page.get_by_role("button", name="Back to the first frame").click()
    expect(page.locator("#tracking-stage")).to_be_visible()
    expect(page.locator("#tracking-results")).to_be_hidden()


def test_videos_of_ones_own_are_shown_drawn_on_and_tracked(
    app: RunningApp, page: Page, client: Client, clip: Callable[..., Path]
) -> None:
    open_page(page, app)
    page.get_by_role("radio", name="My videos").check()
    expect(page.locator("#tracking-stage")).to_contain_text("Add a video")
    page.get_by_role("button", name="Track", exact=True).click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("There is no video yet")
    page.locator("#tracking-rgb input[type=file]").set_input_files(clip(HOSTILE))
    expect(page.locator("#tracking-draw .canvas")).to_have_count(1, timeout=30_000)
    drag(page, page.locator("#tracking-draw .canvas").first, (0.05, 0.15), (0.42, 0.7))
    answer = wait_for(client, track(page))
    assert answer["status"] == "done", answer["error"]
    assert answer["result"]["truth"] is None
    expect(page.locator("#tracking-metrics")).to_contain_text("truth of your videos", timeout=30_000)
    assert page.locator("img[src=x]").count() == 0


def test_videos_that_do_not_match_say_what_to_do(client: Client, clip: Callable[..., Path]) -> None:
    files = {"rgb": handle_file(clip("a.mp4")), "thermal": handle_file(clip("b.mp4", frames=9))}
    refused = wait_for(client, client.predict("mot", **files, api_name="/tracking_run"))
    assert refused["status"] == "failed"
    assert "different numbers of frames" in refused["error"]
    taken = wait_for(client, client.predict("mot", **files, resample=True, api_name="/tracking_run"))
    assert taken["status"] == "done", taken["error"]


def test_a_file_that_is_no_video_says_so_before_and_after_the_button(
    app: RunningApp, page: Page, tmp_path: Path
) -> None:
    file = tmp_path / "notes.mp4"
    file.write_text("no video at all")
    open_page(page, app)
    page.get_by_role("radio", name="My videos").check()
    page.locator("#tracking-rgb input[type=file]").set_input_files(file)
    expect(page.locator("#tracking-message")).to_contain_text("is not a video that is read here", timeout=30_000)
    page.get_by_label("MOT: find everything, as boxes").check()
    track(page)
    status = page.locator("#tracking-status")
    expect(status).to_contain_text("is not a video that is read here", timeout=60_000)
    expect(page.locator("body")).not_to_contain_text("Traceback")


def test_nothing_to_follow_and_no_sensor_say_what_to_do(app: RunningApp, page: Page) -> None:
    open_page(page, app)
    page.get_by_role("button", name="Remove all").click()
    page.get_by_role("button", name="Track", exact=True).click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("There is nothing to follow")
    page.get_by_test_id("toast-close").click()
    for name in ("RGB", "Thermal"):
        page.locator("#tracking-sensors").get_by_label(name).uncheck()
    page.get_by_role("button", name="Track", exact=True).click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("No sensor is chosen")


def test_the_player_and_the_timeline_move_together(app: RunningApp, page: Page, finished: str) -> None:
    open_job(page, app, finished)
    player = page.locator(".player:visible")
    player.get_by_role("button", name="Pause").click(timeout=10_000)
    slider = player.get_by_role("slider", name="Frame")
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", f"frame 4 of {FRAMES}")
    page.wait_for_function("Math.abs(document.querySelector('.player video').currentTime - 0.35) < 0.01", timeout=5_000)
    lane = player.locator("svg.lane").first
    lane.scroll_into_view_if_needed()
    width = (lane.bounding_box() or {})["width"]
    lane.click(position={"x": 6.5 / FRAMES * width, "y": 5})
    expect(player.locator(".where")).to_have_text(f"7 / {FRAMES}")
    cursor = player.locator(".cursor").bounding_box()
    box = lane.bounding_box()
    assert cursor is not None
    assert box is not None
    assert cursor["x"] == pytest.approx(box["x"] + 6.5 / FRAMES * box["width"], abs=3)


def test_every_download_is_a_whole_file(app: RunningApp, page: Page, finished: str) -> None:
    open_job(page, app, finished)
    files = {}
    for name in ("overlay.mp4", "mot.txt", "davis.zip", "timeline.csv", "tracks.json", "run.json"):
        with page.expect_download() as started:
            page.locator("#tracking-downloads").get_by_text(name, exact=True).click()
        files[name] = Path(started.value.path())
    info = probe_video(files["overlay.mp4"])
    assert (info.width, info.height, info.frames) == (768, 384, FRAMES)
    assert all(len(line.split(",")) == 10 for line in files["mot.txt"].read_text("utf-8").splitlines())
    names = zipfile.ZipFile(io.BytesIO(files["davis.zip"].read_bytes())).namelist()
    assert sum(name.endswith(".png") for name in names) == FRAMES
    assert len(files["timeline.csv"].read_text("utf-8").splitlines()) == FRAMES + 1
    assert len(json.loads(files["tracks.json"].read_text("utf-8"))["instances"]) == FRAMES
    assert json.loads(files["run.json"].read_text("utf-8"))["seed"] == 3


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_the_page_and_its_results_are_accessible_and_fit_the_screen(
    app: RunningApp, browser: Browser, finished: str, size: str, theme: str
) -> None:
    page = browser.new_context(viewport=SIZES[size]).new_page()
    open_page(page, app, theme)
    assert findings(page) == []
    page.get_by_role("radio", name="My videos").check()
    expect(page.locator("#tracking-rgb")).to_be_visible()
    assert findings(page) == []
    open_job(page, app, finished, theme)
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    page.context.close()


def test_the_live_overlay_is_accessible(app: RunningApp, page: Page, client: Client) -> None:
    open_page(page, app, "dark")
    choose_numbers(page, Frames=120)
    page.locator("#tracking-pace input[type=number]").fill("1")  # still running when a busy machine has drawn it
    job = track(page)
    expect(page.locator("#tracking-live .tiles img")).to_have_count(2, timeout=WITHIN_MS)
    assert findings(page) == []
    client.predict(job, api_name="/tracking_stop")
    wait_for(client, job)


def test_a_program_tracks_what_it_points_at_and_fetches_the_tracks(client: Client) -> None:
    job = client.predict("vos", ["rgb"], [BOX], **SMALL, conditions=["night"], api_name="/tracking_run")
    answer = wait_for(client, job)
    assert answer["status"] == "done", answer["error"]
    result = answer["result"]
    assert [row["id"] for row in result["objects"]] == [7]
    assert result["params"]["scene"]["conditions"] == ["night"]
    assert len(result["ms"]) == FRAMES
    davis = client.predict(job, "davis.zip", api_name="/tracking_file")
    assert zipfile.is_zipfile(davis)


def test_a_program_cuts_a_sensor(client: Client) -> None:
    job = client.predict("vos", seed=3, frames=60, size=64, pace=3, api_name="/tracking_run")
    assert client.predict(job, ["rgb"], api_name="/tracking_sensors") == ["rgb"]
    limit = time.monotonic() + WITHIN_SECONDS
    while client.predict(job, api_name="/tracking_result")["progress"] < 0.15 and time.monotonic() < limit:
        time.sleep(0.2)
    assert client.predict(job, api_name="/tracking_stop") == "running"
    assert wait_for(client, job)["result"]["on"][-1] == ["rgb"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": [{"id": 1, "box": [5, 5, 5, 5]}]}, "no area"),
        ({"prompts": [{"id": 1, "box": [5, 5, 20, 20]}, {"id": 1, "box": [30, 30, 40, 40]}]}, "more than once"),
        ({"prompts": [{"id": 1, "frame": 99, "box": [5, 5, 20, 20]}]}, "frame from 0 to"),
    ],
)
def test_prompts_that_cannot_be_followed_are_refused_with_what_is_allowed(
    client: Client, arguments: dict[str, Any], message: str
) -> None:
    answer = wait_for(client, client.predict("vos", **SMALL, **arguments, api_name="/tracking_run"))
    assert answer["status"] == "failed"
    assert message in answer["error"]
    assert answer["files"] == []


def test_a_program_gets_our_sentence_for_what_makes_no_sense(client: Client, finished: str) -> None:
    with pytest.raises(AppError, match="number of frames is 1000000"):
        client.predict("vos", frames=10**6, api_name="/tracking_run")
    with pytest.raises(AppError, match="Prompts are a list"):
        client.predict("vos", prompts={"id": 1}, api_name="/tracking_run")
    with pytest.raises(AppError, match="no such job"):
        client.predict("0123456789abcdef", api_name="/tracking_result")
    with pytest.raises(AppError, match=r"overlay\.mp4"):
        client.predict(finished, "../job.json", api_name="/tracking_file")
