"""PIDAttributionPipeline: two streams and a target in, an AttributionReport out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import torch
from huggingface_hub import _CACHED_NO_EXIST, ModelHubMixin, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from threadpoolctl import threadpool_limits

from .counts import JointCounts
from .discretiser import Discretiser
from .errors import AttributionInputError
from .estimation import check_confidence, estimate, pointwise
from .inputs import Streams, check_streams
from .joint_probe import JointFit, joint_cross_fit
from .probes import CrossFit, cross_fit
from .quantisers import QuantiserKind, choose_bins, choose_kind, fit_quantiser
from .report import AttributionReport, StreamReading
from .verdicts import accuracy_test, check_costs, check_threshold, judge

DISCRETISER_FILE = "discretiser.safetensors"
ONE_THREAD_VALUES = 5_000_000
KEPT_TOO_LITTLE = 0.7  # of what the probe reads

Callback = Callable[[float, str], None]


class PIDAttributionPipeline(ModelHubMixin, library_name="quartet", tags=["partial-information-decomposition"]):
    """What each of two streams says about a target: alone, in common, and only together.

    Args:
        quantiser: "auto" (symbols or quantiles for a single plain column, else "posterior"), "posterior", "symbols",
            "quantile" or "kmeans" (the paper's); one for both streams, or a pair.
        bins: symbols per stream to aim for; None chooses 2 to 10 so that five examples fall in a cell.
        confidence: of the intervals.
        threshold: bits below which a loss does not matter to a verdict.

    Example:
        >>> pipe = PIDAttributionPipeline()
        >>> report = pipe(thermal, colour, person, names=("thermal", "colour"))  # doctest: +SKIP
        >>> print(report.to_markdown())  # doctest: +SKIP
    """

    def __init__(
        self,
        quantiser: str | tuple[str, str] = "auto",
        bins: int | None = None,
        confidence: float = 0.9,
        threshold: float = 0.03,
    ) -> None:
        kinds = (quantiser, quantiser) if isinstance(quantiser, str) else tuple(quantiser)
        if len(kinds) != 2:
            raise AttributionInputError(f"quantiser is {quantiser!r}: give one name, or one for each stream")
        unknown = [kind for kind in kinds if kind not in get_args(QuantiserKind)]
        if unknown:
            raise AttributionInputError(
                f"quantiser {unknown[0]!r} is unknown: choose from {', '.join(get_args(QuantiserKind))}"
            )
        if bins is not None and (not isinstance(bins, int) or not 2 <= bins <= 50):
            raise AttributionInputError(f"bins is {bins}: choose 2 to 50, or None to let the data decide")
        check_confidence(confidence)
        check_threshold(threshold)
        self.quantiser: tuple[Any, Any] = kinds[0], kinds[1]
        self.bins, self.confidence, self.threshold = bins, confidence, threshold
        self.device = torch.device("cpu")
        self.discretiser: Discretiser | None = None
        self.run: dict[str, Any] = {}

    @classmethod
    def from_pretrained(  # ty: ignore[incompatible-method-override]
        cls,
        repo_or_folder: str | Path,
        *,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        attention: str = "auto",
        **kwargs: Any,
    ) -> Self:
        """Load settings and, where one was saved, the fitted discretiser.

        Args:
            dtype: float64 or None: the solver's certificate needs double precision.
            attention: accepted as by every pipeline; nothing here computes attention.
            kwargs: local_files_only, cache_dir, token and the settings of `__init__`, which override the saved ones.

        Raises:
            AttributionInputError: there is no such folder or repository, or what it holds is damaged.
        """
        if dtype not in (None, torch.float64):
            raise AttributionInputError(f"dtype is {dtype}: the solver works in float64 only, leave it out")
        try:
            pipeline = super().from_pretrained(str(repo_or_folder), revision=revision, **kwargs)
        except (HFValidationError, RepositoryNotFoundError, LocalEntryNotFoundError) as error:
            raise AttributionInputError(
                f"{repo_or_folder} is neither a folder here, nor in the Hub cache, nor a repository of the Hub that "
                "can be reached: give a folder that save_pretrained wrote, or load the repository once while online"
            ) from error
        return pipeline.to(device or "cpu")

    def to(self, device: str | torch.device) -> Self:
        """Move the solver to a device; probes and quantisers stay on the CPU."""
        try:
            self.device = torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise AttributionInputError(f"device {str(device)!r} cannot be used here: choose cpu or cuda") from error
        return self

    def __call__(
        self,
        x1: Any,
        x2: Any = None,
        y: Any = None,
        *,
        names: tuple[str, str] = ("x1", "x2"),
        weights: Any = None,
        costs: dict[str, float] | None = None,
        seed: int = 0,
        callback: Callback | None = None,
    ) -> AttributionReport:
        """Fit a discretiser, count, and explain.

        Args:
            x1, x2: [n] or [n, d] numbers or category names; or x1 alone is a `Streams` or a file that
                `inputs.read_streams` reads (npz, parquet, csv).
            y: n class labels, at most 50 classes.
            names: of the streams, for the report.
            weights: [n], non-negative.
            costs: dollars per month by stream name, for bits per dollar.
            seed: of folds, clusters and resampling; the same seed gives the same report.
            callback: called with (fraction, message); may raise to stop the work.

        Raises:
            AttributionInputError: input that cannot be used; the message says what is allowed.
        """
        started = time.perf_counter()
        tell = callback or (lambda fraction, message: None)
        if not 0 <= seed < 2**32:
            raise AttributionInputError(f"seed is {seed}: choose a whole number from 0 to {2**32 - 1}")
        streams = check_streams(x1, x2, y, names)
        check_costs(costs, streams.names)
        tell(0.01, "read the data")
        # On small matrices BLAS threads cost more than they give, many times more on a busy machine.
        small = max(streams.x1.size, streams.x2.size) <= ONE_THREAD_VALUES
        with threadpool_limits(1 if small else None, user_api="blas"):
            discretiser, counts, codes, readings, joint = self._discretise(streams, weights, seed, tell)
        fitted = time.perf_counter()
        report = self._explain(
            counts, discretiser, costs, seed, _scaled(tell, 0.7, 0.99), readings, joint, streams, codes
        )
        self.discretiser = discretiser
        report.run["timings"] = {
            "discretise": fitted - started,
            "estimate": time.perf_counter() - fitted,
            "total": time.perf_counter() - started,
        }
        report.run["peak_memory_bytes"] = _peak_memory(self.device)
        self.run = report.run
        tell(1.0, "done")
        return report

    def count(self, x1: Any, x2: Any = None, y: Any = None, *, weights: Any = None) -> JointCounts:
        """Joint counts of more data under the fitted discretiser; counts of one discretiser can be merged.

        Args:
            x1, x2, y: as for a call, but a shard may be small and of one class.
        """
        discretiser = self._fitted()
        streams = check_streams(x1, x2, y, discretiser.names, fitted=discretiser.categories)
        return discretiser.count(streams, weights=weights)

    def explain(
        self,
        counts: JointCounts,
        *,
        costs: dict[str, float] | None = None,
        seed: int = 0,
        callback: Callback | None = None,
    ) -> AttributionReport:
        """Report on counts, however many shards they were merged from."""
        discretiser = self._fitted()
        if counts.discretiser != discretiser.identity:
            raise AttributionInputError(
                "these counts were made with another discretiser: load the pipeline they were counted with"
            )
        tell = callback or (lambda fraction, message: None)
        return self._explain(counts, discretiser, costs, seed, tell, (), None, None, None)

    def _fitted(self) -> Discretiser:
        if self.discretiser is None:
            raise AttributionInputError(
                "no discretiser has been fitted: call the pipeline on data first, or load one with from_pretrained"
            )
        return self.discretiser

    def _discretise(
        self, streams: Streams, weights: Any, seed: int, tell: Callback
    ) -> tuple[Discretiser, JointCounts, tuple[np.ndarray, ...], list[tuple[str, CrossFit]], JointFit]:
        classes, y = np.unique(streams.y, return_inverse=True)
        sources = streams.x1, streams.x2
        spans = ((0.02, 0.3), (0.3, 0.55))
        fits = tuple(
            cross_fit(x, y, seed=seed, callback=_scaled(tell, *span)) for x, span in zip(sources, spans, strict=True)
        )
        pair = fits[0], fits[1]
        joint = joint_cross_fit(*sources, y, pair, seed=seed, callback=_scaled(tell, 0.55, 0.65))
        bins = self.bins or choose_bins(len(y), len(classes))
        quantisers, codes, readings = [], [], []
        for source, (kind, x) in enumerate(zip(self.quantiser, sources, strict=True)):
            categorical = streams.categories[source] is not None
            chosen: QuantiserKind = choose_kind(x, categorical=categorical) if kind == "auto" else kind
            tell(0.65 + 0.02 * source, "quantising")
            quantiser, coded = fit_quantiser(chosen, x, pair[source], joint, source, bins=bins, seed=seed)
            quantisers.append(quantiser)
            codes.append(coded)
            readings.append((chosen, pair[source]))
        labels = tuple(str(name) for name in classes.tolist())
        discretiser = Discretiser((quantisers[0], quantisers[1]), labels, streams.names, streams.categories)
        counts = discretiser.empty_counts().update(codes[0], codes[1], y, weights=weights)
        return discretiser, counts, (codes[0], codes[1], y), readings, joint

    def _explain(
        self,
        counts: JointCounts,
        discretiser: Discretiser,
        costs: dict[str, float] | None,
        seed: int,
        tell: Callback,
        fits: Iterable[tuple[str, CrossFit]],
        joint: JointFit | None,
        streams: Streams | None,
        codes: tuple[np.ndarray, ...] | None,
    ) -> AttributionReport:
        estimates = estimate(counts, confidence=self.confidence, seed=seed, device=self.device, callback=tell)
        readings = tuple(
            _reading(kind, fit, quantiser.symbols, estimates.quantities[f"information_{i + 1}"].value)
            for i, ((kind, fit), quantiser) in enumerate(zip(fits, discretiser.quantisers, strict=False))
        )
        joint_information = joint.cross_fit.usable_information if joint else None
        warnings = estimates.warnings + _quantiser_warnings(discretiser.names, readings)
        return AttributionReport(
            names=discretiser.names,
            classes=discretiser.classes,
            quantities=estimates.quantities,
            verdicts=judge(estimates, discretiser.names, threshold=self.threshold, costs=costs),
            accuracy=accuracy_test(counts.table, sample_size=estimates.sample_size, seed=seed),
            readings=readings,
            joint_information=joint_information,
            examples=len(streams.y) if streams else round(counts.total),
            sample_size=estimates.sample_size,
            samples_per_cell=estimates.samples_per_cell,
            shape=estimates.shape,
            target_entropy=estimates.target_entropy,
            gap=float(estimates.plug_in.gap),
            confidence=self.confidence,
            threshold=self.threshold,
            discretiser=discretiser.identity,
            warnings=warnings,
            pointwise=_pointwise(counts, codes) if codes else None,
            run={
                "params": {
                    "quantiser": [kind for kind, _ in fits] or list(self.quantiser),
                    "bins": self.bins,
                    "confidence": self.confidence,
                    "threshold": self.threshold,
                    "costs": costs,
                },
                "seed": seed,
                "device": str(self.device),
                "attention": {"backend": "none", "reason": "arrays and tables need no attention"},
            },
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        if self.discretiser is not None:
            self.discretiser.save(save_directory / DISCRETISER_FILE)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **settings: Any,
    ) -> Self:
        pipeline = cls(**settings)
        folder = Path(model_id)
        if folder.is_dir():
            path: Path | None = folder / DISCRETISER_FILE
            path = path if path.is_file() else None
        else:
            path = _download(model_id, revision, cache_dir, force_download, local_files_only, token)
        if path is not None:
            pipeline.discretiser = Discretiser.load(path)
        return pipeline


def _download(
    model_id: str,
    revision: str | None,
    cache_dir: str | Path | None,
    force_download: bool,
    local_files_only: bool,
    token: str | bool | None,
) -> Path | None:
    try:
        return Path(
            hf_hub_download(
                model_id,
                DISCRETISER_FILE,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
        )
    except LocalEntryNotFoundError:
        known = try_to_load_from_cache(model_id, DISCRETISER_FILE, cache_dir=cache_dir, revision=revision)
        if known is _CACHED_NO_EXIST:  # settings alone were saved
            return None
        raise
    except EntryNotFoundError:
        return None


def _peak_memory(device: torch.device) -> int | None:
    """High-water mark so far, bytes: of the accelerator, or of the process; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _scaled(tell: Callback, low: float, high: float) -> Callback:
    """Progress of a part as progress of the whole."""
    return lambda fraction, message: tell(low + (high - low) * fraction, message)


def _reading(kind: str, fit: CrossFit, symbols: int, binned: float) -> StreamReading:
    readable = fit.usable_information > max(0.02, 2 * fit.standard_error)
    return StreamReading(
        quantiser=kind,
        symbols=symbols,
        usable_information=fit.usable_information,
        standard_error=fit.standard_error,
        binned_information=binned,
        retained=binned / fit.usable_information if readable else None,
        accuracy=fit.accuracy,
    )


def _quantiser_warnings(names: tuple[str, str], readings: tuple[StreamReading, ...]) -> tuple[str, ...]:
    return tuple(
        f"the {reading.quantiser} codes of {name} keep {max(reading.retained, 0):.0%} of what a linear probe reads "
        f"({reading.usable_information:.3f} bits): choose the posterior quantiser"
        for name, reading in zip(names, readings, strict=False)
        if reading.retained is not None and reading.retained < KEPT_TOO_LITTLE
    )


def _pointwise(counts: JointCounts, codes: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    scores = pointwise(counts.decompose(), counts.table)
    return {name: table[codes] for name, table in scores.items()}
