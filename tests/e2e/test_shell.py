"""The frame around the pages, as its users meet it: a real server and a real browser."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Locator, Page, Request, ViewportSize, expect

from core.registry import IN_TREE, catalogue
from tests.e2e.accessibility import findings
from tests.e2e.conftest import RunningApp, running_app
from tests.test_readme import python_block, run_python

pytestmark = pytest.mark.e2e

SIZES: dict[str, ViewportSize] = {
    "desktop": {"width": 1280, "height": 850},
    "phone": {"width": 390, "height": 844},
}
OPEN_WITHIN_SECONDS = 10.0
AT_REST_MS = 1500


def open_tab(page: Page, app: RunningApp, slug: str, theme: str = "light") -> None:
    """Open the app by a link to one tab and wait until it is there."""
    page.goto(f"{app.url}/?tab={slug}&__theme={theme}")
    expect(tab(page, slug)).to_have_attribute("aria-selected", "true", timeout=15_000)
    wait_until_settled(page)


def wait_until_settled(page: Page) -> None:
    """Wait for the read-out in the header: then every load event has run, and nothing moves any more."""
    expect(page.locator("#runtime")).not_to_contain_text("checking", timeout=30_000)


def open_section(page: Page, name: str) -> None:
    """Open a folded section and wait until its fields are at rest: as they mount, they take their first values once
    more, over what a script, which is faster than any person, has typed."""
    page.get_by_role("button", name=name).click()
    page.wait_for_timeout(AT_REST_MS)


def tab(page: Page, slug: str) -> Locator:
    """The button of one tab."""
    return page.locator(f"#{slug}-button")


def test_the_app_opens_within_ten_seconds_of_its_start(
    app: RunningApp, tmp_path_factory: pytest.TempPathFactory
) -> None:
    seconds = app.seconds_to_open
    if seconds > OPEN_WITHIN_SECONDS:  # once more: the first start also compiles every module
        with running_app(tmp_path_factory.mktemp("again"), {}) as again:
            seconds = again.seconds_to_open
    assert seconds <= OPEN_WITHIN_SECONDS


def test_healthz_names_every_technique_of_the_catalogue(app: RunningApp) -> None:
    answer = app.get_json("/healthz")
    assert answer["status"] == "ok"
    assert [plugin["slug"] for plugin in answer["plugins"]] == [spec.slug for spec in catalogue()]
    assert len(answer["plugins"]) == len(IN_TREE)


def test_the_readmes_client_lines_work_on_a_running_app(app: RunningApp) -> None:
    lines = python_block("gradio_client").replace("http://127.0.0.1:7860", app.url)
    assert app.url in lines
    status, file = run_python(lines).splitlines()[-1].split()
    assert status == "done"
    assert file.endswith("mots.txt")


def test_the_server_listens_on_loopback_only(app: RunningApp) -> None:
    connections = psutil.Process(app.pid).net_connections(kind="inet")
    assert {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_opening_every_tab_contacts_no_other_host(app: RunningApp, page: Page) -> None:
    hosts: set[str | None] = set()

    def note(request: Request) -> None:
        if request.url.startswith(("http", "ws")):
            hosts.add(urlsplit(request.url).hostname)

    page.on("request", note)
    open_tab(page, app, "about")
    for slug in (*(spec.slug for spec in catalogue()), "about"):
        tab(page, slug).click()
        expect(page.locator(f"#{slug}")).to_be_visible()
    assert hosts == {"127.0.0.1"}


def test_the_first_tab_opens_without_a_link(app: RunningApp, page: Page) -> None:
    page.goto(app.url)
    expect(page.get_by_role("tab").first).to_have_attribute("aria-selected", "true")


def test_a_link_to_an_unknown_tab_opens_the_first_one(app: RunningApp, page: Page) -> None:
    page.goto(f"{app.url}/?tab=no-such-tab")
    wait_until_settled(page)
    expect(page.get_by_role("tab").first).to_have_attribute("aria-selected", "true")


def test_a_link_opens_its_tab_and_keeps_its_job(app: RunningApp, page: Page) -> None:
    first = catalogue()[0].slug
    page.goto(f"{app.url}/?tab={first}&job=abcdefghijklmnop")
    wait_until_settled(page)
    expect(tab(page, first)).to_have_attribute("aria-selected", "true")
    assert parse_qs(urlsplit(page.url).query) == {"tab": [first], "job": ["abcdefghijklmnop"]}


def test_the_address_follows_the_tab_and_drops_the_job_of_another(app: RunningApp, page: Page) -> None:
    first = catalogue()[0].slug
    page.goto(f"{app.url}/?tab={first}&job=abcdefghijklmnop")
    wait_until_settled(page)
    tab(page, "about").click()
    expect(page).to_have_url(f"{app.url}/?tab=about")
    page.reload()
    expect(tab(page, "about")).to_have_attribute("aria-selected", "true")


def test_the_header_says_device_and_attention(app: RunningApp, page: Page) -> None:
    open_tab(page, app, "about")
    runtime = page.locator("#runtime")
    expect(runtime).to_contain_text("Device")
    expect(runtime).to_contain_text("Attention")
    expect(runtime).not_to_contain_text("unknown")


def test_the_about_page_lists_every_technique_with_its_paper(app: RunningApp, page: Page) -> None:
    open_tab(page, app, "about")
    table = page.get_by_role("table").first
    for spec in catalogue():
        row = table.get_by_role("row").filter(has_text=spec.title)
        expect(row).to_contain_text("ready")
        assert row.get_by_role("link").get_attribute("href") == f"https://arxiv.org/abs/{spec.paper}"


def test_the_tabs_are_reached_and_switched_by_keyboard(app: RunningApp, page: Page) -> None:
    page.goto(app.url)
    wait_until_settled(page)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "about-button":
            break
    page.keyboard.press("Enter")
    expect(tab(page, "about")).to_have_attribute("aria-selected", "true")
    expect(page).to_have_url(f"{app.url}/?tab=about")


def test_a_broken_plugin_shows_its_tab_with_the_reason_and_the_way_out(
    app_with_broken_plugins: RunningApp, page: Page
) -> None:
    open_tab(page, app_with_broken_plugins, "no-import")
    panel = page.locator(".unavailable:visible")
    expect(panel).to_contain_text("a_package_that_nobody_has")
    expect(panel).to_contain_text("pip install")
    tab(page, "half-built").click()
    expect(panel).to_contain_text("the <b>second</b> half is missing")
    expect(page.get_by_text("This much was built.")).to_have_count(0)


def test_the_readmes_technique_has_its_tab_its_example_and_its_endpoint(
    app_with_broken_plugins: RunningApp, page: Page
) -> None:
    open_tab(page, app_with_broken_plugins, "backwards")
    page.get_by_role("button", name="Say it").click()
    expect(page.get_by_label("Backwards", exact=True)).to_have_value("desserts", timeout=15_000)
    client = Client(app_with_broken_plugins.url, verbose=False)
    assert client.predict("live", api_name="/backwards_run") == "evil"


def test_the_app_stays_up_beside_broken_plugins(app_with_broken_plugins: RunningApp, page: Page) -> None:
    answer = app_with_broken_plugins.get_json("/healthz")
    available = {plugin["slug"]: plugin["available"] for plugin in answer["plugins"]}
    assert answer["status"] == "degraded"
    assert (available["no-import"], available["half-built"]) == (False, False)
    ours = [spec.slug for spec in catalogue()]
    assert [slug for slug, works in available.items() if works] == [*ours, "backwards"]
    open_tab(page, app_with_broken_plugins, "about")
    expect(page.get_by_role("row").filter(has_text="half-built")).to_contain_text("unavailable")


@pytest.mark.parametrize(("size", "theme"), [("desktop", "dark"), ("phone", "light")])
def test_axe_finds_nothing_of_ours_and_nothing_overflows(
    app_with_broken_plugins: RunningApp, browser: Browser, size: str, theme: str
) -> None:
    page = browser.new_page(viewport=SIZES[size])
    for slug in ("about", "no-import"):
        open_tab(page, app_with_broken_plugins, slug, theme)
        assert findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    page.close()
