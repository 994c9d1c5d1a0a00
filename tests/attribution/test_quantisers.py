"""Quantisers: which information their codes keep, and that a fitted one never changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from plugins.attribution import AttributionInputError, AttributionReport, PIDAttributionPipeline
from plugins.attribution.discretiser import Discretiser
from plugins.attribution.inputs import Streams, check_streams
from plugins.attribution.quantisers import (
    KMeansQuantiser,
    QuantileQuantiser,
    SymbolQuantiser,
    choose_bins,
    choose_kind,
)
from plugins.attribution.synthetic import lock_and_key, planted_signal

TRUTH = 0.486  # bits that the planted signal of the strong stream tells


@pytest.fixture(scope="module")
def planted() -> dict[str, AttributionReport]:
    streams = planted_signal(2500)
    return {kind: PIDAttributionPipeline(quantiser=kind)(streams) for kind in ("auto", "kmeans")}


def test_posterior_codes_keep_a_planted_signal(planted: dict[str, AttributionReport]) -> None:
    report = planted["auto"]
    assert report.quantities["information_1"].value >= 0.8 * TRUTH
    assert report.quantities["information_1"].value <= TRUTH + 0.05
    assert report.readings[0].quantiser == "posterior"
    assert report.readings[0].retained is not None
    assert report.readings[0].retained > 0.9
    assert not [w for w in report.warnings if "keep" in w]


def test_clusters_of_principal_components_lose_it_and_the_report_says_so(
    planted: dict[str, AttributionReport],
) -> None:
    report = planted["kmeans"]
    assert report.quantities["information_1"].value < 0.05 * TRUTH
    assert report.readings[0].retained is not None
    assert report.readings[0].retained < 0.05
    assert any("strong" in w and "choose the posterior quantiser" in w for w in report.warnings)


def test_an_exclusive_or_of_continuous_columns_is_found() -> None:
    report = PIDAttributionPipeline()(lock_and_key(3000))
    atoms = {name: e.value for name, e in report.atoms.items()}
    assert [r.quantiser for r in report.readings] == ["posterior", "posterior"]
    assert atoms["synergy"] > 0.8
    assert max(atoms["redundancy"], atoms["unique_1"], atoms["unique_2"]) < 0.03
    assert {v.decision for v in report.verdicts} == {"needs early fusion"}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_thirty_columns_of_noise_read_as_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x1, x2 = rng.standard_normal((2000, 30)), rng.standard_normal((2000, 30))
    report = PIDAttributionPipeline()(x1, x2, rng.integers(0, 2, 2000), seed=seed)
    for name, quantity in report.quantities.items():
        assert abs(quantity.value) < 0.03, name
        assert quantity.low < 0.01, name
    assert {v.decision for v in report.verdicts} <= {"drop", "inconclusive"}


def test_the_kind_is_chosen_by_what_the_stream_holds() -> None:
    rng = np.random.default_rng(3)
    few, many = rng.integers(0, 5, (100, 1)) * 1.0, rng.integers(0, 60, (300, 1)) * 1.0
    assert choose_kind(few) == "symbols"
    assert choose_kind(many) == "quantile"
    assert choose_kind(many, categorical=True) == "symbols"
    assert choose_kind(rng.standard_normal((100, 1))) == "quantile"
    assert choose_kind(rng.standard_normal((100, 2))) == "posterior"


def test_bins_leave_five_examples_in_a_cell() -> None:
    for n, classes in ((200, 2), (1000, 4), (5000, 3)):
        bins = choose_bins(n, classes)
        assert bins == 2 or n / (bins**2 * classes) >= 5
    assert choose_bins(10**6, 2) == 10


def test_quantile_bins_have_equal_mass_and_ties_stay_together() -> None:
    x = np.random.default_rng(4).standard_normal((1000, 1))
    codes = QuantileQuantiser.fit(x, 8)(x)
    assert np.bincount(codes).tolist() == [125] * 8
    tied = np.repeat([0.0, 1.0], [900, 100])[:, None]
    quantiser = QuantileQuantiser.fit(tied, 8)
    assert len(np.unique(quantiser(tied[:900]))) == 1
    assert quantiser.symbols <= 3


@pytest.mark.parametrize("offset", [0.0, 1.6e9, -4e15])
def test_symbols_are_told_apart_whatever_their_size(offset: float) -> None:
    x = offset + np.array([[0.0], [1.0], [2.0], [1.0]])
    assert SymbolQuantiser.fit(x)(x).tolist() == [0, 1, 2, 1]


def test_a_symbol_that_was_not_seen_or_too_many_are_refused() -> None:
    quantiser = SymbolQuantiser.fit(np.arange(3.0)[:, None])
    with pytest.raises(AttributionInputError, match="has not seen"):
        quantiser(np.array([[7.0]]))
    with pytest.raises(AttributionInputError, match="at most 50"):
        SymbolQuantiser.fit(np.arange(51.0)[:, None])


def test_clusters_do_not_need_more_distinct_rows_than_there_are() -> None:
    x = np.repeat(np.eye(3), 20, axis=0)
    quantiser = KMeansQuantiser.fit(x, bins=10, seed=0)
    assert quantiser.symbols == 3
    assert len(np.unique(quantiser(x))) == 3


def streams_of(seed: int) -> Streams:
    """A category and a wide stream."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 600)
    colour = np.array(["red", "green", "blue"])[np.where(rng.random(600) < 0.7, y, rng.integers(0, 3, 600))]
    wide = rng.standard_normal((600, 6)) + y[:, None]
    return check_streams(colour, wide, np.array(["a", "b", "c"])[y], ("colour", "wide"))


@pytest.fixture(scope="module")
def fitted() -> Discretiser:
    pipeline = PIDAttributionPipeline()
    pipeline(streams_of(0))
    assert pipeline.discretiser is not None
    return pipeline.discretiser


@pytest.mark.parametrize("kind", ["auto", "kmeans"])
def test_a_saved_discretiser_gives_the_same_codes_and_identity(kind: str, tmp_path: Path) -> None:
    pipeline = PIDAttributionPipeline(quantiser=("auto", kind))
    pipeline(streams_of(0))
    kept = pipeline.discretiser
    assert kept is not None
    kept.save(tmp_path / "d.safetensors")
    back = Discretiser.load(tmp_path / "d.safetensors")
    assert back.identity == kept.identity
    assert (back.classes, back.names, back.categories) == (kept.classes, kept.names, kept.categories)
    new = streams_of(1)
    for ours, theirs, x in zip(back.quantisers, kept.quantisers, (new.x1, new.x2), strict=True):
        assert np.array_equal(ours(x), theirs(x))
    assert back.count(new).merge(kept.count(new)).total == 1200


def test_the_identity_depends_on_all_that_decides_a_code(fitted: Discretiser) -> None:
    assert len(fitted.identity) == 64
    assert replace(fitted, classes=("c", "b", "a")).identity != fitted.identity
    assert replace(fitted, categories=(("red", "green", "blue"), None)).identity != fitted.identity
    moved = replace(fitted.quantisers[1], centres=fitted.quantisers[1].centres + 1e-9)  # ty: ignore
    assert replace(fitted, quantisers=(fitted.quantisers[0], moved)).identity != fitted.identity


def test_counts_of_two_discretisers_do_not_merge(fitted: Discretiser) -> None:
    other = PIDAttributionPipeline()
    other(streams_of(5))
    assert other.discretiser is not None
    with pytest.raises(AttributionInputError, match="different discretisers"):
        fitted.count(streams_of(1)).merge(other.discretiser.count(streams_of(1)))


def test_a_damaged_discretiser_is_refused(fitted: Discretiser, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    fitted.save(path)
    whole = path.read_bytes()
    for position in (len(whole) - 1, len(whole) - 200, len(whole) // 2):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        with pytest.raises(AttributionInputError, match=r"damaged|not a fitted discretiser"):
            Discretiser.load(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AttributionInputError, match="not a fitted discretiser"):
        Discretiser.load(path)


def test_a_file_that_is_no_discretiser_is_refused(fitted: Discretiser, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    with pytest.raises(AttributionInputError, match="not a fitted discretiser"):
        Discretiser.load(path)
    fitted.save(path)
    arrays = load_file(path)
    save_file(arrays, path)  # without its metadata
    with pytest.raises(AttributionInputError, match="not a fitted discretiser"):
        Discretiser.load(path)
    fitted.empty_counts().save(path)
    with pytest.raises(AttributionInputError, match="not a fitted discretiser"):
        Discretiser.load(path)


def test_new_examples_must_be_of_the_streams_that_it_was_fitted_on(fitted: Discretiser) -> None:
    new = streams_of(1)
    with pytest.raises(AttributionInputError, match="fitted on colour and wide"):
        fitted.count(Streams(new.x1, new.x2, new.y, ("wide", "colour"), new.categories))
    with pytest.raises(AttributionInputError, match="wide has 5 columns, the discretiser was fitted on 6"):
        fitted.count(replace(new, x2=new.x2[:, :5]))
    with pytest.raises(AttributionInputError, match="the target holds d"):
        fitted.count(replace(new, y=np.where(new.y == "a", "d", new.y)))
