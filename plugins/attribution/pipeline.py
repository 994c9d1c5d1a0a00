"""PIDAttributionPipeline: two streams and a target in, or a model and its data; an AttributionReport out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import torch
from huggingface_hub import ModelHubMixin
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from torch import nn

from .counts import JointCounts
from .discretiser import Discretiser
from .errors import AttributionInputError
from .estimation import check_confidence, estimate, pointwise
from .families import Family
from .fitting import Callback, Fitted, fit, scaled
from .inputs import Streams, check_streams
from .loading import SETTINGS_FILE, Source
from .model_attribution import Layers, ReadModel, attribute, fit_questions, run_parameters
from .model_attribution import count as count_read
from .model_attribution import explain as explain_layers
from .model_reading import STREAM_NAMES, attention_of, read_model
from .pinned import PINNED_FILE, LayerTables, PinnedDiscretisers
from .quantisers import QuantiserKind
from .questions import DECISION
from .readings import quantiser_warnings, readings_of
from .report import AttributionReport
from .verdicts import accuracy_test, check_costs, check_threshold, judge

DISCRETISER_FILE = "discretiser.safetensors"
PINNED_FOLDER = "pinned"
SETTINGS = ("quantiser", "bins", "confidence", "threshold")


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
        self.pinned: PinnedDiscretisers | None = None
        self.model: Any = None  # a PreTrainedModel, or any nn.Module with its family
        self.processor: Any = None
        self.family: Family | None = None
        self.options: tuple[str, ...] | None = None
        self.model_name = ""
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
        options: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a model to explain, or a pipeline's own settings and, where they were saved, its discretisers.

        Args:
            dtype: of the model's weights; without a model float64 or None, which the solver's certificate needs.
            attention: of the model: "auto", or what transformers calls "sdpa", "eager" or "flash_attention_2".
            options: answers to choose between, as of `of_model`.
            kwargs: local_files_only, cache_dir, token and the settings of `__init__`, which override the saved ones.

        Raises:
            AttributionInputError: there is no such folder or repository, or what it holds is damaged or no model that
                can be explained.
        """
        places = ("cache_dir", "force_download", "local_files_only", "token")
        source = Source(str(repo_or_folder), revision, **{k: v for k, v in kwargs.items() if k in places})
        try:
            with_model = source.model_type() is not None
            if not with_model and dtype not in (None, torch.float64):
                raise AttributionInputError(f"dtype is {dtype}: the solver works in float64 only, leave it out")
            saved = {k: v for k, v in source.settings(SETTINGS_FILE).items() if k in SETTINGS}
            pipeline = super().from_pretrained(str(repo_or_folder), revision=revision, **(saved | kwargs))
        except (HFValidationError, RepositoryNotFoundError, LocalEntryNotFoundError) as error:
            raise AttributionInputError(
                f"{repo_or_folder} is neither a folder here, nor in the Hub cache, nor a repository of the Hub that "
                "can be reached: give a folder that save_pretrained wrote, or load the repository once while online"
            ) from error
        pipeline.options = None if options is None else tuple(options)
        if with_model:
            from .model_loading import load_for_capture  # imports transformers, which arrays do not need

            pipeline.model, pipeline.processor = load_for_capture(
                source.repo_or_folder,
                device=device or "cpu",
                dtype=dtype,
                revision=revision,
                local_files_only=source.local_files_only,
                attention=None if attention == "auto" else attention,
            )
            pipeline.model_name = Path(repo_or_folder).name if Path(repo_or_folder).is_dir() else str(repo_or_folder)
        return pipeline.to(device or "cpu")

    def to(self, device: str | torch.device) -> Self:
        """Move the solver and the model, if there is one, to a device; probes and quantisers stay on the CPU."""
        try:
            self.device = torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise AttributionInputError(f"device {str(device)!r} cannot be used here: choose cpu or cuda") from error
        if self.model is not None:
            self.model.to(self.device)
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
        target: str = "decision",
        layers: Layers = "all",
        readouts: bool = False,
        dropping: bool = False,
        seed: int = 0,
        callback: Callback | None = None,
    ) -> AttributionReport:
        """Fit a discretiser, count, and explain.

        Args:
            x1, x2: [n] or [n, d] numbers or category names; or x1 alone is a `Streams` or a file that
                `inputs.read_streams` reads (npz, parquet, csv). With a model, x1 alone is its data: a folder or
                parquet of image, text and label, an iterable of such mappings, or a callable that returns one.
            y: n class labels, at most 50 classes.
            names: of the streams, for the report.
            weights: [n], non-negative.
            costs: dollars per month by stream name, for bits per dollar.
            target: of a model: "decision" (what it says) or "label" (what is true).
            layers: of a model: names, "all" or "none".
            readouts: also decompose what the model would decide at each layer ("target by depth").
            dropping: also measure accuracy with one modality taken from another example.
            seed: of folds, clusters and resampling; the same seed gives the same report.
            callback: called with (fraction, message); may raise to stop the work.

        Raises:
            AttributionInputError: input that cannot be used; the message says what is allowed.
        """
        started = time.perf_counter()
        tell = callback or (lambda fraction, message: None)
        if not 0 <= seed < 2**32:
            raise AttributionInputError(f"seed is {seed}: choose a whole number from 0 to {2**32 - 1}")
        if self.model is not None and x2 is None and y is None and not isinstance(x1, Streams):
            check_costs(costs, STREAM_NAMES)
            read = self.read(
                x1, layers=layers, readouts=readouts, dropping=dropping, seed=seed, callback=scaled(tell, 0.0, 0.5)
            )
            statistics = scaled(tell, 0.5, 1.0)
            fit_streams = partial(self.fit, weights=weights, seed=seed)
            explain_fitted = partial(self._explain_fitted, costs=costs, seed=seed)
            report, self.pinned = attribute(
                read, fit_streams, explain_fitted, target=target, layers=layers, tell=statistics
            )
            self.discretiser = self.pinned.of(DECISION)
            report.run["params"] |= run_parameters(target, layers, self.options)
            report.run["attention"] = attention_of(self.model)
        else:
            streams = check_streams(x1, x2, y, names)
            check_costs(costs, streams.names)
            tell(0.01, "read the data")
            fitted = self.fit(streams, scaled(tell, 0.01, 0.7), weights=weights, seed=seed)
            self.discretiser = fitted.discretiser
            report = self._explain_fitted(fitted, scaled(tell, 0.7, 0.99), costs=costs, seed=seed)
        report.run["timings"]["total"] = time.perf_counter() - started
        report.run["peak_memory_bytes"] = _peak_memory(self.device)
        self.run = report.run
        tell(1.0, "done")
        return report

    def fit(self, streams: Streams, callback: Callback | None = None, *, weights: Any = None, seed: int = 0) -> Fitted:
        """A discretiser for streams, and their codes; nothing is decomposed yet. Arguments as of a call."""
        tell = callback or (lambda fraction, message: None)
        return fit(streams, quantisers=self.quantiser, bins=self.bins, weights=weights, seed=seed, tell=tell)

    def _explain_fitted(
        self, fitted: Fitted, tell: Callback, *, costs: dict[str, float] | None, seed: int
    ) -> AttributionReport:
        return self._explain(fitted.counts, fitted.discretiser, tell, costs=costs, seed=seed, fitted=fitted)

    @classmethod
    def of_model(
        cls,
        model: nn.Module,
        processor: Any = None,
        *,
        family: Family | None = None,
        options: Sequence[str] | None = None,
        name: str | None = None,
        **settings: Any,
    ) -> Self:
        """A pipeline that explains a model which is loaded already.

        Args:
            model: CLIP, ViLT, BLIP, LLaVA, Qwen2.5-VL or our own; or any other with its `family`.
            processor: of the model.
            family: where the streams and the decision are, for a model that is none of the above.
            options: answers to choose between, for models that do not bring their own: labels for CLIP, options of a
                multiple choice for LLaVA and Qwen2.5-VL, candidate answers for BLIP.
            name: for the report; the model's class by default.
            settings: of `__init__`.
        """
        pipeline = cls(**settings)
        pipeline.model, pipeline.processor, pipeline.family = model.eval(), processor, family
        pipeline.options = None if options is None else tuple(options)
        pipeline.model_name = name or type(model).__name__
        pipeline.device = next((each.device for each in model.parameters()), pipeline.device)
        return pipeline

    def read(
        self,
        dataset: Any,
        *,
        layers: Layers = "all",
        readouts: bool = False,
        dropping: bool = False,
        batch_size: int = 16,
        seed: int = 0,
        callback: Callback | None = None,
    ) -> ReadModel:
        """Run the model on data and pool its layers; nothing is decomposed yet. Arguments as of a call."""
        if self.model is None:
            raise AttributionInputError("this pipeline has no model: load one with from_pretrained, or use of_model")
        return read_model(
            self.model,
            self.processor,
            dataset,
            name=self.model_name,
            family=self.family,
            options=self.options,
            layers=layers,
            readouts=readouts,
            dropping=dropping,
            batch_size=batch_size,
            seed=seed,
            tell=callback or (lambda fraction, message: None),
        )

    def fit_model(
        self,
        dataset: Any,
        *,
        target: str = "decision",
        layers: Layers = "all",
        readouts: bool = False,
        batch_size: int = 16,
        seed: int = 0,
        callback: Callback | None = None,
    ) -> PinnedDiscretisers:
        """Discretisers for the model, to count other data under; nothing is decomposed. Arguments as of a call."""
        tell = callback or (lambda fraction, message: None)
        part = scaled(tell, 0.0, 0.6)
        read = self.read(dataset, layers=layers, readouts=readouts, batch_size=batch_size, seed=seed, callback=part)
        self.pinned = PinnedDiscretisers.empty(read, target)
        rest, fit_streams = scaled(tell, 0.6, 1.0), partial(self.fit, seed=seed)
        for question, fitted, _ in fit_questions(read, fit_streams, target=target, layers=layers, tell=rest):
            self.pinned = self.pinned.adding(question, fitted.discretiser)
        return self.pinned

    def count_model(self, dataset: Any, *, layers: Layers = "all", callback: Callback | None = None) -> LayerTables:
        """Joint counts of more data under the pinned discretisers; tables of the same ones can be merged."""
        if self.pinned is None:
            raise AttributionInputError(
                "no discretisers are pinned: call the pipeline on data first, or load one that was saved after a call"
            )
        read = self.read(dataset, layers=layers, readouts=self.pinned.has_readouts, callback=callback)
        return count_read(read, self.pinned, layers)

    def explain_tables(
        self,
        tables: LayerTables,
        pinned: PinnedDiscretisers | None = None,
        *,
        costs: dict[str, float] | None = None,
        seed: int = 0,
        callback: Callback | None = None,
    ) -> AttributionReport:
        """Report on tables of a model's layers, however many shards they were merged from."""
        pinned = pinned or self.pinned
        if pinned is None:
            raise AttributionInputError("no discretisers are pinned: give those that the tables were counted with")

        def explain_counts(counts: JointCounts, discretiser: Discretiser, tell: Callback) -> AttributionReport:
            if counts.discretiser != discretiser.identity:
                raise AttributionInputError(
                    "these tables were counted with other discretisers: give the pinned folder that lies beside them"
                )
            return self._explain(counts, discretiser, tell, costs=costs, seed=seed)

        check_costs(costs, pinned.names)
        return explain_layers(tables, pinned, explain_counts, callback or (lambda fraction, message: None))

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
        return self._explain(counts, discretiser, tell, costs=costs, seed=seed)

    def _fitted(self) -> Discretiser:
        if self.discretiser is None:
            raise AttributionInputError(
                "no discretiser has been fitted: call the pipeline on data first, or load one with from_pretrained"
            )
        return self.discretiser

    def _explain(
        self,
        counts: JointCounts,
        discretiser: Discretiser,
        tell: Callback,
        *,
        costs: dict[str, float] | None = None,
        seed: int = 0,
        fitted: Fitted | None = None,
    ) -> AttributionReport:
        """The report on counts; `fitted` adds what only the examples themselves can tell."""
        started = time.perf_counter()
        estimates = estimate(counts, confidence=self.confidence, seed=seed, device=self.device, callback=tell)
        readings = () if fitted is None else readings_of(fitted, estimates)
        return AttributionReport(
            names=discretiser.names,
            classes=discretiser.classes,
            quantities=estimates.quantities,
            verdicts=judge(estimates, discretiser.names, threshold=self.threshold, costs=costs),
            accuracy=accuracy_test(counts.table, sample_size=estimates.sample_size, seed=seed),
            readings=readings,
            joint_information=None if fitted is None else fitted.joint.cross_fit.usable_information,
            examples=round(counts.total) if fitted is None else len(fitted.streams.y),
            sample_size=estimates.sample_size,
            samples_per_cell=estimates.samples_per_cell,
            shape=estimates.shape,
            target_entropy=estimates.target_entropy,
            gap=float(estimates.plug_in.gap),
            confidence=self.confidence,
            threshold=self.threshold,
            discretiser=discretiser.identity,
            warnings=estimates.warnings + quantiser_warnings(discretiser.names, readings),
            pointwise=None if fitted is None else _pointwise(counts, fitted.codes),
            run={
                "params": {
                    "quantiser": list(self.quantiser) if fitted is None else list(fitted.kinds),
                    "bins": self.bins,
                    "confidence": self.confidence,
                    "threshold": self.threshold,
                    "costs": costs,
                },
                "seed": seed,
                "device": str(self.device),
                "attention": {"backend": "none", "reason": "arrays and tables need no attention"},
                "timings": {"estimate": time.perf_counter() - started},
            },
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        if self.discretiser is not None:
            self.discretiser.save(save_directory / DISCRETISER_FILE)
        if self.pinned is not None:
            self.pinned.save(save_directory / PINNED_FOLDER)
        if self.model is not None:  # its config.json takes the place of the pipeline's
            self.model.save_pretrained(save_directory)
            for part in (self.processor.image_processor, self.processor.tokenizer):
                part.save_pretrained(save_directory)
            settings = {name: getattr(self, name) for name in SETTINGS}
            (save_directory / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **arguments: Any) -> Self:
        settings = {name: arguments.pop(name) for name in SETTINGS if name in arguments}
        pipeline, source = cls(**settings), Source(model_id, **arguments)
        find = source.file if source.model_type() is None else source.file_if_here  # a model needs none
        if (path := find(DISCRETISER_FILE)) is not None:
            pipeline.discretiser = Discretiser.load(path)
        if source.file_if_here(f"{PINNED_FOLDER}/{PINNED_FILE}") and (folder := source.folder(PINNED_FOLDER)):
            pipeline.pinned = PinnedDiscretisers.load(folder)
        return pipeline


def _peak_memory(device: torch.device) -> int | None:
    """High-water mark so far, bytes: of the accelerator, or of the process; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _pointwise(counts: JointCounts, codes: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    scores = pointwise(counts.decompose(), counts.table)
    return {name: table[codes] for name, table in scores.items()}
