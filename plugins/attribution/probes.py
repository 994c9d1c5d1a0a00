"""Cross-fitted probes: what a simple classifier can read from a source, on examples that it was not fitted on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from .errors import AttributionInputError

Callback = Callable[[float, str], None]
Check = Callable[[], None]

FOLDS = 5
INVERSE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
MAX_ITERATIONS = 300
ITERATIONS_PER_CHECK = 50
OPERATIONS_PER_CHECK = 1e9  # under half a second on one core, so that Stop is heard in time
TOLERANCE = 1e-3
PENALTY_ROWS = 4000
QUADRATIC_MAX_COLUMNS = 16
QUADRATIC_MAX_VALUES = 40_000_000  # after squares and products are added; 320 MB
CLIP = 6.0  # standard deviations
FLOOR = 1e-6  # of a probability, before a logarithm


@dataclass(frozen=True)
class Features:
    """Frozen map from a source's columns to what the probe sees: standardised, with squares and products if few.

    Attributes:
        mean, scale: [d].
        quadratic: whether second-order terms are added.
    """

    mean: np.ndarray
    scale: np.ndarray
    quadratic: bool

    @classmethod
    def fit(cls, x: np.ndarray, *, quadratic: bool) -> Features:
        scale = x.std(axis=0)
        return cls(x.mean(axis=0), np.where(scale > 1e-12, scale, 1.0), quadratic)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        z = x - self.mean
        z /= self.scale
        np.clip(z, -CLIP, CLIP, out=z)
        if not self.quadratic:
            return z
        rows, columns = np.triu_indices(z.shape[1])
        return np.concatenate([z, z[:, rows] * z[:, columns]], axis=1)


@dataclass(frozen=True)
class Probe:
    """Multinomial logistic regression on `Features`.

    Attributes:
        coefficients: [classes, features].
        intercepts: [classes].
    """

    features: Features
    coefficients: np.ndarray
    intercepts: np.ndarray

    def log_posterior(self, x: np.ndarray) -> np.ndarray:
        """log p(y | x), [n, classes], nats."""
        return _log_softmax(self.features(x) @ self.coefficients.T + self.intercepts)


@dataclass(frozen=True)
class CrossFit:
    """Posteriors of each example from probes that never saw it.

    Attributes:
        log_posterior: [n, classes], nats.
        probe: fitted on all examples, for new data.
        fold_probes: each fold's probe and the rows that it did not see.
        usable_information: H(Y) minus the cross-fitted cross-entropy, bits (V-information, Xu et al. 2020); a lower
            bound of I(X; Y) in expectation.
        standard_error: of it, bits.
        accuracy: share of examples whose most likely class is right.
    """

    log_posterior: np.ndarray
    probe: Probe
    fold_probes: tuple[tuple[Probe, np.ndarray], ...]
    usable_information: float
    standard_error: float
    accuracy: float


def cross_fit(
    x: np.ndarray,
    y: np.ndarray,
    *,
    seed: int = 0,
    callback: Callback | None = None,
    quadratic: bool | None = None,
) -> CrossFit:
    """Fit a probe on each set of folds but one and read the one left out.

    Args:
        x: finite numbers, [n, d].
        y: class codes 0..c-1, each present, [n].
        quadratic: whether the probe sees squares and products of columns; by default with 16 columns or fewer
            and fewer than 40 million values.
        callback: called with (fraction, message) between pieces of work; may raise to stop.

    Raises:
        AttributionInputError: a class with fewer examples than two.
    """
    counts = np.bincount(y)
    if counts.min() < 2:
        raise AttributionInputError(
            f"class {int(counts.argmin())} has {int(counts.min())} example(s): cross-fitting needs two of each class; "
            "merge or drop rare classes"
        )
    folds = min(FOLDS, int(counts.min()))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    tell = callback or (lambda fraction, message: None)
    log_posterior = np.zeros((len(y), len(counts)))
    if quadratic is None:
        quadratic = x.shape[1] <= QUADRATIC_MAX_COLUMNS and x.size * (x.shape[1] + 3) // 2 <= QUADRATIC_MAX_VALUES
    penalty = None
    fold_probes = []
    for fold, (train, test) in enumerate(splitter.split(x, y)):
        check = partial(tell, fold / (folds + 1), "probing")
        part = x[train]
        check()
        mapped = Features.fit(part, quadratic=quadratic)
        check()
        inner, outer = mapped(part), mapped(x[test])
        check()
        if penalty is None:
            penalty = _choose_penalty(inner, y[train], seed, check)
        probe = Probe(mapped, *_fit_model(inner, y[train], penalty, check))
        log_posterior[test] = _log_softmax(outer @ probe.coefficients.T + probe.intercepts)
        fold_probes.append((probe, test))
    check = partial(tell, folds / (folds + 1), "probing")
    check()
    mapped = Features.fit(x, quadratic=quadratic)
    check()
    probe = Probe(mapped, *_fit_model(mapped(x), y, penalty or 1.0, check))
    return CrossFit(log_posterior, probe, tuple(fold_probes), *_usable_information(log_posterior, y))


def _usable_information(log_posterior: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    share = np.bincount(y) / len(y)
    floored = np.maximum(log_posterior[np.arange(len(y)), y], np.log(FLOOR))
    gain = (floored - np.log(share)[y]) / np.log(2)
    accuracy = float((log_posterior.argmax(axis=1) == y).mean())
    return float(gain.mean()), float(gain.std() / np.sqrt(len(y))), accuracy


def _choose_penalty(x: np.ndarray, y: np.ndarray, seed: int, check: Check) -> float:
    """The penalty with the least held-out loss on one split of the first training set."""
    rows = np.random.default_rng(seed).permutation(len(y))[:PENALTY_ROWS]  # data may be sorted by class
    x = x[rows]
    _, y, counts = np.unique(y[rows], return_inverse=True, return_counts=True)
    if len(counts) < 2 or counts.min() < 2:
        return INVERSE_PENALTIES[1]
    train, test = next(StratifiedKFold(2, shuffle=True, random_state=seed).split(x, y))

    def loss(penalty: float) -> float:
        model = _fit_model(x[train], y[train], penalty, check)
        log_posterior = _log_softmax(x[test] @ model[0].T + model[1])
        return -float(log_posterior[np.arange(len(test)), y[test]].mean())

    return min(INVERSE_PENALTIES, key=loss)


def _fit_model(x: np.ndarray, y: np.ndarray, penalty: float, check: Check) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression in short runs, so that a caller can stop it; coefficients [c, d] and intercepts [c]."""
    per_iteration = 4 * x.size * len(np.unique(y))
    short_run = int(np.clip(OPERATIONS_PER_CHECK / per_iteration, 4, ITERATIONS_PER_CHECK))
    model = LogisticRegression(C=penalty, warm_start=True, tol=TOLERANCE, max_iter=short_run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(MAX_ITERATIONS // short_run):
            model.fit(x, y)
            check()
            if model.n_iter_.max() < short_run:
                break
    coefficients, intercepts = model.coef_, model.intercept_
    if len(coefficients) == 1:  # two classes: one log-odds
        half = coefficients / 2, intercepts / 2
        coefficients, intercepts = np.concatenate([-half[0], half[0]]), np.concatenate([-half[1], half[1]])
    return coefficients, intercepts


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
