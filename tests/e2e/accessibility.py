"""axe-core on the open page, with the findings in Gradio's own parts told apart from ours."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
# (rule, text in the node's HTML): parts of Gradio 6.31 that no page of ours can change.
UPSTREAM: frozenset[tuple[str, str]] = frozenset()


def findings(page: Page) -> list[str]:
    """Every WCAG 2.2 AA violation on the page that is ours to mend, one line each."""
    options = {"runOnly": {"type": "tag", "values": list(WCAG)}, "resultTypes": ["violations"]}
    violations = Axe().run(page, options=options).response["violations"]
    nodes = [(violation["id"], node) for violation in violations for node in violation["nodes"]]
    return [
        f"{rule}: {node['html'][:160]} | {node['failureSummary'].splitlines()[-1].strip()}"
        for rule, node in nodes
        if not any(rule == known and part in node["html"] for known, part in UPSTREAM)
    ]
