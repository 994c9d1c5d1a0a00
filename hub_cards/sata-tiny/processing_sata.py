"""SataProcessor: what stands between a user's frames and SataModel, as AutoProcessor loads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from transformers import AutoProcessor
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .configuration_sata import SataConfig
from .errors import TrackingError
from .image_processing_sata import SataImageProcessor


class SataProcessor(ProcessorMixin):
    """Holds the image processor; call it with the frames of one instant.

    Args:
        image_processor: a SataImageProcessor; loaded ones may come from another copy of its module.
    """

    def __init__(self, image_processor: Any = None, **kwargs: Any) -> None:
        super().__init__(SataImageProcessor() if image_processor is None else image_processor, **kwargs)

    @classmethod
    def for_model(cls, model: Any, **settings: Any) -> Self:
        """The processor that fits a model; `settings` are of SataImageProcessor, such as size={"longest_edge": 256}."""
        fixed = {"size_divisor": model.encoder.stride, "modalities": list(model.config.modalities)}
        return cls(SataImageProcessor(**settings, **fixed))

    def __call__(self, images: Mapping[str, np.ndarray | None], **kwargs: Any) -> BatchFeature:
        """See `SataImageProcessor.preprocess`."""
        return self.image_processor(images, **kwargs)

    def check(self, model: Any) -> None:
        """Refuse a model that takes other input than this makes.

        Raises:
            TrackingError: other sensors, or another divisor of the sides.
        """
        made, taken = tuple(self.image_processor.modalities), tuple(model.config.modalities)
        if made != taken or self.image_processor.size_divisor % model.encoder.stride:
            raise TrackingError(
                f"the processor makes {', '.join(made)} in multiples of {self.image_processor.size_divisor} pixels, "
                f"the model takes {', '.join(taken)} in multiples of {model.encoder.stride}: load both from one "
                "checkpoint, or make one with SataProcessor.for_model(model)"
            )


SataProcessor.register_for_auto_class("AutoProcessor")
AutoProcessor.register(SataConfig, SataProcessor, exist_ok=True)
