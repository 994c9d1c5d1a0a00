"""How alike two sentences are, by the measures of the field.

Character BLEU-4 is the one that LLaMA-Factory reports, and so most likely that of arXiv 2511.12937; it flatters
sentences of a template with the wrong words in it. Show `exact_match` beside it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

ORDER = 4

# sacreBLEU's tokenizer "13a": signs stand alone, but a full stop or a comma inside a number does not.
_SIGNS = re.compile(r"([{-~\[-` -&(-+:-@/])")
_AFTER_LETTER = re.compile(r"([^0-9])([.,])")
_BEFORE_LETTER = re.compile(r"([.,])([^0-9])")
_DASH = re.compile(r"([0-9])(-)")


def character_bleu(prediction: str, label: str) -> float:
    """BLEU-4 on characters, 0 to 100: NLTK's `sentence_bleu` with uniform weights and smoothing method 3.

    The n-th order without a match counts as half, a quarter, ... of one match.
    """
    counts = _matches(prediction, label)
    if not counts[0][0]:
        return 0.0
    return _bleu([(matched, max(1, total)) for matched, total in counts], len(prediction), len(label))


def word_bleu(prediction: str, label: str) -> float:
    """BLEU on words, 0 to 100: sacreBLEU's `sentence_bleu`: tokenizer 13a, exponential smoothing, effective order.

    Orders that are longer than the prediction do not count. Entities such as `&amp;` are not resolved.
    """
    predicted, expected = _words(prediction), _words(label)
    counts = [(matched, total) for matched, total in _matches(predicted, expected) if total]
    if not counts or not any(matched for matched, _ in counts):
        return 0.0
    return _bleu(counts, len(predicted), len(expected))


def exact_match(prediction: str, label: str) -> bool:
    """Whether both are the same but for spaces around them."""
    return prediction.strip() == label.strip()


def _matches(prediction: Sequence[str], label: Sequence[str]) -> list[tuple[int, int]]:
    """For n of 1 to 4: n-grams of the prediction that the label has too, as often at most, and all of them."""
    counts = []
    for order in range(1, ORDER + 1):
        predicted, expected = _grams(prediction, order), _grams(label, order)
        counts.append(((predicted & expected).total(), predicted.total()))
    return counts


def _grams(items: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(items[at : at + order]) for at in range(len(items) - order + 1))


def _bleu(counts: Sequence[tuple[int, int]], predicted: int, expected: int) -> float:
    """The geometric mean of the precisions, times the penalty for brevity."""
    logarithms, missing = [], 0
    for matched, total in counts:
        missing += not matched
        logarithms.append(math.log(matched / total if matched else 1 / (2**missing * total)))
    penalty = min(0.0, 1 - expected / predicted)
    return 100 * math.exp(penalty + math.fsum(logarithms) / len(logarithms))


def _words(text: str) -> list[str]:
    text = _SIGNS.sub(r" \1 ", f" {text} ")
    text = _AFTER_LETTER.sub(r"\1 \2 ", text)
    text = _BEFORE_LETTER.sub(r" \1 \2", text)
    return _DASH.sub(r"\1 \2 ", text).split()
