"""From two streams and a target to codes: probes, quantisers, a discretiser, and the joint counts of the examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from .counts import JointCounts
from .discretiser import Discretiser
from .inputs import Streams
from .joint_probe import JointFit, joint_cross_fit
from .probes import CrossFit, cross_fit
from .quantisers import QuantiserKind, choose_bins, choose_kind, fit_quantiser

ONE_THREAD_VALUES = 5_000_000

Callback = Callable[[float, str], None]


@dataclass(frozen=True)
class Fitted:
    """A discretiser with the examples that it was fitted on.

    Attributes:
        streams: the examples.
        discretiser: for these and for later ones.
        codes: (x1, x2, y), [n] each; cross-fitted where a probe makes them, so that no example's own label shapes its
            code.
        counts: of the codes.
        kinds: of quantiser, by stream. probes: by stream. joint: of both.
    """

    streams: Streams
    discretiser: Discretiser
    codes: tuple[np.ndarray, np.ndarray, np.ndarray]
    counts: JointCounts
    kinds: tuple[str, str]
    probes: tuple[CrossFit, CrossFit]
    joint: JointFit


def fit(
    streams: Streams,
    *,
    quantisers: tuple[Any, Any],
    bins: int | None,
    weights: Any = None,
    seed: int = 0,
    tell: Callback,
) -> Fitted:
    """Fit probes and quantisers, and count.

    Args:
        quantisers: kinds, by stream. bins: symbols per stream; None: as many as the samples allow.
        weights: [n], non-negative. tell: called with (fraction, message); may raise to stop.
    """
    # On small matrices BLAS threads cost more than they give, many times more on a busy machine.
    small = max(streams.x1.size, streams.x2.size) <= ONE_THREAD_VALUES
    with threadpool_limits(1 if small else None, user_api="blas"):
        classes, y = np.unique(streams.y, return_inverse=True)
        sources = streams.x1, streams.x2
        first, second = (
            cross_fit(x, y, seed=seed, callback=scaled(tell, *span))
            for x, span in zip(sources, ((0.02, 0.45), (0.45, 0.8)), strict=True)
        )
        joint = joint_cross_fit(*sources, y, (first, second), seed=seed, callback=scaled(tell, 0.8, 0.95))
        bins = bins or choose_bins(len(y), len(classes))
        fitted, codes, kinds = [], [], []
        for source, (kind, x) in enumerate(zip(quantisers, sources, strict=True)):
            categorical = streams.categories[source] is not None
            chosen: QuantiserKind = choose_kind(x, categorical=categorical) if kind == "auto" else kind
            tell(0.95 + 0.02 * source, "quantising")
            probe = (first, second)[source]
            quantiser, coded = fit_quantiser(chosen, x, probe, joint, source, bins=bins, seed=seed)
            fitted.append(quantiser)
            codes.append(coded)
            kinds.append(chosen)
    labels = tuple(str(name) for name in classes.tolist())
    discretiser = Discretiser((fitted[0], fitted[1]), labels, streams.names, streams.categories)
    counts = discretiser.empty_counts().update(codes[0], codes[1], y, weights=weights)
    return Fitted(streams, discretiser, (codes[0], codes[1], y), counts, (kinds[0], kinds[1]), (first, second), joint)


def scaled(tell: Callback, low: float, high: float) -> Callback:
    """Progress of a part as progress of the whole."""
    return lambda fraction, message: tell(low + (high - low) * fraction, message)
