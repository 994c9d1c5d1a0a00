"""A Chromium that runs here: found, else installed. `python -m tests.e2e.browser` prints its path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from playwright.sync_api import sync_playwright

from plugins.ui_action.environments import chromium
from plugins.ui_action.environments.chromium import NAMES, find_installed, runs

__all__ = ["FLAGS", "HELP", "NAMES", "find_chromium", "find_installed", "install_chromium", "main", "runs"]

# Nothing but the tests may cause traffic or windows.
FLAGS = ("--no-sandbox", *chromium.FLAGS)
HELP = """No Chromium runs here and none could be installed. Do one of:
  - install it: apt-get install chromium (Debian), brew install --cask chromium (macOS)
  - name one:   QUARTET_CHROMIUM=/path/to/chrome make test
What was tried: {tried}"""


def find_chromium() -> str | None:
    """The browser that the tests will use: the system's, else the one that Playwright keeps for itself."""
    if (found := find_installed()) or "QUARTET_CHROMIUM" in os.environ:
        return found
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if runs(own) else None


def install_chromium() -> list[str]:
    """Try Playwright's own build, then the system's package; give back what failed, in words."""
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    steps = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and (not root or shutil.which("sudo")):
        apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        steps += [[*apt, "update"], [*apt, "install", "--yes", "--no-install-recommends", "chromium"]]
    failed = []
    for step in steps:
        print("no Chromium yet, running:", " ".join(step), flush=True)
        if subprocess.run(step).returncode != 0:
            failed.append(" ".join(step[-4:]))
        if find_chromium():
            break
    return failed


def main() -> None:
    """Make sure that there is a Chromium, or end with what to do."""
    failed: list[str] = []
    if find_chromium() is None and "QUARTET_CHROMIUM" not in os.environ:
        failed = install_chromium()
    path = find_chromium()
    if path is None:
        named = os.environ.get("QUARTET_CHROMIUM")
        sys.exit(HELP.format(tried=f"QUARTET_CHROMIUM={named}" if named else "; ".join(failed)))
    print(f"browser: {path}")


if __name__ == "__main__":
    main()
