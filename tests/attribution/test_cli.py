"""The command line: what it prints and writes, and how it says no."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from core.runs import RunRecord
from plugins.attribution.__main__ import app
from plugins.attribution.report import AttributionReport

ROOT = Path(__file__).resolve().parents[2]
runner = CliRunner()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A csv of two noisy bits and their sum, 600 rows; "sum" is the target."""
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 2, (2, 600))
    noisy = np.where(rng.random(600) < 0.1, 1 - left, left)
    path = tmp_path_factory.mktemp("data") / "bits.csv"
    pd.DataFrame({"left": noisy, "right": right, "sum": left + right}).to_csv(path, index=False)
    return path


def refusal(*arguments: str) -> str:
    """Run what must fail, and return its one line."""
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("command", [[], ["explain"], ["selftest"], ["bench"]])
def test_help_imports_no_torch(command: list[str]) -> None:
    code = (
        "import sys; from plugins.attribution.__main__ import app\n"
        "try: app(sys.argv[1:], prog_name='x')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    arguments = [sys.executable, "-c", code, *command, "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_explain_prints_the_summary_and_writes_every_file(table: Path, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "markdown", "csv", "run")}
    options = [part for kind, path in files.items() for part in (f"--{kind}", str(path))]
    result = runner.invoke(app, ["explain", str(table), "--target", "sum", "--cost", "left=4", *options])
    assert result.exit_code == 0, result.output
    report = AttributionReport.load(files["json"])
    assert report.names == ("left", "right")
    assert result.stdout == report.to_markdown() + "\n" == files["markdown"].read_text("utf-8")
    assert report.verdicts[0].cost == 4.0
    assert report.verdicts[1].cost is None
    frame = pd.read_csv(files["csv"])
    assert frame["bits"].tolist() == pytest.approx([e.value for e in report.quantities.values()])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in files.values())


def test_the_run_record_repeats_the_run(table: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run.json", tmp_path / "report.json"
    options = ["--target", "sum", "--seed", "3", "--bins", "4", "--run", str(run), "--json", str(out)]
    assert runner.invoke(app, ["explain", str(table), *options]).exit_code == 0
    record = RunRecord.from_json(run.read_text("utf-8"))
    assert (record.plugin, record.seed, record.device) == ("attribution", 3, "cpu")
    assert record.params["bins"] == 4
    assert record.peak_memory_bytes
    assert record.versions["torch"]
    code = record.command + "print(report.to_json())"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert again.returncode == 0, again.stderr
    first, second = json.loads(out.read_text("utf-8")), json.loads(again.stdout)
    assert first["quantities"] == second["quantities"]


def test_columns_can_be_chosen(table: Path) -> None:
    chosen = ["--stream-1", "right", "--stream-2", "left", "--target", "sum"]
    result = runner.invoke(app, ["explain", str(table), *chosen])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("**right and left** about 3 classes")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "colour"], "there is no column 'colour'"),
        (["--cost", "left"], "write name=dollars"),
        (["--cost", "middle=3"], "the streams are left and right"),
        (["--quantiser", "magic"], "choose from"),
        (["--bins", "1"], "choose 2 to 50"),
        (["--confidence", "2"], "between 0.5 and 0.999"),
    ],
)
def test_what_explain_refuses_is_one_line(table: Path, options: list[str], said: str) -> None:
    target = [] if "--target" in options else ["--target", "sum"]
    assert said in refusal("explain", str(table), *target, *options)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert "there is no file nowhere.npz" in refusal("explain", str(tmp_path / "nowhere.npz"))


def test_an_output_folder_that_is_missing_is_refused_before_any_work(table: Path, tmp_path: Path) -> None:
    said = refusal("explain", str(table), "--target", "sum", "--json", str(tmp_path / "no" / "out.json"))
    assert "name a file in a folder that exists" in said


def test_a_refusal_leaves_an_older_result_as_it_was(table: Path, tmp_path: Path) -> None:
    old = tmp_path / "out.json"
    old.write_text("older")
    refusal("explain", str(table), "--target", "colour", "--json", str(old))
    assert old.read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize("seeds", ["3", "3:3", "a:b", "-1:2"])
@pytest.mark.parametrize("command", ["selftest", "bench"])
def test_seeds_that_are_no_range_are_refused(command: str, seeds: str) -> None:
    assert "write A:B" in refusal(command, f"--seeds={seeds}")


def test_selftest_passes_on_other_seeds_and_writes_its_figures(tmp_path: Path) -> None:
    out = tmp_path / "selftest.json"
    result = runner.invoke(app, ["selftest", "--draws", "3", "--seeds", "7:8", "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert "every bar is met" in result.stdout
    checks = json.loads(out.read_text("utf-8"))["checks"]
    assert [check["title"].split(",")[0] for check in checks] == [
        "Closed forms",
        "Stress",
        "Sampled data",
        "Planted signal in 256 dimensions",
        "Shuffled sensor data",
    ]
    assert len({row[0] for row in checks[2]["rows"]}) >= 8
    assert all(check["failures"] == [] for check in checks)


def test_a_bar_that_is_missed_fails_the_selftest(monkeypatch: pytest.MonkeyPatch) -> None:
    from plugins.attribution import selftest

    monkeypatch.setattr(selftest, "ATOL", 0.0)
    check = selftest.check_closed_forms(range(1))
    assert check.failures
    assert "- FAILED: " in check.to_markdown()
    monkeypatch.setattr(selftest, "run_checks", lambda *_, **__: iter([check]))
    result = runner.invoke(app, ["selftest"])
    assert result.exit_code == 1
    assert f"{len(check.failures)} bars missed" in result.stdout


@pytest.mark.solvers
def test_the_independent_solvers_agree_with_ours() -> None:
    pytest.importorskip("cvxpy")
    pytest.importorskip("ecos")
    from plugins.attribution import decompose
    from plugins.attribution.benchmark import dense_table
    from plugins.attribution.independent import solve_clarabel, solve_dit

    table = dense_table((4, 3, 3), 5)
    expected = float(decompose(table).union_information)
    found = [solve_clarabel(table, lifted=True), solve_clarabel(table, lifted=False), solve_dit(table)]
    assert [one.union_information for one in found] == pytest.approx([expected] * 3, abs=1e-6)
    assert all(0 < one.solve_seconds <= one.total_seconds for one in found)


@pytest.mark.solvers
def test_bench_measures_every_solver_in_the_same_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plugins.attribution import benchmark

    monkeypatch.setattr(benchmark, "SIZES", ((4, 4, 3),))
    monkeypatch.setattr(benchmark, "BATCH", (20, 3, 3, 2))
    monkeypatch.setattr(benchmark, "BARS", {"4x4x3": 10.0, "3x3x2 x 20": 10.0})
    out = tmp_path / "bench.json"
    result = runner.invoke(app, ["bench", "--repeats", "2", "--seeds", "0:2", "--json", str(out)])
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text("utf-8"))
    rows = {(row["size"], row["solver"]): row for row in report["rows"]}
    assert {size for size, _ in rows} == {"4x4x3", "3x3x2 x 20"}
    ours = rows["4x4x3", benchmark.OURS]
    assert ours["runs"] == 4
    assert ours["gap"] <= 1e-6
    assert ours["low"] <= ours["median"] <= ours["high"]
    assert 0 < ours["floor_share"] < 1
    assert rows["4x4x3", benchmark.PAPER]["gap"] > ours["gap"]
    assert all(row["error"] < 1e-6 for row in rows.values() if row["solver"] != benchmark.PAPER)
    assert report["machine"]["threads"] == 1
    assert not math.isnan(report["float64_gflops"])


def test_a_missed_bar_fails_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    from plugins.attribution import benchmark

    monkeypatch.setattr(benchmark, "SIZES", ((3, 3, 2),))
    monkeypatch.setattr(benchmark, "BATCH", (2, 3, 3, 2))
    monkeypatch.setattr(benchmark, "BARS", {"3x3x2": 1e-9})
    monkeypatch.setattr(benchmark, "_installed", lambda *_: False)
    result = runner.invoke(app, ["bench", "--repeats", "1"])
    assert result.exit_code == 1
    assert "- FAILED: 3x3x2 takes" in result.stdout
    assert "pip install -r requirements-dev.txt" in result.stdout
