"""The joint probe: what both sources say together, without binning, and along which direction they interact.

Unimodal posteriors are flat where information is purely synergistic (XOR), so quantising them alone would erase it.
The joint probe is a logistic regression on both sources' embeddings and all products between the two; the leading
direction of its product term in each source is what that source must keep besides its own posterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.decomposition import PCA

from .probes import Callback, CrossFit, Features, cross_fit

MAIN_DIRECTIONS = 8


@dataclass(frozen=True)
class Embedding:
    """A source as the joint probe sees it: its log-posterior and its main directions, standardised.

    Attributes:
        features: standardises the columns.
        axes: [p, d], p <= 8: the columns themselves if that few, else principal directions.
        mean, scale: of the embedding's columns, [e].
    """

    features: Features
    axes: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, log_posterior: np.ndarray) -> Embedding:
        features = Features.fit(x, quadratic=False)
        standard = features(x)
        few = x.shape[1] <= MAIN_DIRECTIONS
        axes = np.eye(x.shape[1]) if few else PCA(MAIN_DIRECTIONS, random_state=0).fit(standard).components_
        columns = _columns(standard @ axes.T, log_posterior)
        scale = columns.std(axis=0)
        return cls(features, axes, columns.mean(axis=0), np.where(scale > 1e-12, scale, 1.0))

    def __call__(self, x: np.ndarray, log_posterior: np.ndarray) -> np.ndarray:
        """[n, e] from rows [n, d] and their log-posteriors [n, classes]."""
        return (_columns(self.features(x) @ self.axes.T, log_posterior) - self.mean) / self.scale


@dataclass(frozen=True)
class JointFit:
    """What the joint probe found.

    Attributes:
        cross_fit: with the usable information of both sources, bits. The first stage's posteriors come from folds
            that overlap the second's, which leaks an amount of order 1/n.
        embeddings: of source 1 and 2.
        directions: [e1] and [e2]: times the embedding, the interaction score in units of log-odds.
        scores: cross-fitted interaction scores of the examples, [n] and [n].
    """

    cross_fit: CrossFit
    embeddings: tuple[Embedding, Embedding]
    directions: tuple[np.ndarray, np.ndarray]
    scores: tuple[np.ndarray, np.ndarray]


def joint_cross_fit(
    x1: np.ndarray,
    x2: np.ndarray,
    y: np.ndarray,
    fits: tuple[CrossFit, CrossFit],
    *,
    seed: int = 0,
    callback: Callback | None = None,
) -> JointFit:
    """Fit the joint probe on top of the two sources' own.

    Args:
        x1, x2: [n, d1], [n, d2]. y: class codes, [n]. fits: the sources' cross-fitted probes.
    """
    check = partial(callback, 0.0, "embedding both streams") if callback else (lambda: None)
    posteriors = fits[0].log_posterior, fits[1].log_posterior
    embeddings, embedded = [], []
    for x, log_posterior in zip((x1, x2), posteriors, strict=True):
        embeddings.append(Embedding.fit(x, log_posterior))
        check()
        embedded.append(embeddings[-1](x, log_posterior))
        check()
    first, second = embedded
    products = (first[:, :, None] * second[:, None, :]).reshape(len(y), -1)
    joined = np.concatenate([first, second, products], axis=1)
    fit = cross_fit(joined, y, seed=seed, callback=callback, quadratic=False)
    shape = first.shape[1], second.shape[1]
    reference = _interaction(fit.probe.coefficients, fit.probe.features.scale, shape)
    scores = np.zeros(len(y)), np.zeros(len(y))
    for probe, rows in fit.fold_probes:
        fold = _interaction(probe.coefficients, probe.features.scale, shape)
        for source, embedded in enumerate((first, second)):
            sign = np.sign(fold[source] @ reference[source]) or 1.0
            scores[source][rows] = sign * (embedded[rows] @ fold[source])
    return JointFit(fit, (embeddings[0], embeddings[1]), reference, scores)


def _interaction(coefficients: np.ndarray, scale: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Leading direction of the product term in each source, times its singular value, [e1] and [e2]."""
    products = (coefficients / scale)[:, sum(shape) :].reshape(-1, *shape)
    left = np.linalg.svd(products.transpose(1, 0, 2).reshape(shape[0], -1), full_matrices=False)
    right = np.linalg.svd(products.transpose(2, 0, 1).reshape(shape[1], -1), full_matrices=False)
    return left[0][:, 0] * left[1][0], right[0][:, 0] * right[1][0]


def _columns(main: np.ndarray, log_posterior: np.ndarray) -> np.ndarray:
    return np.concatenate([log_posterior[:, 1:] - log_posterior[:, :1], main], axis=1)
