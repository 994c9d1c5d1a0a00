"""TwoStreamProcessor: pictures and texts to what TwoStreamForClassification takes, as AutoProcessor loads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoImageProcessor, AutoProcessor, PreTrainedTokenizerFast
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .configuration_two_stream import TwoStreamConfig
from .errors import AttributionInputError

PAD, UNKNOWN = "[PAD]", "[UNK]"
MOST_PIXELS = 4096 * 4096

Picture = Image.Image | np.ndarray


class TwoStreamImageProcessor(PilBackend):
    """Pictures of any size to float [B, 3, H, W], resized to `size` and normalised; needs no torchvision."""

    model_input_names = ["pixel_values"]  # noqa: RUF012
    size = {"height": 32, "width": 32}  # noqa: RUF012
    image_mean = [0.5] * 3
    image_std = [0.25] * 3
    do_resize = True
    do_rescale = True
    do_normalize = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        sides = (self.size["height"], self.size["width"])
        if not all(isinstance(side, int) and 1 <= side <= 1024 for side in sides):
            raise AttributionInputError(f"size is {dict(self.size)}: give height and width of 1 to 1024 pixels")

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        """See `preprocess`."""
        return self.preprocess(images, *args, **kwargs)

    def preprocess(self, images: Picture | Sequence[Picture], **kwargs: Any) -> BatchFeature:
        """pixel_values, float32 [B, 3, H, W].

        Args:
            images: one picture or several: PIL images, or arrays uint8 [H, W, 3].
            kwargs: return_tensors, "pt" or None: tensors come in either case.

        Raises:
            AttributionInputError: no picture, or something that is not one.
        """
        if set(kwargs) - {"return_tensors"} or kwargs.get("return_tensors") not in (None, "pt"):
            raise AttributionInputError(f"{kwargs} was given: return_tensors='pt' is the only setting of a call")
        single = isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3)
        pictures = [images] if single else images
        if not isinstance(pictures, list | tuple | np.ndarray) or len(pictures) == 0:
            raise AttributionInputError("there is no picture: give one, or a list of at least one")
        values = np.stack([self._pixels(picture) for picture in pictures]).astype(np.float32) / 255
        values = (values - np.array(self.image_mean, np.float32)) / np.array(self.image_std, np.float32)
        return BatchFeature({"pixel_values": torch.from_numpy(values).permute(0, 3, 1, 2).contiguous()})

    def _pixels(self, picture: Any) -> np.ndarray:
        """uint8 [H, W, 3] of the model's size."""
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
                raise AttributionInputError(
                    f"a picture is an array of {picture.dtype} {picture.shape}: give uint8 [height, width, 3]"
                )
            picture = Image.fromarray(picture)
        if not isinstance(picture, Image.Image):
            raise AttributionInputError(f"a picture is a {type(picture).__name__}: give a PIL image or an array")
        if not 0 < picture.width * picture.height <= MOST_PIXELS:
            raise AttributionInputError(
                f"a picture is {picture.width} x {picture.height} pixels, limit {MOST_PIXELS:,}: scale it down"
            )
        size = (self.size["width"], self.size["height"])
        picture = picture.convert("RGB")
        return np.asarray(picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR))


class TwoStreamProcessor(ProcessorMixin):
    """Holds the image processor and a tokenizer of whole words.

    Args:
        image_processor: a TwoStreamImageProcessor; loaded ones may come from another copy of its module.
        tokenizer: a PreTrainedTokenizerFast.
    """

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)

    @classmethod
    def for_words(cls, words: Sequence[str], *, side: int, most_words: int) -> Self:
        """The processor of a closed vocabulary, lower case, for pictures of `side` pixels and texts of `most_words`."""
        entries = {word: place for place, word in enumerate((PAD, UNKNOWN, *words))}
        tokenizer = Tokenizer(models.WordLevel(entries, unk_token=UNKNOWN))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token=PAD,
            unk_token=UNKNOWN,
            model_max_length=most_words,
            model_input_names=["input_ids", "attention_mask"],
        )
        return cls(TwoStreamImageProcessor(size={"height": side, "width": side}), fast)

    def __call__(self, images: Picture | Sequence[Picture], text: str | Sequence[str], **kwargs: Any) -> BatchFeature:
        """pixel_values [B, 3, H, W]; input_ids and attention_mask, int64 [B, N], filled up to the longest text.

        Args:
            images, text: one of each, or as many pictures as texts.
            kwargs: as of `TwoStreamImageProcessor.preprocess`.

        Raises:
            AttributionInputError: not as many texts as pictures, a text without words, or one that is too long.
        """
        pixels = self.image_processor(images, **kwargs)["pixel_values"]
        texts = [text] if isinstance(text, str) else text
        if not isinstance(texts, list | tuple) or not all(isinstance(each, str) for each in texts):
            raise AttributionInputError(f"text is a {type(text).__name__}: give a text, or a list of texts")
        if len(texts) != len(pixels):
            raise AttributionInputError(f"there are {len(pixels)} pictures and {len(texts)} texts: give one for each")
        encoded = self.tokenizer(texts, padding=True, return_tensors="pt")
        counts = encoded["attention_mask"].sum(dim=1)
        if counts.min() < 1 or counts.max() > self.tokenizer.model_max_length:
            raise AttributionInputError(
                f"texts have {int(counts.min())} to {int(counts.max())} words and marks: "
                f"give 1 to {self.tokenizer.model_max_length}"
            )
        return BatchFeature({"pixel_values": pixels} | {name: encoded[name] for name in encoded})


TwoStreamImageProcessor.register_for_auto_class("AutoImageProcessor")
TwoStreamProcessor.register_for_auto_class("AutoProcessor")
AutoImageProcessor.register(TwoStreamConfig, image_processor_classes={"pil": TwoStreamImageProcessor}, exist_ok=True)
AutoProcessor.register(TwoStreamConfig, TwoStreamProcessor, exist_ok=True)
