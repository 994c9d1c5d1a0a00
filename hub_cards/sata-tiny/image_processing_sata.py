"""SataImageProcessor: one aligned set of sensor frames to the tensors that SataModel takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import AutoImageProcessor
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ImagesKwargs

from .configuration_sata import SataConfig
from .errors import TrackingError
from .modalities import MODALITIES
from .views import MEAN, STD, make_view

LONGEST = 128
DIVISOR = 32


class SataImageKwargs(ImagesKwargs, total=False):
    """Settings of SataImageProcessor beside the usual ones.

    Attributes:
        size_divisor: what the sides of the model's input are multiples of (`SataModel.encoder.stride`).
        modalities: sensors in the model's order, "rgb" first.
    """

    size_divisor: int | None
    modalities: list[str] | tuple[str, ...] | None


class SataImageProcessor(PilBackend):
    """Frames of one instant to tensors; needs no torchvision.

    Frames are resized so that the longer side is near `size["longest_edge"]` and both sides are multiples of
    `size_divisor`, scaled to 0..1 and normalised with `image_mean` and `image_std`, the same for every sensor.

    Example:
        >>> inputs = SataImageProcessor()({"rgb": frame, "thermal": other})  # doctest: +SKIP
        >>> outputs = model(**inputs)  # doctest: +SKIP
    """

    valid_kwargs = SataImageKwargs
    model_input_names = ["pixel_values", "auxiliary_values", "modality_ids", "first_modality_ids"]  # noqa: RUF012
    size = {"longest_edge": LONGEST}  # noqa: RUF012
    size_divisor = DIVISOR
    modalities: list[str] | tuple[str, ...] = MODALITIES
    image_mean = [MEAN] * 3
    image_std = [STD] * 3
    do_resize = True
    do_rescale = True
    do_normalize = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.modalities = list(self.modalities)  # as it comes back from JSON
        longest, divisor = dict(self.size).get("longest_edge"), self.size_divisor
        if not isinstance(longest, int) or not isinstance(divisor, int) or not 1 <= divisor <= longest <= 4096:
            raise TrackingError(
                f"size is {dict(self.size)} and size_divisor {divisor!r}: give {{'longest_edge': pixels}} of at most "
                "4096 and at least size_divisor"
            )

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        """See `preprocess`."""
        return self.preprocess(images, *args, **kwargs)

    def preprocess(self, images: Mapping[str, np.ndarray | None], **kwargs: Any) -> BatchFeature:
        """The tensors of one instant.

        Args:
            images: sensor to uint8 [H, W, 3] or [H, W], all of one size; a sensor that is off is left out or None.
                RGB is joined by the first other sensor that is there; one kind alone takes both places.
            kwargs: return_tensors, "pt" or None: tensors come in either case.

        Returns:
            pixel_values float32 [1, 3, h, w]; auxiliary_values likewise, left out where one kind stands alone;
            first_modality_ids and modality_ids int64 [1], which sensor each of the two is; original_sizes int64
            [1, 2], height and width.

        Raises:
            TrackingError: an unknown sensor, sizes that differ, a frame that is not one, or no frame.
        """
        if not isinstance(images, Mapping) or set(kwargs) - {"return_tensors"}:
            raise TrackingError(
                f"give the frames of one instant, {{'rgb': uint8 [H, W, 3], ...}}, and nothing else; "
                f"{type(images).__name__} was given with {sorted(kwargs)}"
            )
        if kwargs.get("return_tensors") not in (None, "pt"):
            raise TrackingError(f"return_tensors is {kwargs['return_tensors']!r}: 'pt' alone is made here")
        longest = dict(self.size)["longest_edge"]
        view, size = make_view(
            images, tuple(self.modalities), longest, self.size_divisor, self.image_mean, self.image_std
        )
        if view is None:
            raise TrackingError("no sensor gives a frame: give one of " + ", ".join(self.modalities))
        tensors = {"pixel_values": view.first, "first_modality_ids": view.first_modality}
        tensors |= {"auxiliary_values": view.other} if view.paired else {}
        return BatchFeature(tensors | {"modality_ids": view.modality, "original_sizes": torch.tensor([size])})


SataImageProcessor.register_for_auto_class("AutoImageProcessor")
AutoImageProcessor.register(SataConfig, image_processor_classes={"pil": SataImageProcessor}, exist_ok=True)
