"""The model tab's work and views, without a browser."""

from __future__ import annotations

import runpy
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apps.attribution import model_views, views
from apps.attribution.links import place_of
from apps.attribution.model_work import MIXTURES, MODEL_DOWNLOADS, ModelRequest, check, snippet, submit
from core.jobs import default_store
from plugins.attribution import AttributionInputError, AttributionReport
from plugins.attribution.figures import COLOURS
from plugins.attribution.layers import DroppingTest
from plugins.attribution.planted import MIXTURES as PLANTED
from tests.attribution.planted_files import planted_rows, write_parquet

HOSTILE = "<img src=x onerror=alert(1)>"


def wait(job: str) -> Any:
    store = default_store()
    while not (found := store.get(job)).over:
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def done() -> Any:
    """The page's own example, smaller."""
    return wait(submit(ModelRequest(mixture="redundant", examples=300)))


@pytest.fixture(scope="module")
def report(done: Any) -> AttributionReport:
    assert done.status == "done", done.error
    return AttributionReport.from_dict(done.result["report"])


def test_a_job_leaves_every_download_and_the_planted_truth(done: Any) -> None:
    assert {path.name for path in done.artefacts} == set(MODEL_DOWNLOADS)
    assert tuple(done.result["truth"]) == PLANTED["redundant"].atoms
    assert place_of(done.id) == "model"


def test_a_file_of_the_user_is_explained_without_a_truth(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "mine.parquet", planted_rows("copy", 3, 220))
    job = wait(submit(ModelRequest(file=file, target="label")))
    assert job.status == "done", job.error
    assert job.result["truth"] is None
    assert job.params["file"] == "mine.parquet"


def test_names_of_skipped_examples_are_escaped(report: AttributionReport) -> None:
    assert report.model is not None
    shown = replace(report, model=replace(report.model, model=HOSTILE, skipped=((HOSTILE, HOSTILE),)))
    for piece in (
        model_views.skipped_list(shown),
        model_views.cost_readout(shown, 1.0),
        model_views.layers_table(shown, "stream"),
        model_views.truth_table(shown, PLANTED["redundant"].atoms),
    ):
        assert HOSTILE not in piece
    assert "&lt;img" in model_views.skipped_list(shown)


def test_the_page_says_where_exchanging_a_modality_misleads(report: AttributionReport) -> None:
    assert report.model is not None

    def said(without_1: float, without_2: float) -> str:
        test = DroppingTest(1.0, without_1, without_2, "label")
        assert report.model is not None
        return model_views.misled(replace(report, model=replace(report.model, dropping=test)))

    assert "text can go" in said(0.5, 1.0)
    assert "image can go" in said(1.0, 0.5)
    assert "each could do the whole work alone" in said(0.7, 0.7)


def test_the_snippet_is_what_the_job_did(tmp_path: Path) -> None:
    request = ModelRequest(mixture="image", examples=250, seed=4)
    code = snippet(request).replace("hub_cards/attribution-tiny", str(Path("hub_cards/attribution-tiny").resolve()))
    file = tmp_path / "snippet.py"
    file.write_text(code, "utf-8")
    assert runpy.run_path(str(file))["report"].examples == 250


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ModelRequest(model="../../etc", mixture="image"), "not a Hub id"),
        (ModelRequest(model="hub_cards/sata-tiny", mixture="image"), "not a Hub id"),
        (ModelRequest(mixture="nothing"), "choose from image"),
        (ModelRequest(), "parquet"),
        (ModelRequest(mixture="image", examples=10), "200 to 5,000"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_job_begins(request_: ModelRequest, message: str) -> None:
    with pytest.raises(AttributionInputError, match=message):
        check(request_)


def test_the_page_offers_the_mixtures_under_their_own_titles() -> None:
    assert {title: name for name, title in ((each.name, each.title) for each in PLANTED.values())} == MIXTURES


def test_an_atom_has_one_colour_everywhere() -> None:
    assert views.COLOURS == COLOURS
