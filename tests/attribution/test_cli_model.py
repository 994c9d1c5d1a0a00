"""capture, count, explain and gate, one after the other, as a user types them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from plugins.attribution.__main__ import app
from plugins.attribution.report import AttributionReport
from tests.attribution.planted_files import planted_rows, write_parquet

CARD = Path(__file__).resolve().parents[2] / "hub_cards" / "attribution-tiny"
runner = CliRunner()


def run(*arguments: object, code: int = 0) -> str:
    """What a command printed; its exit code is part of what is asked."""
    result = runner.invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result.stdout if code != 2 else result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of one mixture, captured and counted: `one`, `two` under the discretisers of `one`, and `tables`."""
    place = tmp_path_factory.mktemp("attribution")
    first = write_parquet(place / "first.parquet", planted_rows("copy", 21, 400))
    second = write_parquet(place / "second.parquet", planted_rows("copy", 22, 300))
    run("capture", CARD, first, "--to", place / "one", "--layers", "fusion.2")
    run("capture", CARD, second, "--to", place / "two", "--layers", "fusion.2", "--pinned", place / "one" / "pinned")
    run("count", place / "one", place / "two", "--to", place / "tables")
    return place


def test_captures_with_the_same_discretisers_are_counted_together_and_explained(folder: Path, tmp_path: Path) -> None:
    files = {form: tmp_path / f"report.{form}" for form in ("json", "md", "csv", "html")}
    arguments = ["--json", files["json"], "--markdown", files["md"], "--csv", files["csv"], "--html", files["html"]]
    printed = run("explain", folder / "tables", *arguments)
    report = AttributionReport.load(files["json"])
    assert report.examples == 700
    assert report.quantities["unique_1"].value > 0.8
    assert [each.layer for each in report.layers] == ["fusion.2"]
    assert "700 examples" in printed
    assert files["md"].read_text("utf-8").strip() == printed.strip()
    assert set(pd.read_csv(files["csv"])["kind"]) == {"decision", "stream"}
    page = files["html"].read_text("utf-8")
    assert "plotly" in page
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)  # it needs no network


def test_the_gate_ends_with_one_line_and_the_exit_code_of_what_it_found(folder: Path, tmp_path: Path) -> None:
    assert run("gate", folder / "tables", "--stream", "image", "--threshold", 0.5).startswith("pass: ")
    kept = tmp_path / "baseline.json"
    failed = run("gate", folder / "tables", "--stream", "image", "--threshold", 1.5, "--json", kept, code=1)
    assert failed.startswith("fail: ")
    assert failed.count("\n") == 1
    assert run("gate", folder / "tables", "--stream", "image", "--baseline", kept).startswith("pass: ")


def test_captures_of_different_discretisers_are_not_counted_together(folder: Path, tmp_path: Path) -> None:
    run("capture", CARD, folder / "second.parquet", "--to", tmp_path / "own", "--layers", "none")
    error = run("count", folder / "one", tmp_path / "own", "--to", tmp_path / "tables", code=2)
    assert "different discretisers" in error
    assert not (tmp_path / "tables").exists()


def test_a_capture_does_not_write_into_a_folder_that_holds_something(folder: Path) -> None:
    error = run("capture", CARD, folder / "first.parquet", "--to", folder / "one", "--layers", "none", code=2)
    assert "is not empty" in error


def test_a_capture_says_what_was_skipped(tmp_path: Path) -> None:
    rows = planted_rows("copy", 23, 40)
    rows[3]["image"] = {"bytes": b"broken"}
    data = write_parquet(tmp_path / "some.parquet", rows)
    assert "39 examples, 1 skipped" in run("capture", CARD, data, "--to", tmp_path / "out", "--layers", "none")
    record = json.loads((tmp_path / "out" / "capture.json").read_text("utf-8"))
    assert len(record["skipped"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["capture", "no/such-model", "data", "--to", "out"], "no/such-model"),
        (["count", "nothing", "--to", "out"], "holds no pinned discretisers"),
        (["gate", "nothing", "--stream", "image", "--threshold", "1"], "count"),
        (["explain", "."], "count"),
    ],
)
def test_what_is_not_there_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = run(*arguments, code=2)
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
