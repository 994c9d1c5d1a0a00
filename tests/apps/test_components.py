"""Shared pieces of the pages: what they say, and that nothing a user typed becomes markup."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apps.components import job_status, readout, unavailable
from core.jobs import Job
from core.registry import PluginFailure

JOB = Job(id="abcdefghijklmnop", slug="attribution", status="running", params={}, progress=0.25, message="fitting")


def test_a_readout_names_each_figure() -> None:
    html = readout({"Wall time": "1.2 s", "Device": "cpu"}, label="This run")
    assert "<dt>Wall time</dt><dd>1.2 s</dd>" in html
    assert 'aria-label="This run"' in html


@pytest.mark.parametrize(
    "html",
    [
        readout({"<b>": "<script>"}, label='"><script>'),
        unavailable("<script>", PluginFailure("<script>", "<script>")),
        job_status(replace(JOB, message="<script>")),
        job_status(replace(JOB, status="failed", error="<script>")),
    ],
    ids=["readout", "unavailable", "job", "failed job"],
)
def test_text_from_outside_is_escaped(html: str) -> None:
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_a_running_job_shows_how_far_it_is_and_what_it_does() -> None:
    html = job_status(JOB)
    assert 'aria-valuenow="25"' in html
    assert "fitting" in html


def test_a_waiting_job_says_how_many_are_before_it() -> None:
    assert "2 ahead" in job_status(replace(JOB, status="waiting", position=3))
    assert "next in line" in job_status(replace(JOB, status="waiting", position=1))


def test_a_failed_job_says_why_instead_of_what_it_did_last() -> None:
    html = job_status(replace(JOB, status="failed", error="the file holds one class only"))
    assert "the file holds one class only" in html
    assert "fitting" not in html
