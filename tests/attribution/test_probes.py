"""Cross-fitted probes: what a stream says to a simple classifier that has not seen the example."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from plugins.attribution import AttributionInputError
from plugins.attribution.joint_probe import joint_cross_fit
from plugins.attribution.probes import cross_fit
from plugins.attribution.synthetic import planted_signal


def blobs(n: int, classes: int, columns: int, seed: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clouds around a centre for each class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return rng.standard_normal((classes, columns))[y] * spread + rng.standard_normal((n, columns)), y


class StoppedError(Exception):
    """Raised by a callback."""


@pytest.mark.parametrize(("classes", "columns"), [(2, 20), (3, 30), (5, 20)])
def test_usable_information_is_what_scikit_learn_cross_validates(classes: int, columns: int) -> None:
    x, y = blobs(1500, classes, columns, seed=classes, spread=0.4)
    fit = cross_fit(x, y)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    predicted = cross_val_predict(reference, x, y, cv=5, method="predict_proba")
    theirs = (np.log(classes) - log_loss(y, predicted)) / np.log(2)
    assert theirs > 0.2
    assert fit.usable_information == pytest.approx(theirs, abs=0.03)
    assert fit.accuracy == pytest.approx(float((predicted.argmax(axis=1) == y).mean()), abs=0.02)
    np.testing.assert_allclose(np.exp(fit.log_posterior).sum(axis=1), 1.0)


def test_usable_information_is_a_lower_bound_that_is_nearly_reached() -> None:
    """X = 2 (Y - 1/2) + N tells 0.486 bits."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 6000)
    fit = cross_fit((2.0 * (y - 0.5) + rng.standard_normal(6000))[:, None], y)
    assert fit.usable_information == pytest.approx(0.486, abs=3 * fit.standard_error + 0.005)
    assert 0.003 < fit.standard_error < 0.02


def test_columns_that_say_nothing_read_as_nothing() -> None:
    rng = np.random.default_rng(1)
    fit = cross_fit(rng.standard_normal((600, 40)), rng.integers(0, 3, 600))
    assert -0.05 < fit.usable_information < 0.02
    assert fit.accuracy < 0.42


def test_no_example_is_read_by_a_probe_that_has_seen_it() -> None:
    x, y = blobs(300, 2, 5, seed=2)
    fit = cross_fit(x, y)
    rows = np.sort(np.concatenate([test for _, test in fit.fold_probes]))
    assert np.array_equal(rows, np.arange(300))
    for probe, test in fit.fold_probes:
        np.testing.assert_allclose(probe.log_posterior(x[test]), fit.log_posterior[test], atol=1e-10)


def test_a_few_columns_are_read_with_their_products() -> None:
    rng = np.random.default_rng(3)
    x = rng.choice([-1.0, 1.0], (800, 2)) + 0.2 * rng.standard_normal((800, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    assert cross_fit(x, y).usable_information > 0.8
    assert cross_fit(x, y, quadratic=False).usable_information < 0.05


def test_the_joint_probe_reads_what_neither_stream_says_alone() -> None:
    rng = np.random.default_rng(4)
    first, second = (rng.choice([-1.0, 1.0], 1000) for _ in range(2))
    x1 = np.stack([first + 0.3 * rng.standard_normal(1000), rng.standard_normal(1000)], axis=1)
    x2 = np.stack([second + 0.3 * rng.standard_normal(1000), rng.standard_normal(1000)], axis=1)
    y = (first != second).astype(int)
    fits = cross_fit(x1, y), cross_fit(x2, y)
    joint = joint_cross_fit(x1, x2, y, fits)
    assert max(fit.usable_information for fit in fits) < 0.02
    assert joint.cross_fit.usable_information > 0.85
    for scores, truth in zip(joint.scores, (first, second), strict=True):
        assert abs(np.corrcoef(scores, truth)[0, 1]) > 0.9


def test_classes_of_few_examples_are_read_with_fewer_folds_and_single_ones_refused() -> None:
    x, y = blobs(60, 2, 3, seed=5)
    y[:] = 0
    y[:3] = 1
    assert len(cross_fit(x, y).fold_probes) == 3
    y[1:3] = 0
    with pytest.raises(AttributionInputError, match="class 1 has 1 example"):
        cross_fit(x, y)


def test_the_same_seed_gives_the_same_posteriors() -> None:
    x, y = blobs(200, 3, 4, seed=6)
    first, again, other = (cross_fit(x, y, seed=s).log_posterior for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_constant_column_and_a_wild_one_do_no_harm() -> None:
    x, y = blobs(400, 2, 3, seed=7)
    plain = cross_fit(x, y).usable_information
    wild = np.concatenate([x, np.ones((400, 1)), np.full((400, 1), 1e12)], axis=1)
    wild[0, 4] = -1e15
    assert cross_fit(wild, y).usable_information == pytest.approx(plain, abs=0.03)


def test_the_callback_sees_progress_and_can_stop_the_work_anywhere() -> None:
    x, y = blobs(300, 2, 4, seed=8)
    seen: list[float] = []
    cross_fit(x, y, callback=lambda fraction, message: seen.append(fraction))
    assert seen == sorted(seen)
    assert 0 <= seen[0] <= seen[-1] <= 1
    for stop_at in (1, len(seen) // 2, len(seen)):
        calls: list[float] = []

        def stop(fraction: float, message: str, calls: list[float] = calls, stop_at: int = stop_at) -> None:
            calls.append(fraction)
            if len(calls) == stop_at:
                raise StoppedError

        with pytest.raises(StoppedError):
            cross_fit(x, y, callback=stop)


def test_rows_sorted_by_class_change_nothing_of_substance() -> None:
    streams = planted_signal(6000, dimension=24)
    order = np.argsort(streams.y, kind="stable")
    mixed = cross_fit(streams.x1, streams.y)
    in_order = cross_fit(streams.x1[order], streams.y[order])
    assert in_order.usable_information == pytest.approx(mixed.usable_information, abs=0.01)
