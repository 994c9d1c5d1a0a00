"""CLIP, ViLT, BLIP and our own two-stream model: encoders whose answer is one of a list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .family import Batch, ProcessedFamily, Row, class_indices, pad_ids, plain
from .hooks import Observer, Positions, Stream, Tap

ANSWERS_AT_ONCE = 32


def _numbered(
    stream: Stream, paths: Sequence[str], positions: str | None = None, pool: Any = "mean", key: str = ""
) -> tuple[Tap, ...]:
    name = key or stream
    return tuple(Tap(f"{name}.{i}", path, stream, positions, pool) for i, path in enumerate(paths))


@dataclass(frozen=True, eq=False)
class CLIPFamily(ProcessedFamily):
    """Two towers that meet only in a cosine.

    The decision is zero-shot: the option whose text is nearest, in CLIP's space, to the image and to the text together
    (the sum of both cosines). CLIP has no fusion of its own; with the image's cosine alone the text could not matter.
    Each tower is read where it reads itself: the image at CLS, the text at its last token.
    """

    title: ClassVar[str] = "CLIPModel"
    needs: ClassVar[tuple[str, ...]] = ("vision_model", "text_model", "visual_projection", "text_projection")

    @property
    def classes(self) -> tuple[str, ...]:
        """The options."""
        return self.options_needed("compares images and texts with label texts")

    @property
    def most_tokens(self) -> int:
        """Rows of the table of positions."""
        return self.config.text_config.max_position_embeddings

    def sources(self) -> tuple[Tap, Tap]:
        """The two projected embeddings, before they are normalised."""
        return (
            Tap("image", "visual_projection", "image", pool="none"),
            Tap("text", "text_projection", "text", pool="none"),
        )

    def layers(self) -> tuple[Tap, ...]:
        """Both towers."""
        images = self.stack("vision_model", self.config.vision_config.num_hidden_layers)
        texts = self.stack("text_model", self.config.text_config.num_hidden_layers)
        return _numbered("image", images, pool="first") + _numbered("text", texts, "words", "last")

    @cached_property
    def labels(self) -> Tensor:
        """Embeddings of the options, [K, d]."""
        rows = [
            Row(self._checked(tuple(self.processor.tokenizer(plain(each, self.processor.tokenizer))["input_ids"])), {})
            for each in self.classes
        ]
        ids, mask = (each.to(self.device) for each in pad_ids(rows, self.processor.tokenizer))
        model: Any = self.model
        found = model.get_text_features(input_ids=ids, attention_mask=mask)
        return normalize(getattr(found, "pooler_output", found), dim=-1)

    def scores(self, output: Any, batch: Batch) -> Tensor:
        """Sums of two cosines."""
        return (normalize(output.image_embeds, dim=-1) + normalize(output.text_embeds, dim=-1)) @ self.labels.T

    def readout_taps(self) -> tuple[Tap, ...]:
        """Every layer: the rest of its tower is left out, the other tower is whole."""
        return self.layers()

    def readout(self, key: str, state: Tensor, output: Any, batch: Batch) -> Tensor:
        """The tower's final norm and projection on an earlier state."""
        model: Any = self.model
        if key.startswith("image."):
            seen = model.visual_projection(model.vision_model.post_layernorm(state))
            return (normalize(seen, dim=-1) + normalize(output.text_embeds, dim=-1)) @ self.labels.T
        read = model.text_projection(model.text_model.final_layer_norm(state))
        return (normalize(output.image_embeds, dim=-1) + normalize(read, dim=-1)) @ self.labels.T


@dataclass(frozen=True, eq=False)
class LabelledFamily(ProcessedFamily):
    """A model with a list of labels of its own, of which the options are some."""

    @property
    def most_tokens(self) -> int:
        """Rows of the table of positions."""
        return self.config.max_position_embeddings

    @cached_property
    def wanted(self) -> list[int]:
        """Which of the model's answers are allowed."""
        return class_indices(self.options, self.config.id2label)

    @property
    def classes(self) -> tuple[str, ...]:
        """The options, or all answers."""
        return tuple(self.config.id2label[i] for i in self.wanted)


@dataclass(frozen=True, eq=False)
class ViltFamily(LabelledFamily):
    """One encoder over text and patches together, which answers questions.

    Both sources come from the embeddings: pooled, they are a bag of words and the mean of linearly embedded patches.
    The model shuffles patches, and with `max_image_length` above 0 leaves some out; which, follows torch's seed.
    """

    title: ClassVar[str] = "ViltForQuestionAnswering"
    needs: ClassVar[tuple[str, ...]] = ("vilt.embeddings", "vilt.pooler", "classifier")

    def sources(self) -> tuple[Tap, Tap]:
        """Embeddings of patches and of words."""
        return (
            Tap("image", "vilt.embeddings", "image", "image"),
            Tap("text", "vilt.embeddings", "text", "text"),
        )

    def layers(self) -> tuple[Tap, ...]:
        """Each layer twice: at its image positions and at its text positions."""
        paths = self.stack("vilt.encoder", self.config.num_hidden_layers)
        return _numbered("image", paths, "image") + _numbered("text", paths, "text")

    def observers(self) -> tuple[Observer, ...]:
        """The embeddings choose which patches are read."""
        return (Observer("vilt.embeddings", _vilt_positions),)

    def collate(self, rows: Sequence[Row]) -> Batch:
        """Images padded to the largest, with a mask."""
        batch = super().collate([Row(row.ids, {"pixel_values": torch.zeros(0)}) for row in rows])
        size = [max(row.pixels["pixel_values"].shape[axis] for row in rows) for axis in (1, 2)]
        pixels = torch.zeros((len(rows), 3, *size))
        mask = torch.zeros((len(rows), *size), dtype=torch.long)
        for i, row in enumerate(rows):
            image = row.pixels["pixel_values"]
            pixels[i, :, : image.shape[1], : image.shape[2]] = image
            mask[i, : image.shape[1], : image.shape[2]] = 1
        return Batch({**batch.inputs, "pixel_values": pixels, "pixel_mask": mask}, batch.positions, tuple(rows))

    def scores(self, output: Any, batch: Batch) -> Tensor:
        """Logits of the allowed answers."""
        return output.logits[:, self.wanted]

    def readout_taps(self) -> tuple[Tap, ...]:
        """Each layer's first text position, which the classifier reads."""
        paths = self.stack("vilt.encoder", self.config.num_hidden_layers)
        return _numbered("text", paths, "text", "first")

    def readout(self, key: str, state: Tensor, output: Any, batch: Batch) -> Tensor:
        """Final norm, pooler and classifier on an earlier state."""
        model: Any = self.model
        return model.classifier(model.vilt.pooler(model.vilt.layernorm(state)[:, None]))[:, self.wanted]


def _vilt_positions(output: Any, positions: Mapping[str, Positions]) -> dict[str, Positions]:
    """Text first, as long as the padded text is; then CLS and the chosen patches."""
    valid = output[1].bool()
    words: Any = positions["words"].mask
    text, image = torch.zeros_like(valid), valid.clone()
    text[:, : words.shape[1]] = words.to(valid.device)
    image[:, : words.shape[1]] = False
    return {"text": Positions(mask=text), "image": Positions(mask=image)}


@dataclass(frozen=True)
class BlipOutput:
    """States of the question that has seen the image, [B, T, d]."""

    question: Tensor


@dataclass(frozen=True, eq=False)
class BlipFamily(ProcessedFamily):
    """A text encoder that attends to the image in each layer, and a decoder that scores candidate answers.

    A candidate's score is the sum of the log-probabilities of its tokens and of the end. There is no readout by depth:
    the decoder was trained on last states of all positions.
    """

    title: ClassVar[str] = "BlipForQuestionAnswering"
    needs: ClassVar[tuple[str, ...]] = ("vision_model", "text_encoder.embeddings", "text_decoder.cls")

    @property
    def classes(self) -> tuple[str, ...]:
        """The options."""
        return self.options_needed("scores candidate answers")

    @property
    def most_tokens(self) -> int:
        """Rows of the table of positions."""
        return self.config.text_config.max_position_embeddings

    def sources(self) -> tuple[Tap, Tap]:
        """The whole vision encoder; the text's embeddings, since its first layer attends to the image already."""
        return (
            Tap("image", "vision_model", "image"),
            Tap("text", "text_encoder.embeddings", "text", "words"),
        )

    def layers(self) -> tuple[Tap, ...]:
        """Vision layers, and layers of the question after their cross-attention."""
        images = self.stack("vision_model", self.config.vision_config.num_hidden_layers)
        texts = self.stack("text_encoder", self.config.text_config.num_hidden_layers)
        return _numbered("image", images) + _numbered("text", texts, "words")

    def forward(self, batch: Batch) -> BlipOutput:
        """The question after the image; the answers are decoded in `scores`."""
        model: Any = self.model
        seen = model.vision_model(pixel_values=batch.inputs["pixel_values"])[0]
        everywhere = torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device)
        asked = model.text_encoder(
            input_ids=batch.inputs["input_ids"],
            attention_mask=batch.inputs["attention_mask"],
            encoder_hidden_states=seen,
            encoder_attention_mask=everywhere,
        )
        return BlipOutput(asked[0])

    def scores(self, output: BlipOutput, batch: Batch) -> Tensor:
        """Log-probabilities of the candidates.

        Questions of one length are scored together, without padding: the decoder's cross-attention ignores the mask
        that it is given (transformers 5.24).
        """
        lengths = batch.inputs["attention_mask"].sum(1)
        found = output.question.new_zeros((len(lengths), len(self.classes)), dtype=torch.float32)
        for length in lengths.unique().tolist():
            rows = lengths == length
            parts = [self._score(output.question[rows, :length], answers) for answers in self._answers()]
            found[rows] = torch.cat(parts, dim=1)
        return found

    def _answers(self) -> Iterator[list[Row]]:
        """Candidates as [start, tokens, end], some at a time."""
        tokenizer, text = self.processor.tokenizer, self.config.text_config
        rows = [
            Row((text.bos_token_id, *tokenizer(each, add_special_tokens=False)["input_ids"], text.sep_token_id), {})
            for each in self.classes
        ]
        for start in range(0, len(rows), ANSWERS_AT_ONCE):
            yield rows[start : start + ANSWERS_AT_ONCE]

    def _score(self, question: Tensor, answers: list[Row]) -> Tensor:
        """[B, answers], of questions [B, T, d] without padding."""
        model: Any = self.model
        ids, mask = (each.to(question.device) for each in pad_ids(answers, self.processor.tokenizer))
        many, rows = len(answers), len(question)
        logits = model.text_decoder(
            input_ids=ids[:, :-1].repeat(rows, 1),
            attention_mask=mask[:, :-1].repeat(rows, 1),
            encoder_hidden_states=question.repeat_interleave(many, 0),
            use_cache=False,
        ).logits
        chances = logits.float().log_softmax(-1)
        said = chances.gather(-1, ids[:, 1:].repeat(rows, 1)[..., None])[..., 0]
        return (said * mask[:, 1:].repeat(rows, 1)).sum(-1).view(rows, many)


@dataclass(frozen=True, eq=False)
class TwoStreamFamily(LabelledFamily):
    """Our own small model: an encoder for each stream, then text positions that attend to the image."""

    title: ClassVar[str] = "TwoStreamForClassification"
    needs: ClassVar[tuple[str, ...]] = (
        "image_encoder.layers",
        "text_encoder.layers",
        "fusion.layers",
        "norm",
        "classifier",
    )

    def sources(self) -> tuple[Tap, Tap]:
        """Both encoders' outputs: neither has seen the other stream."""
        return (
            Tap("image", "image_encoder", "image"),
            Tap("text", "text_encoder", "text", "words"),
        )

    def layers(self) -> tuple[Tap, ...]:
        """Both encoders, then the fusion at text positions."""
        image, text, fusion = (
            [f"{name}.layers.{i}" for i in range(len(self.model.get_submodule(f"{name}.layers")))]  # ty: ignore[invalid-argument-type]
            for name in ("image_encoder", "text_encoder", "fusion")
        )
        fused = _numbered("text", fusion, "words", key="fusion")
        return _numbered("image", image) + _numbered("text", text, "words") + fused

    def scores(self, output: Any, batch: Batch) -> Tensor:
        """Logits of the allowed labels."""
        return output.logits[:, self.wanted]

    def readout_taps(self) -> tuple[Tap, ...]:
        """The fusion's layers, each text position through the final norm, as the classifier reads them."""
        return tuple(replace(tap, through="norm") for tap in self.layers() if tap.key.startswith("fusion."))

    def readout(self, key: str, state: Tensor, output: Any, batch: Batch) -> Tensor:
        """The classifier on an earlier state."""
        model: Any = self.model
        return model.classifier(state)[:, self.wanted]
