"""Bad input: each kind is refused with a sentence that says what is allowed, before it costs memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plugins.attribution import AttributionInputError, PIDAttributionPipeline
from plugins.attribution.inputs import Streams, check_streams
from tests.attribution.memory import memory_under

N = 60
RNG = np.random.default_rng(0)
X1, X2, Y = RNG.standard_normal((N, 2)), RNG.standard_normal(N), np.arange(N) % 3


def with_value(value: float) -> np.ndarray:
    x = X1.copy()
    x[7, 1] = value
    return x


@pytest.mark.parametrize(
    ("x1", "x2", "y", "reason"),
    [
        (with_value(np.nan), X2, Y, r"x1 has 1 missing or infinite values, the first in row 8, column 2: fill them in"),
        (with_value(-np.inf), X2, Y, r"x1 has 1 missing or infinite"),
        (X1[:-1], X2, Y, r"lengths differ: x1 has 59 rows, x2 has 60 rows, the target has 60 rows"),
        (X1, X2[:-3], Y, r"lengths differ"),
        (X1, X2, np.ones(N), r"one class only \(1\): give examples of two or more"),
        (X1, X2, np.arange(N), r"60 different values, at most 50 classes are allowed: bin a continuous target first"),
        (X1, X2, RNG.standard_normal(N), r"bin a continuous target first, for example into quartiles"),
        (X1, X2, np.r_[2, np.arange(N - 1) % 2], r"class 2 has one example: merge or drop rare classes"),
        (X1, X2, np.where(Y == 0, np.nan, Y), r"the target has missing or infinite values: drop those rows"),
        (X1, X2, np.array([None, "a", "b"] * 20, dtype=object), r"the target has missing values"),
        (X1, X2, np.array([[1], "a", "b"] * 20, dtype=object), r"the target has missing values or none that can be"),
        (X1, X2, np.eye(3)[Y], r"one class label per example, \[n\]"),
        (X1, X2, Y * 1j, r"give class labels, numbers or texts"),
        (X1, X2, np.array(["x" * 201, "b"] * 30), r"text of 201 characters in row 1, a label has at most 200"),
        (X1[:6], X2[:6], Y[:6], r"6 examples are too few: give 20 or more"),
        (X1, X2, None, r"three things are needed"),
        (X1, None, None, r"three things are needed"),
        (np.zeros((N, 2, 2)), X2, Y, r"x1 has shape \(60, 2, 2\): give \[n\] or \[n, columns\]"),
        (np.zeros((N, 0)), X2, Y, r"x1 has shape \(60, 0\)"),
        (np.zeros((N, 50_000), dtype=np.int8), X2, Y, r"50,000 columns, limit 20,000: pool or project the features"),
        (np.broadcast_to(np.float32(0), (2_000_001, 1)), X2, Y, r"more than 2,000,000 rows: count shards"),
        (np.broadcast_to(np.float32(0), (2_000_000, 200)), X2, Y, r"400,000,000 values, limit 250,000,000"),
        (np.array([["a", "b"]] * N), X2, Y, r"text in 2 columns: text is allowed in one only"),
        (np.array([f"word {i}" for i in range(N)]), X2, Y, r"60 different texts, at most 50 categories are allowed"),
        (np.array(["a", None, "b"] * 20, dtype=object), X2, Y, r"x1 has missing values .* the first in row 2"),
        (np.array(["a", np.nan, "b"] * 20, dtype=object), X2, Y, r"x1 has missing values"),
        (np.zeros(N, dtype="datetime64[s]"), X2, Y, r"give numbers, or one column of categories"),
        ([[1.0], [1.0, 2.0]] * 30, X2, Y, r"cannot be read as an array"),
    ],
)
def test_bad_arrays_are_refused_with_what_is_allowed(x1, x2, y, reason: str) -> None:
    with memory_under(100), pytest.raises(AttributionInputError, match=reason):
        check_streams(x1, x2, y)


def test_names_must_differ_and_a_file_comes_alone() -> None:
    with pytest.raises(AttributionInputError, match="two different names"):
        check_streams(X1, X2, Y, ("a", "a"))
    with pytest.raises(AttributionInputError, match="either a file or three arrays"):
        check_streams("data.npz", X2, Y)
    with pytest.raises(AttributionInputError, match="either a file or three arrays"):
        check_streams(Streams(X1, X2[:, None], Y, ("a", "b")), X2, Y)


def test_tensors_lists_and_categories_are_taken() -> None:
    streams = check_streams(torch.tensor(X1, dtype=torch.bfloat16), X2.tolist(), [b"a", "b", "c"] * 20)
    assert (streams.x1.shape, streams.x2.shape) == ((N, 2), (N, 1))
    assert streams.x1.dtype == streams.x2.dtype == np.float64
    assert set(streams.y) == {"a", "b", "c"}
    coloured = check_streams(["red", "blue", "red"] * 20, X2, np.array([True, False] * 30))
    assert coloured.categories == (("blue", "red"), None)
    assert coloured.x1[:3, 0].tolist() == [1, 0, 1]


def test_whole_floats_are_classes_like_integers() -> None:
    assert check_streams(X1, X2, Y.astype(np.float32)).y.tolist() == Y.tolist()


def test_a_refused_input_leaves_the_pipeline_as_it_was() -> None:
    pipeline = PIDAttributionPipeline()
    pipeline(X1, X2, Y)
    kept, run = pipeline.discretiser, pipeline.run
    with pytest.raises(AttributionInputError):
        pipeline(with_value(np.nan), X2, Y)
    assert pipeline.discretiser is kept
    assert pipeline.run is run
