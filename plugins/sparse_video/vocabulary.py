"""The small model's tokenizer: one token per word that its prompts can hold."""

from __future__ import annotations

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from .scenes import BACKGROUNDS, COLOURS, MOTIONS, SHAPES

JOINERS = ("a", "and", "behind", ",")
SPECIAL = ("<pad>", "</s>", "<unk>")


def words() -> tuple[str, ...]:
    """Every word of the grammar, sorted."""
    phrases = (*COLOURS, *SHAPES, *MOTIONS, *BACKGROUNDS)
    return tuple(sorted({word for phrase in phrases for word in phrase.split()} | set(JOINERS)))


def build_tokenizer(longest: int) -> PreTrainedTokenizerFast:
    """A word-level tokenizer that ends each text with </s>, as T5's does. Unknown words become <unk>."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *words()))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=longest,
        padding_side="right",
    )
