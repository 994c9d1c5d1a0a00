"""The benchmark times what it says, judges the bars, and writes table and plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from plugins.sparse_video import benchmark
from plugins.sparse_video.__main__ import app
from plugins.sparse_video.benchmark_data import Case, case_from_file, cases_of_lengths, grid_of_length
from plugins.sparse_video.benchmark_memory import peak_in_new_process
from plugins.sparse_video.benchmark_methods import DENSE, Method
from plugins.sparse_video.benchmark_report import to_markdown, to_svg
from plugins.sparse_video.errors import SparseVideoInputError

SMALL = Case("small", (4, 16, 16), 1, 16)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return benchmark.run_benchmark([SMALL], [1.0, 0.25], dtype="fp32", repeats=3, all_executors=False)
    finally:
        torch.set_num_threads(threads)


def rows_of(report: dict[str, Any], method: str) -> list[dict[str, Any]]:
    return [row for row in report["rows"] if row["method"] == method]


def test_it_times_dense_sparse_rectified_and_centroid_beside_each_other(report: dict[str, Any]) -> None:
    methods = [DENSE, "rectified", "sparse", "rectified", "centroid", "rectified, neighbours too"]
    assert [row["method"] for row in report["rows"]] == methods
    for row in report["rows"]:
        assert row["rounds"] == 3 or not row["judged"]
        assert row["seconds"] > 0
        assert row["speed_up_low"] <= row["speed_up"] <= row["speed_up_high"]
    assert rows_of(report, DENSE)[0]["speed_up"] == 1
    assert report["machine"]["threads"] == 1
    assert report["matrix_gflops"] > 0


def test_density_one_is_dense_and_less_is_not(report: dict[str, Any]) -> None:
    whole, quarter = rows_of(report, "rectified")
    assert (whole["density"], whole["error"], whole["ideal_share"]) == (1, 0, None)
    assert quarter["density"] == 0.25
    assert rows_of(report, "rectified, neighbours too")[0]["density"] > 0.25
    assert 0 < quarter["error"] < 1
    assert quarter["ideal_share"] == pytest.approx(quarter["speed_up"] * quarter["density"])
    assert 0 < quarter["overhead"] < 1


def test_the_mask_is_the_same_for_all_and_the_centroids_help_on_smooth_fields(report: dict[str, Any]) -> None:
    sparse, centroid = rows_of(report, "sparse")[0], rows_of(report, "centroid")[0]
    assert sparse["density"] == centroid["density"] == rows_of(report, "rectified")[1]["density"]
    assert centroid["error"] < sparse["error"]


def test_the_report_is_json_a_table_and_a_plot(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report)) == report
    table = to_markdown(report)
    assert table.count("\n| small |") == len(report["rows"])
    assert report["machine"]["date"] in table
    plot = ElementTree.fromstring(to_svg(report, SMALL.tokens))
    assert len(plot.findall("{*}circle")) == len(rows_of(report, "rectified"))
    assert to_svg(report, 1) == ""


def judged(**change: Any) -> list[dict[str, Any]]:
    row = {
        "case": "16,384 x 4 x 64",
        "tokens": 16384,
        "head_dim": 64,
        "method": "rectified",
        "judged": True,
        "asked_density": 0.25,
        "speed_up": 2.0,
        "overhead": 0.1,
        "memory_ratio": 1.2,
    }
    return list(benchmark._judge([row | change], torch.device("cpu")))


def test_bars_are_met_missed_or_not_told() -> None:
    assert [bar["met"] for bar in judged()] == [True, True, True]
    assert [bar["met"] for bar in judged(speed_up=1.8, overhead=0.2, memory_ratio=1.4)] == [False, False, False]
    assert [bar["met"] for bar in judged(asked_density=0.125, speed_up=3.4)] == [False, True, True]
    assert [bar["met"] for bar in judged(head_dim=128, speed_up=2.1)] == [False, True, True]
    assert len(judged(memory_ratio=None)) == 2
    assert judged(tokens=4096) == judged(asked_density=0.5) == judged(judged=False) == []


def test_on_a_gpu_the_hunyuan_shape_is_judged_at_a_fifth() -> None:
    row = {"case": benchmark.GPU_CASE, "method": "rectified", "judged": True, "asked_density": 0.2, "speed_up": 3.4}
    (bar,) = benchmark._judge([row, row | {"asked_density": 0.25}], torch.device("cuda"))
    assert not bar["met"]


def test_a_method_that_fails_is_left_out_with_a_note() -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no kernel\nmore")

    tensors = SMALL.tensors(torch.device("cpu"), torch.float32)
    notes: list[str] = []
    methods = [
        Method("dense, broken", dense=fail),
        Method(DENSE, dense=torch.nn.functional.scaled_dot_product_attention),
    ]
    samples = benchmark._time(SMALL, methods, tensors, 1, 1.0, lambda _: None, notes)
    assert list(samples) == methods[1:]
    assert notes == ["dense, broken at small failed: no kernel"]
    with pytest.raises(SparseVideoInputError, match="no kernel"):
        benchmark._time(SMALL, methods[:1], tensors, 1, 1.0, lambda _: None, notes)


@pytest.mark.parametrize(
    ("length", "grid"), [(4096, (16, 16, 16)), (16384, (16, 32, 32)), (32760, (30, 28, 39)), (7, (1, 1, 7))]
)
def test_lengths_become_grids(length: int, grid: tuple[int, int, int]) -> None:
    assert grid_of_length(length) == grid
    (case,) = cases_of_lengths([length], 2, [64])
    assert case.tokens == length


def test_fields_are_smooth_repeatable_and_of_unit_variance() -> None:
    query, key, _ = Case("", (8, 8, 16), 2, 16).tensors(torch.device("cpu"), torch.float32)
    again, _, _ = Case("", (8, 8, 16), 2, 16).tensors(torch.device("cpu"), torch.float32)
    assert torch.equal(query, again)
    assert not torch.equal(query, key)
    assert query.shape == (1, 2, 1024, 16)
    assert float(query.var()) == pytest.approx(1.09, abs=0.05)
    steps = query.view(2, 8, 8, 16, 16).diff(dim=3)
    assert float(steps.var()) < 0.7  # white noise would have 2.18


def test_captured_tensors_are_one_more_case(tmp_path: Path) -> None:
    path = tmp_path / "layer.safetensors"
    tensors = {name: torch.randn(1, 2, 24, 8) for name in ("query", "key", "value")}
    save_file(tensors, path, metadata={"grid": "2,3,4"})
    case = case_from_file(path)
    assert (case.name, case.grid, case.heads, case.head_dim, case.tokens) == ("layer", (2, 3, 4), 2, 8, 24)
    assert torch.equal(case.tensors(torch.device("cpu"), torch.float32)[1], tensors["key"])
    save_file(tensors, path, metadata={"grid": "2,3,5"})
    with pytest.raises(SparseVideoInputError, match="grid"):
        case_from_file(path)
    save_file({"query": tensors["query"]}, path)
    with pytest.raises(SparseVideoInputError, match="query, key and value"):
        case_from_file(path)
    with pytest.raises(SparseVideoInputError, match="no captured attention"):
        case_from_file(tmp_path / "absent.safetensors")


def test_peak_memory_is_that_of_another_process() -> None:
    peak = peak_in_new_process(SMALL, Method(DENSE), torch.float32)
    assert peak is None or 50e6 < peak < 2e9


def test_the_command_writes_report_table_and_plot(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    arguments = ["--lengths", "1024", "--head-dims", "16", "--heads", "1", "--densities", "0.25", "--repeats", "1"]
    result = CliRunner().invoke(app, ["bench", *arguments, "--no-all-executors", "--json", str(path)])
    assert result.exit_code == 0, result.output
    assert "| 1,024 x 1 x 16 | rectified |" in result.output
    assert json.loads(path.read_text())["executor"]["name"] in ("gather", "reference")
    assert path.with_suffix(".md").read_text().strip() in result.output
    assert path.with_suffix(".svg").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--densities", "0.5,x"], "densities are"),
        (["--lengths", "-4"], "lengths are"),
        (["--device", "cuda:99"], "cuda"),
        (["--qkv", "absent.safetensors"], "no captured attention"),
        (["--json", "absent/report.json"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
