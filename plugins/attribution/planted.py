"""Pictures with sentences in which information is planted: what either shows alone, both show, or only both together.

Each mixture says with what probability a picture's attributes, a sentence's attributes and the answer come together, so
that the atoms are known exactly. All else (place, size, angle, light, background, wording) is drawn at random and says
nothing. A text is the mixture's question, the same each time, and a statement, which is where it varies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import AttributionInputError
from .synthetic import sample

if TYPE_CHECKING:
    from .decomposition import PIDResult

SIDE = 32  # pixels
TRAINING_SEEDS = 10_000_000  # from here on; evaluation takes seeds below
MOST_EXAMPLES = 100_000

PICTURED = {
    "shape": ("circle", "cross"),
    "colour": ("red", "blue"),
    "pattern": ("plain", "striped"),
    "side": ("left", "right"),
}
COLOURS = np.array([[0.86, 0.18, 0.14], [0.13, 0.30, 0.88]], np.float32)
CREAM = np.array([0.95, 0.92, 0.84], np.float32)
CHUNK = 64  # pictures that are drawn at once; more would not fit a core's cache


@dataclass(frozen=True)
class Told:
    """An attribute that a sentence tells: the words for each of its two values, and the sentences around them."""

    words: tuple[tuple[str, ...], tuple[str, ...]]
    sentences: tuple[str, ...]


TOLD = {
    "season": Told(
        (("summer", "july"), ("winter", "january")),
        ("It was painted in {}.", "The note on it says {}.", "Somebody made this one day in {}.", "It is from {}."),
    ),
    "label": Told(
        (("circle", "disc"), ("cross", "plus")),
        ("The label says {}.", "On the back stands {}.", "The catalogue has it as a {}.", "They call it a {}."),
    ),
    "memory": Told(
        (("left",), ("right",)),
        ("A visitor remembers it on the {}.", "I recall it at the {}.", "From memory, it is on the {}."),
    ),
    "claim": Told(
        (("circle", "disc"), ("cross", "plus")),
        ("The picture shows a {}.", "There is a {} in it.", "Here you see a {}.", "You can see one {} here."),
    ),
    "bill": Told(
        (("open", "unpaid"), ("paid", "settled")),
        ("The bill is {}.", "Its bill has been {} for days.", "They say the bill is {} now."),
    ),
    "place": Told(
        (("left",), ("right",)),
        ("The shape is on the {}.", "Look for it on the {} side.", "It hangs at the {}."),
    ),
}


@dataclass(frozen=True, eq=False)
class Mixture:
    """What is planted where.

    Attributes:
        name, title: for commands and for people.
        question: the beginning of every text.
        pictured: attributes of the picture that are the first source, keys of `PICTURED`; the value of the k-th
            counts 2^k in the source's code. The others are drawn at random.
        told: attributes of the sentence that are the second source, keys of `TOLD`; likewise.
        answers: of the question, in the order of the target's codes.
        joint: p(image value, text value, answer), [n1, n2, ny].
        atoms: redundancy, unique to the image, unique to the text, synergy; bits, in closed form.
    """

    name: str
    title: str
    question: str
    pictured: tuple[str, ...]
    told: tuple[str, ...]
    answers: tuple[str, ...]
    joint: np.ndarray
    atoms: tuple[float, float, float, float]

    @property
    def truth(self) -> PIDResult:
        """The exact decomposition of `joint`, by the solver."""
        from .decomposition import decompose

        return decompose(self.joint)

    @property
    def image_names(self) -> tuple[str, ...]:
        """The first source's values in words, in the order of their codes."""
        return _names([PICTURED[name] for name in self.pictured])

    @property
    def text_names(self) -> tuple[str, ...]:
        """The second source's values in words, in the order of their codes."""
        words = [TOLD[name].words for name in self.told]
        return _names([(zero[0], one[0]) for zero, one in words])


@dataclass(frozen=True, eq=False)
class PlantedExamples:
    """n examples of one mixture.

    Attributes:
        images: uint8 [n, 32, 32, 3].
        texts: question and statement, n of them.
        labels: the right answers, [n] of str.
        image_values, text_values: codes of the two sources, int64 [n].
        attributes: what each picture shows, name to int64 [n], planted or not.
    """

    images: np.ndarray
    texts: list[str]
    labels: np.ndarray
    image_values: np.ndarray
    text_values: np.ndarray
    attributes: dict[str, np.ndarray]

    def rows(self) -> list[dict[str, Any]]:
        """As a data set: mappings with image (Pillow), text and label."""
        from PIL import Image

        return [
            {"image": Image.fromarray(image), "text": text, "label": str(label)}
            for image, text, label in zip(self.images, self.texts, self.labels, strict=True)
        ]


def _names(values: list[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(" ".join(reversed(words)) for words in product(*reversed(values)))


def _joint(chances: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """[n1, n2, ny] from p(x1, x2), [n1, n2], and the answer to each pair, [n1, n2]."""
    return chances[:, :, None] * (answers[:, :, None] == np.arange(answers.max() + 1))


def _bits() -> tuple[np.ndarray, np.ndarray]:
    image, text = np.indices((2, 2))
    return image, text


def _mixed() -> Mixture:
    """X1 = (r, u, a), X2 = (r, b), Y = (r, u, a xor b): one bit of each atom but what is the text's alone."""
    image, text = np.indices((8, 4))
    agree = (image & 1) == (text & 1)
    answers = (image & 3) + 4 * ((image >> 2) ^ (text >> 1))
    return Mixture(
        "mixed",
        "Something of everything",
        "Which shape, which colour, and is the side told right?",
        ("shape", "colour", "side"),
        ("label", "place"),
        _names([PICTURED["shape"], PICTURED["colour"], ("yes", "no")]),
        _joint(agree / 16.0, answers),
        (1.0, 1.0, 0.0, 1.0),
    )


def _mixtures() -> tuple[Mixture, ...]:
    image, text = _bits()
    even, same = np.full((2, 2), 0.25), np.diag([0.5, 0.5])
    often = np.array([[0.375, 0.125], [0.125, 0.375]])  # the text is wrong a quarter of the time
    quarter = float(-0.25 * np.log2(0.25) - 0.75 * np.log2(0.75))  # h(1/4)
    season, label, yes = ("summer", "winter"), ("circle", "cross"), ("yes", "no")
    return (
        Mixture(
            "image", "Only the picture shows it", "Which colour is it?", ("colour",), ("season",),
            PICTURED["colour"], _joint(even, image), (0.0, 1.0, 0.0, 0.0),
        ),
        Mixture(
            "text", "Only the sentence tells it", "Which season is it from?", ("colour",), ("season",),
            season, _joint(even, text), (0.0, 0.0, 1.0, 0.0),
        ),
        Mixture(
            "redundant", "Both show the same", "Which shape is it?", ("shape",), ("label",),
            label, _joint(same, image), (1.0, 0.0, 0.0, 0.0),
        ),
        Mixture(
            "synergy", "Only both together tell it", "Is the sentence true?", ("shape",), ("claim",),
            yes, _joint(even, image ^ text), (0.0, 0.0, 0.0, 1.0),
        ),
        Mixture(
            "and", "Both have to be there", "Is it striped and paid?", ("pattern",), ("bill",),
            ("no", "yes"), _joint(even, image & text), (quarter - 0.5, 0.0, 0.0, 0.5),
        ),
        Mixture(
            "backup", "The sentence is a poor backup", "On which side is it?", ("side",), ("memory",),
            PICTURED["side"], _joint(often, image), (1.0 - quarter, quarter, 0.0, 0.0),
        ),
        Mixture(
            "copy", "Each shows its own", "Which pattern and which season?", ("pattern",), ("season",),
            _names([PICTURED["pattern"], season]), _joint(even, image + 2 * text), (0.0, 1.0, 1.0, 0.0),
        ),
        _mixed(),
    )  # fmt: skip


MIXTURES = {mixture.name: mixture for mixture in _mixtures()}
LABELS = tuple(dict.fromkeys(answer for mixture in MIXTURES.values() for answer in mixture.answers))


def find_mixture(name: str) -> Mixture:
    """A mixture by name.

    Raises:
        AttributionInputError: there is none of that name.
    """
    if name not in MIXTURES:
        raise AttributionInputError(f"mixture {name!r} is unknown: choose from {', '.join(MIXTURES)}")
    return MIXTURES[name]


def generate(mixture: Mixture, seed: int, count: int) -> PlantedExamples:
    """`count` examples of a mixture; the same arguments give the same examples.

    Raises:
        AttributionInputError: a seed below 0, or a count outside 1 to 100,000.
    """
    if seed < 0:
        raise AttributionInputError(f"seed is {seed}: give 0 or more; {TRAINING_SEEDS:,} and above were trained on")
    if not 1 <= count <= MOST_EXAMPLES:
        raise AttributionInputError(f"count is {count}: give 1 to {MOST_EXAMPLES:,}")
    rng = np.random.default_rng([seed, *mixture.name.encode()])
    image_values, text_values, codes = sample(mixture.joint, count, rng)
    attributes = {name: rng.integers(0, 2, count) for name in PICTURED}
    attributes |= {name: (image_values >> place) & 1 for place, name in enumerate(mixture.pictured)}
    texts = [f"{mixture.question} {_statement(mixture, int(value), rng)}" for value in text_values]
    labels = np.array(mixture.answers)[codes]
    return PlantedExamples(draw(attributes, rng), texts, labels, image_values, text_values, attributes)


def _statement(mixture: Mixture, value: int, rng: np.random.Generator) -> str:
    sentences = []
    for place, name in enumerate(mixture.told):
        told = TOLD[name]
        words = told.words[(value >> place) & 1]
        sentence = told.sentences[rng.integers(len(told.sentences))]
        sentences.append(sentence.format(words[rng.integers(len(words))]))
    return " ".join(sentences[each] for each in rng.permutation(len(sentences)))


def vocabulary() -> tuple[str, ...]:
    """Every word and mark of every text, in lower case."""
    texts = [mixture.question for mixture in MIXTURES.values()]
    for told in TOLD.values():
        texts += told.sentences
        texts += [word for words in told.words for word in words]
    return tuple(sorted(set(re.findall(r"\w+|[^\w\s{}]", " ".join(texts).lower()))))


def draw(attributes: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Pictures uint8 [n, 32, 32, 3] of one large shape with these attributes, each int [n], on a cluttered ground."""
    starts = range(0, len(attributes["shape"]), CHUNK)
    parts = ({name: values[at : at + CHUNK] for name, values in attributes.items()} for at in starts)
    return np.concatenate([_draw_some(part, rng) for part in parts])


def _draw_some(attributes: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    count = len(attributes["shape"])
    canvas = _ground(count, rng)
    for _ in range(3):
        _add_clutter(canvas, rng)
    x = np.float32(11.0) * attributes["side"].astype(np.float32) + _uniform(rng, 9.0, 12.0, (count,))
    y, radius = _uniform(rng, 10.0, 22.0, (count,)), _uniform(rng, 5.0, 7.0, (count,))
    angle = _uniform(rng, -0.5, 0.5, (count,))
    u, v = _turned(x, y, angle)
    distance = _distance(u, v, radius, attributes["shape"] == 1)
    shadow = _cover(_distance(*_turned(x + 1.2, y + 1.4, angle), radius, attributes["shape"] == 1))
    canvas *= 1.0 - 0.4 * shadow[..., None]
    colour = (COLOURS[attributes["colour"]] + _uniform(rng, -0.07, 0.07, (count, 3)))[:, None, None]
    _blend(canvas, _cover(distance), 0.8 * colour)  # the rim
    light = 1.0 + 0.012 * (u - v)[..., None]
    stripes = _stripes(u, v, rng) * (attributes["pattern"] == 1)[:, None, None]
    filling = (colour * light) * (1.0 - stripes[..., None]) + CREAM * stripes[..., None]
    _blend(canvas, _cover(distance + 1.0), filling)
    canvas *= _uniform(rng, 0.8, 1.1, (count, 1, 1, 1))
    canvas += 0.015 * rng.standard_normal(canvas.shape, np.float32)
    return (255.0 * canvas.clip(0.0, 1.0)).round().astype(np.uint8)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Centres of pixels: x and y, [1, 32, 32] each."""
    y, x = np.indices((SIDE, SIDE)).astype(np.float32) + 0.5
    return x[None], y[None]


def _uniform(rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
    return (low + (high - low) * rng.random(shape, np.float32)).astype(np.float32)


def _turned(x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the pixels in frames at (x, y), each [n], turned by an angle; [n, 32, 32] each."""
    across, down = _grid()
    across, down = across - x[:, None, None], down - y[:, None, None]
    cosine, sine = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    return cosine * across + sine * down, cosine * down - sine * across


def _distance(u: np.ndarray, v: np.ndarray, radius: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Signed distance to the outline; a cross has the area of the circle, so that size does not tell them apart."""
    length = (radius * np.float32(np.sqrt(9 * np.pi / 20)))[:, None, None]  # its arms are a third as wide as it is
    circles = np.sqrt(u * u + v * v) - radius[:, None, None]
    across, down = abs(u), abs(v)
    crosses = np.maximum(np.maximum(across, down) - length, np.minimum(across, down) - length / 3)
    return np.where(cross[:, None, None], crosses, circles)


def _cover(distance: np.ndarray) -> np.ndarray:
    """How much of each pixel is inside, 0 to 1."""
    return (0.5 - distance).clip(0.0, 1.0)


def _blend(canvas: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    canvas += cover[..., None] * (colour - canvas)


def _stripes(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[n, 32, 32], 0 or 1 with soft edges; along either axis of the shape."""
    count = len(u)
    period, phase = _uniform(rng, 3.8, 5.0, (count, 1, 1)), _uniform(rng, 0.0, 1.0, (count, 1, 1))
    along = np.where(rng.integers(0, 2, (count, 1, 1)) == 1, u, v)
    return (0.5 + 1.5 * np.sin(2 * np.pi * (along / period + phase))).clip(0.0, 1.0)


def _ground(count: int, rng: np.random.Generator) -> np.ndarray:
    """A dull gradient with a weave, float32 [n, 32, 32, 3]."""
    x, y = (axis / SIDE - np.float32(0.5) for axis in _grid())
    angle = _uniform(rng, 0.0, 2 * np.pi, (count, 1, 1))
    slope = (np.cos(angle) * x + np.sin(angle) * y)[..., None]
    canvas = _uniform(rng, 0.3, 0.75, (count, 1, 1, 1)) + _uniform(rng, -0.06, 0.06, (count, 1, 1, 3))
    canvas = canvas + slope * _uniform(rng, -0.3, 0.3, (count, 1, 1, 3)) * np.array([0.5, 1.0, 0.5], np.float32)
    for _ in range(2):
        waves = _uniform(rng, -56.0, 56.0, (2, count, 1, 1))
        weave = np.sin(waves[0] * x + waves[1] * y + _uniform(rng, 0.0, 2 * np.pi, (count, 1, 1)))
        canvas += np.float32(0.04) * weave[..., None]
    return canvas


def _add_clutter(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """One small grey or green shape anywhere."""
    count = len(canvas)
    x, y = _uniform(rng, 0.0, SIDE, (2, count))
    u, v = _turned(x, y, _uniform(rng, 0.0, np.pi, (count,)))
    cover = _cover(_distance(u, v, _uniform(rng, 1.2, 2.4, (count,)), rng.integers(0, 2, count) == 1))
    colour = np.repeat(_uniform(rng, 0.1, 0.9, (count, 1, 1, 1)), 3, axis=-1)
    colour[..., 1] += _uniform(rng, 0.0, 0.2, (count, 1, 1))
    _blend(canvas, cover, colour)
