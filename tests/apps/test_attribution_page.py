"""The attribution page's views and work, without a browser."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apps.attribution import views
from apps.attribution.work import DOWNLOADS, EXAMPLES, Columns, Request, Settings, snippet, submit
from apps.components import note
from core.jobs import default_store
from plugins.attribution import AttributionReport, PIDAttributionPipeline
from plugins.attribution.synthetic import EXAMPLES as GENERATED
from plugins.attribution.synthetic import sensors

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def report() -> AttributionReport:
    streams = sensors(600)
    return PIDAttributionPipeline()(streams.x1, streams.x2, streams.y, names=(HOSTILE, "colour & co"))


def test_names_from_a_file_are_escaped_wherever_they_are_shown(report: AttributionReport) -> None:
    pieces = (
        views.verdict_cards(report, (1.0, None)),
        views.stack_legend(report.names),
        views.quantities_table(report),
        views.accuracy_table(report),
        views.audit_table(report, report),
        views.reading_table(report),
        note(HOSTILE),
        str(views.stack_figure(report).to_dict()),
        str(views.atoms_figure(report.quantities, report.names).to_dict()),
    )
    assert [piece for piece in pieces if "<img" in piece] == []


def test_a_cost_adds_bits_per_dollar_to_its_own_card_only(report: AttributionReport) -> None:
    with_cost = views.verdict_cards(report, (None, 5.0))
    assert with_cost.count("Bits per dollar") == 1
    expected = report.verdicts[1].lost_if_removed.value / 5
    assert f"{expected:.4f}" in with_cost


def test_withheld_values_are_said_to_be_withheld(report: AttributionReport) -> None:
    quantities = {
        name: replace(e, value=float("nan"), low=float("nan"), high=float("nan"), reliable=False)
        for name, e in report.quantities.items()
    }
    blind = replace(report, quantities=quantities)
    table = views.quantities_table(blind)
    assert table.count("withheld") == len(quantities)
    assert "nan" not in table
    assert "NaN" not in views.stack_figure(blind).to_json()


def test_the_page_offers_exactly_the_generated_examples() -> None:
    assert list(EXAMPLES) == list(GENERATED)


def test_the_snippet_for_an_example_repeats_the_run() -> None:
    code = snippet(Request(Settings(seed=3), example="badge and door"))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("needs early fusion") == 2


def test_the_snippet_for_a_file_cannot_be_broken_out_of() -> None:
    code = snippet(Request(Settings(), file=Path("a'); print('out\n.csv"), columns=Columns(("x",), ("y'",), "z")))
    compile(code, "snippet", "exec")
    assert "\nprint('out" not in code


def test_a_job_writes_every_download_and_a_run_that_can_be_repeated(tmp_path: Path) -> None:
    streams = sensors(400)
    path = tmp_path / "cameras.npz"
    np.savez(path, thermal=streams.x1, colour=streams.x2, y=streams.y)
    job = default_store().wait(submit(Request(Settings(audit=False, seed=5), file=path)), 60)
    assert job.status == "done", job.error
    assert {artefact.name for artefact in job.artefacts} == set(DOWNLOADS)
    run = json.loads(next(a for a in job.artefacts if a.name == "run.json").read_text("utf-8"))
    assert (run["plugin"], run["seed"], run["params"]["file"]) == ("attribution", 5, "cameras.npz")
    assert run["timings"]["total"] > 0
    assert run["peak_memory_bytes"] > 0
