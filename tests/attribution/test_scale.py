"""Counting a sharded data set: the same however it is sharded, whoever counts, and however often it is cut."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.attribution import AttributionInputError, JointCounts, PIDAttributionPipeline
from plugins.attribution import scale as scale_module
from plugins.attribution.pinned import LayerTables
from plugins.attribution.scale import Job, run_here, run_on_ray, shards_of
from tests.attribution.planted_files import planted_rows, write_parquet

CARD = Path(__file__).resolve().parents[2] / "hub_cards" / "attribution-tiny"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return planted_rows("mixed", 31, 120)


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discretisers of the embedded model, with one layer."""
    folder = tmp_path_factory.mktemp("pinned")
    data = write_parquet(folder / "fit.parquet", planted_rows("mixed", 30, 400))
    PIDAttributionPipeline.from_pretrained(CARD).fit_model(data, layers=["fusion.2"]).save(folder / "pinned")
    return folder / "pinned"


def job(to: Path, pinned: Path, batch_size: int = 1) -> Job:
    return Job(model=str(CARD), pinned=pinned, to=to, batch_size=batch_size)


def shard(folder: Path, rows: list[dict[str, Any]], cuts: list[int]) -> tuple[Path, ...]:
    """The rows in files, cut before the given places."""
    for place, part in enumerate(np.split(np.arange(len(rows)), cuts)):
        write_parquet(folder / f"{place:03d}.parquet", [rows[each] for each in part])
    return shards_of(folder)


def equal(one: LayerTables, other: LayerTables) -> bool:
    return one.counts.keys() == other.counts.keys() and all(
        np.array_equal(each.table, other.counts[name].table) and each.discretiser == other.counts[name].discretiser
        for name, each in one.counts.items()
    )


@given(data=st.data(), n=st.integers(0, 60), seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_tables_of_any_partition_merge_in_any_order_to_the_same(data: st.DataObject, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, (3, n))
    owner = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), dtype=int)
    order = data.draw(st.permutations(range(5)))
    whole = LayerTables({"decision": JointCounts(3, 3, 3).update(*codes)})
    merged = LayerTables({"decision": JointCounts(3, 3, 3)})
    for each in order:
        merged = merged.merge(LayerTables({"decision": JointCounts(3, 3, 3).update(*codes[:, owner == each])}))
    assert equal(whole, merged)


@pytest.mark.parametrize("cuts", [[60], [1, 2, 117], [17, 41, 80, 101]])
def test_counts_do_not_depend_on_how_the_rows_are_sharded(rows, pinned, cuts, tmp_path) -> None:
    whole = run_here(job(tmp_path / "whole", pinned), shard(tmp_path / "a", rows, []))
    parts = run_here(job(tmp_path / "parts", pinned), shard(tmp_path / "b", rows, cuts))
    assert parts.shards == len(cuts) + 1
    assert whole.examples == parts.examples == 120
    assert equal(whole.tables, parts.tables)


def test_ray_counts_what_one_process_counts(rows, pinned, tmp_path) -> None:
    shards = shard(tmp_path / "data", rows, [50])
    here = run_here(job(tmp_path / "here", pinned, batch_size=16), shards)
    there = run_on_ray(job(tmp_path / "there", pinned, batch_size=16), shards, workers=1)
    assert there.counted == 2
    assert equal(here.tables, there.tables)
    again = run_on_ray(job(tmp_path / "there", pinned, batch_size=16), shards, workers=1)
    assert again.counted == 0
    assert equal(here.tables, again.tables)


def test_a_run_that_was_cut_goes_on_and_counts_nothing_twice(rows, pinned, tmp_path, monkeypatch) -> None:
    shards = shard(tmp_path / "data", rows, [40, 80])
    whole = run_here(job(tmp_path / "whole", pinned), shards)
    real, calls = LayerTables.save, []

    def cut(self: LayerTables, path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(LayerTables, "save", cut)
        with pytest.raises(KeyboardInterrupt):
            run_here(job(tmp_path / "cut", pinned), shards)
    assert not (tmp_path / "cut" / "tables.safetensors").exists()
    resumed = run_here(job(tmp_path / "cut", pinned), shards)
    assert resumed.counted == 2
    assert equal(whole.tables, resumed.tables)


def test_a_shard_that_changed_is_counted_anew(rows, pinned, tmp_path) -> None:
    shards = shard(tmp_path / "data", rows, [100])
    run_here(job(tmp_path / "out", pinned), shards)
    write_parquet(shards[1], rows[100:110])
    done = run_here(job(tmp_path / "out", pinned), shards)
    assert (done.counted, done.examples) == (1, 110)


def test_the_same_shard_twice_is_refused(rows, pinned, tmp_path) -> None:
    shards = shard(tmp_path / "data", rows, [100])
    shutil.copy(shards[0], tmp_path / "data" / "copy.parquet")
    with pytest.raises(AttributionInputError, match="counted twice"):
        run_here(job(tmp_path / "out", pinned), shards_of(tmp_path / "data"))


def test_a_folder_without_shards_is_refused(tmp_path) -> None:
    with pytest.raises(AttributionInputError, match=r"no shards.*parquet"):
        shards_of(tmp_path)


def test_without_ray_the_way_out_is_told(pinned, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(AttributionInputError, match=r"requirements-scale.*--workers 0"):
        run_on_ray(job(tmp_path, pinned), (), workers=2)
    assert scale_module.SHARDS_FOLDER not in {path.name for path in tmp_path.iterdir()}
