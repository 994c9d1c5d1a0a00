"""The attribution page, used as a visitor does: example, upload, reload, stop, link, and the API behind it."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Page, expect

from plugins.attribution.synthetic import planted_signal, sensors
from tests.e2e.accessibility import findings
from tests.e2e.conftest import RunningApp
from tests.e2e.test_shell import SIZES, open_tab

pytestmark = pytest.mark.e2e

EXAMPLE_WITHIN_MS = 60_000  # generous: a functional limit on a busy machine, speed is measured elsewhere


@pytest.fixture(scope="module")
def client(app: RunningApp) -> Client:
    """The app as a program uses it."""
    return Client(app.url, verbose=False)


@pytest.fixture(scope="module")
def slow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data that takes long enough to be stopped."""
    streams = planted_signal(30_000, dimension=256)
    path = tmp_path_factory.mktemp("slow") / "slow.npz"
    np.savez(path, strong=streams.x1.astype(np.float32), weak=streams.x2.astype(np.float32), y=streams.y)
    return path


@pytest.fixture(scope="module")
def finished(client: Client) -> str:
    """The id of the example's job, done."""
    job = client.predict("two cameras", api_name="/attribution_example")
    assert wait_for(client, job)["status"] == "done"
    return job


def open_finished(page: Page, app: RunningApp, job: str, theme: str = "light") -> None:
    page.goto(f"{app.url}/?tab=attribution&job={job}&__theme={theme}")
    expect(page.locator("#verdicts .verdict")).to_have_count(2, timeout=30_000)


def explain_example(page: Page) -> None:
    page.get_by_role("button", name="Explain the example").click()
    expect(page.locator("#verdicts .verdict")).to_have_count(2, timeout=EXAMPLE_WITHIN_MS)


def wait_for(client: Client, job: str, seconds: float = 60) -> dict[str, Any]:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        answer = client.predict(job, api_name="/attribution_result")
        if answer["status"] not in ("waiting", "running"):
            return answer
        time.sleep(0.2)
    pytest.fail(f"job {job} did not end: {answer}")


def test_the_example_is_one_click_away_and_ends_in_verdicts(app: RunningApp, page: Page) -> None:
    open_tab(page, app, "attribution")
    explain_example(page)
    cards = page.locator("#verdicts .verdict")
    expect(cards.nth(0)).to_contain_text("thermal")
    expect(cards.nth(0).locator(".decision")).to_have_text("Keep")
    expect(cards.nth(1).locator(".decision")).to_have_text("Needs early fusion")
    expect(page.locator("#audit")).to_contain_text("Shuffled labels read as nothing")
    expect(page.locator("#caption")).to_contain_text("Certified solver gap")
    for plot in ("#stack", "#atoms"):
        expect(page.locator(f"{plot} .js-plotly-plot .bars path").first).to_be_attached(timeout=20_000)


def test_every_download_is_a_whole_file(app: RunningApp, page: Page, finished: str) -> None:
    open_finished(page, app, finished)
    contents = {}
    for name in ("report.json", "report.md", "atoms.csv", "examples.csv", "run.json"):
        with page.expect_download() as started:
            page.locator("#downloads").get_by_text(name, exact=True).click()
        contents[name] = Path(started.value.path()).read_text("utf-8")
    report = json.loads(contents["report.json"])
    assert set(report["quantities"]) >= {"redundancy", "unique_1", "unique_2", "synergy"}
    assert json.loads(contents["run.json"])["seed"] == 0
    assert len(contents["examples.csv"].splitlines()) == report["examples"] + 1
    assert "colour" in contents["report.md"]
    assert contents["atoms.csv"].startswith("quantity,bits")


def test_a_finished_job_is_there_after_a_reload_and_in_another_browser(
    app: RunningApp, page: Page, browser: Browser
) -> None:
    open_tab(page, app, "attribution")
    explain_example(page)
    assert re.search(r"job=[\w-]{16}", page.url)
    link, verdict = page.url, page.locator("#verdicts").inner_text()
    page.reload()
    expect(page.locator("#verdicts .verdict")).to_have_count(2, timeout=20_000)
    elsewhere = browser.new_context().new_page()
    elsewhere.goto(link)
    expect(elsewhere.locator("#verdicts .verdict")).to_have_count(2, timeout=20_000)
    assert elsewhere.locator("#verdicts").inner_text() == verdict
    elsewhere.context.close()


def test_a_job_goes_on_when_its_tab_is_closed(
    app: RunningApp, browser: Browser, client: Client, slow_file: Path
) -> None:
    context = browser.new_context()
    page = context.new_page()
    open_tab(page, app, "attribution")
    page.locator("#upload input[type=file]").set_input_files(slow_file)
    expect(page.locator("#found")).to_contain_text("strong")
    page.get_by_role("button", name="Explain my file").click()
    page.wait_for_url(re.compile("job="), timeout=15_000)
    job = page.url.split("job=")[1][:16]
    context.close()
    assert wait_for(client, job, 120)["status"] == "done"


def test_stop_ends_the_work_within_a_second(app: RunningApp, page: Page, client: Client, slow_file: Path) -> None:
    open_tab(page, app, "attribution")
    page.locator("#upload input[type=file]").set_input_files(slow_file)
    expect(page.locator("#found")).to_contain_text("strong")
    page.get_by_role("button", name="Explain my file").click()
    expect(page.locator("#attribution-status")).to_contain_text("Running", timeout=30_000)
    job = page.url.split("job=")[1][:16]
    page.get_by_role("button", name="Stop").click()
    pressed = time.monotonic()
    while client.predict(job, api_name="/attribution_result")["status"] == "running":
        # Two seconds, not one: the click and the question travel too, on a machine that also runs a browser.
        assert time.monotonic() - pressed < 2.0
        time.sleep(0.02)
    expect(page.locator("#attribution-status")).to_contain_text("Stopped", timeout=5_000)


def test_a_csv_of_named_streams_is_understood_and_explained(app: RunningApp, page: Page, tmp_path: Path) -> None:
    streams = sensors(1500)
    header = "thermal.heat,thermal.road,colour.shape,colour.ground,colour.light,y"
    rows = np.concatenate([streams.x1, streams.x2, (streams.y == "person")[:, None]], axis=1)
    path = tmp_path / "cameras.csv"
    np.savetxt(path, rows, delimiter=",", header=header, comments="", fmt="%.4f")
    open_tab(page, app, "attribution")
    page.locator("#upload input[type=file]").set_input_files(path)
    expect(page.locator("#found")).to_contain_text("thermal: 2 columns; colour: 3 columns; target y")
    page.get_by_role("button", name="Explain my file").click()
    expect(page.locator("#verdicts .verdict").nth(1)).to_contain_text("colour", timeout=EXAMPLE_WITHIN_MS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("thermal,colour,y\n" + "1,abc,0\n2,3,1\n4,5,0\n" * 20, "text where numbers belong"),
        ("thermal,colour,y\n" + "1,2,0\n3,4,0\n" * 20, "one class only"),
        ("a.1,b.1,c.1,y\n1,2,3,0\n", "3 streams"),
    ],
)
def test_bad_files_get_a_sentence_that_says_what_is_allowed(
    app: RunningApp, page: Page, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    open_tab(page, app, "attribution")
    page.locator("#upload input[type=file]").set_input_files(path)
    expect(page.locator("#found")).not_to_be_empty()
    page.get_by_role("button", name="Explain my file").click()
    status = page.locator("#attribution-status")
    expect(status).to_contain_text(message, timeout=30_000)
    expect(status).to_contain_text("Failed")
    expect(page.locator("body")).not_to_contain_text("Traceback")


def test_explaining_nothing_says_what_to_do(app: RunningApp, page: Page) -> None:
    open_tab(page, app, "attribution")
    page.get_by_role("button", name="Explain my file").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("Choose a file first")


def test_costs_give_bits_per_dollar_without_a_new_analysis(app: RunningApp, page: Page, finished: str) -> None:
    open_finished(page, app, finished)
    expect(page.locator("#verdicts")).not_to_contain_text("per dollar")
    page.get_by_label("Cost of colour, $ a month").fill("5")
    page.get_by_label("Cost of colour, $ a month").blur()
    expect(page.locator("#verdicts .verdict").nth(1)).to_contain_text("Bits per dollar a month")


def test_the_playground_shows_what_each_method_makes_of_a_known_truth(app: RunningApp, page: Page) -> None:
    open_tab(page, app, "attribution")
    page.get_by_role("tab", name="Known truth").click()
    table = page.locator("#truth-exact")
    expect(table.get_by_role("row", name="BROJA, certified")).to_contain_text("1.0000", timeout=20_000)
    page.get_by_label("AND", exact=True).check()
    expect(table.get_by_role("row", name="Closed form")).to_contain_text("0.3113", timeout=20_000)
    expect(table.get_by_role("row", name="Conditional independence")).to_contain_text("0.2296")
    page.get_by_label("Mixture", exact=True).check()
    expect(page.get_by_label("number input for Weight: synergy")).to_be_visible()


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_results_are_accessible_and_fit_the_screen(
    app: RunningApp, browser: Browser, finished: str, size: str, theme: str
) -> None:
    page = browser.new_context(viewport=SIZES[size]).new_page()
    open_finished(page, app, finished, theme)
    expect(page.locator("#atoms .js-plotly-plot .bars path").first).to_be_attached(timeout=20_000)
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    page.get_by_role("tab", name="Known truth").click()
    expect(page.locator("#truth-exact table")).to_be_visible(timeout=20_000)
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    page.context.close()


def explain_model(page: Page) -> None:
    page.get_by_role("tab", name="A model").click()
    page.get_by_label("number input for Examples generated").fill("200")
    page.get_by_label("number input for Examples generated").blur()
    page.get_by_role("button", name="Explain the embedded model").click()
    expect(page.locator("#model-verdicts .verdict")).to_have_count(2, timeout=EXAMPLE_WITHIN_MS)


def test_a_model_is_explained_layer_by_layer_and_the_link_to_it_opens_its_tab(
    app: RunningApp, page: Page, browser: Browser
) -> None:
    open_tab(page, app, "attribution")
    explain_model(page)
    expect(page.locator("#model-layers").get_by_role("row", name="fusion.2")).to_be_visible()
    expect(page.locator("#model-truth")).to_contain_text("1.000")
    expect(page.locator("#model-dropping")).to_contain_text("put")
    expect(page.locator("#model-cost")).to_contain_text("Plain forward passes")
    for plot in ("#model-depth .bars path", "#model-heat .heatmaplayer image"):
        expect(page.locator(plot).first).to_be_attached(timeout=20_000)
    assert findings(page) == []
    phone = browser.new_context(viewport=SIZES["phone"]).new_page()
    phone.goto(f"{page.url}&__theme=dark")
    expect(phone.locator("#model-verdicts .verdict")).to_have_count(2, timeout=30_000)
    expect(phone.locator("#model-heat .heatmaplayer image").first).to_be_attached(timeout=20_000)
    assert findings(phone) == []
    assert phone.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"]["width"]
    phone.context.close()


def test_a_program_gets_our_sentence_for_a_model_that_is_no_hub_id(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "data.parquet"
    file.write_bytes(b"PAR1")
    with pytest.raises(AppError, match="not a Hub id"):
        client.predict("../somewhere", handle_file(file), api_name="/attribution_model_explain")


def test_the_example_can_be_run_with_the_keyboard_alone(app: RunningApp, page: Page) -> None:
    open_tab(page, app, "attribution")
    button = page.get_by_role("button", name="Explain the example")
    for _ in range(40):
        page.keyboard.press("Tab")
        if button.evaluate("node => node === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("#verdicts .verdict")).to_have_count(2, timeout=EXAMPLE_WITHIN_MS)


def test_the_public_endpoints_are_those_of_the_golden_file(app: RunningApp) -> None:
    found = {
        name: {
            "parameters": [f"{p['parameter_name']}: {p['python_type']['type']}" for p in endpoint["parameters"]],
            "returns": [r["python_type"]["type"] for r in endpoint["returns"]],
        }
        for name, endpoint in app.get_json("/gradio_api/info")["named_endpoints"].items()
    }
    golden = Path(__file__).with_name("endpoints.json")
    assert found == json.loads(golden.read_text("utf-8"))


def test_a_program_explains_a_file_and_reads_the_report(client: Client, tmp_path: Path) -> None:
    streams = sensors(1000, seed=3)
    path = tmp_path / "cameras.npz"
    np.savez(path, thermal=streams.x1, colour=streams.x2, y=streams.y)
    job = client.predict(file=handle_file(path), audit=False, api_name="/attribution_explain")
    answer = wait_for(client, job)
    assert answer["status"] == "done"
    atoms = answer["result"]["report"]["quantities"]
    assert atoms["unique_1"]["value"] > 0.3 > atoms["unique_2"]["value"] + 0.25


def test_a_program_gets_our_sentence_for_an_unknown_job(client: Client) -> None:
    with pytest.raises(AppError, match="no such job"):
        client.predict("0123456789abcdef", api_name="/attribution_result")


def test_a_program_asks_for_a_known_truth(client: Client) -> None:
    answer = client.predict("and", api_name="/attribution_known_truth")
    assert answer["methods"]["broja"]["redundancy"] == pytest.approx(0.311278, abs=1e-6)
    assert answer["methods"]["broja"]["gap"] < 1e-6


def test_an_upload_over_the_limit_is_refused_before_it_is_stored(app: RunningApp) -> None:
    boundary = "quartet"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="big.npz"\r\n\r\n'.encode()
    size = 201 * 2**20

    def body() -> Any:
        yield head
        for _ in range(size // 2**20):
            yield bytes(2**20)
        yield f"\r\n--{boundary}--\r\n".encode()

    request = urllib.request.Request(
        f"{app.url}/gradio_api/upload",
        data=body(),
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    with pytest.raises((urllib.error.HTTPError, ConnectionError, urllib.error.URLError)) as refused:
        urllib.request.urlopen(request, timeout=60)
    if isinstance(refused.value, urllib.error.HTTPError):
        assert refused.value.code == 413
