"""The doctor: everything is tried on this machine, what is missing is said with what to do, and nothing stops it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import doctor
from core.doctor import Finding, check_attention, check_browser, check_packages, check_video, examine, report_lines
from core.errors import UnavailableError
from core.registry import ROOT, catalogue


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str]:
    """What `python -m core.doctor` writes and says on this machine."""
    file = tmp_path_factory.mktemp("doctor") / "report.json"
    command = [sys.executable, "-m", "core.doctor", "--json", str(file)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(file.read_text(encoding="utf-8")), ran.stdout


def test_this_machine_has_what_the_app_needs(report) -> None:
    assert report[0]["healthy"]
    assert not [each for each in report[0]["findings"] if each["state"] == "wrong"]
    assert "everything needed is here" in report[1]


def test_every_area_is_looked_at(report) -> None:
    assert {each["area"] for each in report[0]["findings"]} == set(doctor.CHECKS)


def test_everything_that_is_absent_or_wrong_and_can_be_had_says_how(report) -> None:
    lacking = [
        each for each in report[0]["findings"] if each["state"] != "ok" and each["area"] in ("packages", "video")
    ]
    assert all(each["how_to_fix"] for each in lacking)


def test_the_weights_are_those_of_the_checkpoints(report) -> None:
    values = [each["value"] for each in report[0]["findings"] if each["area"] == "techniques"]
    for spec in catalogue():
        for file in sorted((ROOT / spec.checkpoint).rglob("*.safetensors")) if spec.checkpoint else ():
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            assert any(file.name in value and value.endswith(digest) for value in values), file


def test_every_backend_is_measured_beside_sdpa_or_says_why_not() -> None:
    findings = {each.name: each for each in check_attention()}
    assert findings["sdpa"].state == "ok"
    for name in ("sdpa", "flash", "xformers"):
        assert ("ms on" in findings[name].value) is (findings[name].state == "ok"), findings[name]
    assert findings["chosen"].value.partition(":")[0] in ("sdpa", "xformers")


def test_a_clip_is_really_written_and_read_back() -> None:
    findings = {each.name: each for each in check_video()}
    assert findings["mp4"].state == "ok"
    assert "libx264" in findings["encoders"].value


def test_a_package_out_of_range_is_wrong_and_one_that_is_not_there_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requirements.txt").write_text("numpy<1\na-package-that-nobody-has>=1\nscipy>=1\n")
    monkeypatch.setattr("core.registry.ROOT", tmp_path)
    findings = {each.name: each for each in check_packages()}
    assert (findings["numpy"].state, findings["numpy"].how_to_fix) == ("wrong", 'pip install "numpy<1"')
    assert findings["a-package-that-nobody-has"].value == "not installed"
    assert findings["scipy"].state == "ok"


def test_a_browser_that_does_not_start_is_absent_with_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "chrome"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("QUARTET_CHROMIUM", str(broken))
    (finding,) = check_browser()
    assert finding.state == "absent"
    assert "does not start" in finding.value
    assert "apt-get install chromium" in finding.how_to_fix


def fails() -> Iterator[Finding]:
    """A check on a machine where torch, say, cannot be loaded."""
    yield Finding(area="devices", name="cpu", state="ok", value="here")
    raise OSError("libcudart.so: cannot open shared object file")


def unavailable() -> Iterator[Finding]:
    """A check that meets one of our own errors."""
    raise UnavailableError("it is not there", "Get it.")
    yield


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {"devices": fails, "video": unavailable, "versions": doctor.check_versions})
    findings = examine()
    wrong = [each for each in findings if each.state == "wrong"]
    assert [each.area for each in wrong] == ["devices", "video"]
    assert "libcudart" in wrong[0].value
    assert wrong[1].how_to_fix == "Get it."
    assert {each.name for each in findings} >= {"cpu", "python"}
    text = "\n".join(report_lines(findings))
    assert "2 of the things that the app needs are missing or wrong" in text


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, runpy; sys.argv = ['doctor', '--help']\n"
        "try: runpy.run_module('core.doctor', run_name='__main__')\n"
        "except SystemExit: print({'torch', 'numpy', 'av', 'gradio'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.stdout.rstrip().endswith("set()"), ran.stdout + ran.stderr
