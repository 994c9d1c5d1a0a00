"""The usual test on a model: how much worse it answers when one modality comes from another example.

It sees what the model uses today and nothing of what it could use: two streams that repeat each other both look
useless, and one that only matters together with the other looks as important as one that matters alone. It is here to
be read beside the decomposition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from .errors import AttributionInputError
from .examples import Example, Skipped
from .layers import DroppingTest

MOST_EXAMPLES = 1000
MOST_PIXELS = 100_000_000  # held in memory at once; 300 MB

Decide = Callable[[Sequence[Example]], np.ndarray]


def dropping_test(decide: Decide, examples: Iterable[Example | Skipped], *, seed: int = 0) -> DroppingTest:
    """Accuracy with both modalities, and with the image or the text of each example taken from another one.

    Args:
        decide: the model's answers to examples, [n] texts.
        examples: at most 1,000 of them, or 100 megapixels, are drawn evenly.
        seed: of the draw and of the exchange.
    """
    rng = np.random.default_rng(seed)
    drawn = draw(examples, rng)
    if len(drawn) < 2:
        raise AttributionInputError(f"the dropping test needs two examples, there are {len(drawn)}")
    order = exchange(len(drawn), rng)
    own = decide(drawn)
    labels = [example.label for example in drawn]
    known = all(label is not None for label in labels)
    right = np.array(labels, dtype=np.str_) if known else own
    images = [replace(example, image=drawn[other].image) for example, other in zip(drawn, order, strict=True)]
    texts = [replace(example, text=drawn[other].text) for example, other in zip(drawn, order, strict=True)]
    return DroppingTest(
        both=float((own == right).mean()),
        without_1=float((decide(images) == right).mean()),
        without_2=float((decide(texts) == right).mean()),
        reference="label" if known else "decision",
    )


def draw(examples: Iterable[Example | Skipped], rng: np.random.Generator) -> list[Example]:
    """Examples with an image, drawn evenly from a stream of unknown length (reservoir, algorithm R)."""
    kept: list[Example] = []
    most, pixels = MOST_EXAMPLES, 0
    usable = (each for each in examples if isinstance(each, Example) and each.image is not None)
    for seen, example in enumerate(usable):
        assert example.image is not None
        pixels = max(pixels, example.image.width * example.image.height)
        most = max(2, min(most, MOST_PIXELS // max(pixels, 1)))
        if len(kept) < most:
            kept.append(example)
        elif (place := int(rng.integers(seen + 1))) < most:
            kept[place] = example
        del kept[most:]
    return kept


def exchange(n: int, rng: np.random.Generator) -> np.ndarray:
    """A permutation of n that leaves nothing in its place (Sattolo: one cycle)."""
    order = np.arange(n)
    for last in range(n - 1, 0, -1):
        other = int(rng.integers(last))
        order[last], order[other] = order[other], order[last]
    return order
