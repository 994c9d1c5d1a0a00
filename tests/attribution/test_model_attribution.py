"""A model and its data in, a report layer by layer out; and the same later, under pinned discretisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from plugins.attribution import AttributionInputError, AttributionReport, PIDAttributionPipeline
from plugins.attribution.estimation import ATOMS
from plugins.attribution.evaluate import ablated
from plugins.attribution.examples import Skipped
from plugins.attribution.families import Batch, DescribedFamily
from plugins.attribution.hooks import Tap
from plugins.attribution.model_capture import Captured, Timings
from plugins.attribution.planted import MIXTURES, generate
from plugins.attribution.questions import OTHER, ask, ask_again, merge_rare

CARD = Path(__file__).resolve().parents[2] / "hub_cards" / "attribution-tiny"
LAYERS = ["fusion.1", "fusion.2", "fusion.3"]


@pytest.fixture(scope="module")
def pipe() -> PIDAttributionPipeline:
    return PIDAttributionPipeline.from_pretrained(CARD)


@pytest.fixture(scope="module")
def report(pipe: PIDAttributionPipeline) -> AttributionReport:
    """The embedded model on data that only both streams together can answer."""
    rows = generate(MIXTURES["synergy"], 5, 600).rows()
    return pipe(rows, layers=LAYERS, readouts=True, dropping=True)


def test_the_decision_has_the_planted_atoms(report: AttributionReport) -> None:
    measured = [report.quantities[atom].value for atom in ATOMS]
    assert measured == pytest.approx(MIXTURES["synergy"].atoms, abs=0.05)
    assert report.names == ("image", "text")
    assert [verdict.decision for verdict in report.verdicts] == ["needs early fusion", "needs early fusion"]


def test_information_rises_in_the_layer_with_cross_attention_and_not_before(report: AttributionReport) -> None:
    at = {each.layer: each.quantities for each in report.layers if each.kind == "stream"}
    assert list(at) == LAYERS
    assert at["fusion.1"]["information_2"].value < 0.03
    assert at["fusion.1"]["synergy"].value > 0.9
    assert at["fusion.2"]["information_2"].value > 0.9
    assert at["fusion.2"]["synergy"].value < 0.05


def test_the_last_readout_is_the_decision_and_earlier_ones_do_not_see_the_image(report: AttributionReport) -> None:
    at = {each.layer: each.quantities for each in report.layers if each.kind == "target"}
    for name, decided in report.quantities.items():
        assert at["fusion.3"][name].value == pytest.approx(decided.value, abs=0.02)
    if "fusion.1" in at:  # a readout that always says the same is no question
        assert at["fusion.1"]["lost_without_1"].value < 0.03


def test_exchanging_a_modality_charges_the_synergy_to_both(report: AttributionReport) -> None:
    assert report.model is not None
    test = report.model.dropping
    assert test is not None
    assert test.reference == "label"
    assert test.both > 0.99
    assert 0.3 < test.drop(1) < 0.7
    assert 0.3 < test.drop(2) < 0.7


def test_a_report_with_layers_survives_json(report: AttributionReport) -> None:
    back = AttributionReport.from_dict(report.to_dict())
    assert back.layers == report.layers
    assert back.model == report.model


def test_every_form_of_the_report_names_each_layer_and_the_cost(report: AttributionReport) -> None:
    from plugins.attribution.html_report import to_html

    page, text, frame = to_html(report), report.to_markdown(), report.to_frame()
    for layer in LAYERS:
        assert layer in page
        assert f"| {layer} |" in text
        assert set(frame[frame["layer"] == layer]["kind"]) >= {"stream"}
    assert "on top" in text
    assert page.count("<table") >= 3


def test_the_same_seed_gives_the_same_report(pipe: PIDAttributionPipeline) -> None:
    rows = generate(MIXTURES["image"], 6, 300).rows()
    first, second = (pipe(rows, layers=["fusion.2"], seed=3) for _ in range(2))
    assert first.quantities == second.quantities
    assert [each.quantities for each in first.layers] == [each.quantities for each in second.layers]


def test_shuffled_labels_read_as_nothing(pipe: PIDAttributionPipeline) -> None:
    data = generate(MIXTURES["copy"], 7, 800)
    read = pipe.read(data.rows(), layers="none")
    shuffled = np.random.default_rng(0).permutation(read.captured.decision)
    report = pipe(*read.captured.sources, shuffled)
    assert report.quantities["total"].value < 0.05
    assert not report.quantities["total"].significant


def test_shards_counted_under_pinned_discretisers_explain_like_the_whole(pipe: PIDAttributionPipeline) -> None:
    rows = generate(MIXTURES["copy"], 8, 900).rows()
    pinned = pipe.fit_model(rows[:500], layers=["fusion.2"])
    whole = pipe.count_model(rows[500:])
    parts = pipe.count_model(rows[500:513]).merge(pipe.count_model(rows[513:]))
    for name, counts in whole.counts.items():
        assert np.array_equal(counts.table, parts.counts[name].table)
    report = pipe.explain_tables(parts, pinned)
    assert [each.layer for each in report.layers] == ["fusion.2"]
    assert report.quantities["unique_1"].value > 0.8
    assert report.examples == 400


def test_a_saved_pipeline_counts_under_the_same_discretisers(pipe: PIDAttributionPipeline, tmp_path: Path) -> None:
    rows = generate(MIXTURES["redundant"], 9, 300).rows()
    pipe.fit_model(rows[:200], layers="none")
    pipe.save_pretrained(tmp_path / "kept")
    back = PIDAttributionPipeline.from_pretrained(tmp_path / "kept")
    one, other = pipe.count_model(rows[200:]), back.count_model(rows[200:])
    assert np.array_equal(one.counts["decision"].table, other.counts["decision"].table)


def test_the_layers_of_other_weights_are_refused_and_their_decision_is_not(pipe: PIDAttributionPipeline) -> None:
    rows = generate(MIXTURES["copy"], 10, 300).rows()
    pinned = pipe.fit_model(rows, layers=["fusion.2"])
    cut = PIDAttributionPipeline.of_model(ablated(pipe.model), pipe.processor)
    cut.pinned = pinned
    with pytest.raises(AttributionInputError, match=r'other weights.*layers "none"'):
        cut.count_model(rows)
    assert cut.count_model(rows, layers="none").counts["decision"].total == 300


def test_discretisers_of_other_encoders_are_refused(pipe: PIDAttributionPipeline) -> None:
    rows = generate(MIXTURES["copy"], 11, 200).rows()
    pinned = pipe.fit_model(rows, layers="none")
    other = ablated(pipe.model)
    with torch.no_grad():
        other.get_parameter("image_encoder.norm.weight").mul_(1.001)
    changed = PIDAttributionPipeline.of_model(other, pipe.processor)
    changed.pinned = pinned
    with pytest.raises(AttributionInputError, match="encoders are not this model's"):
        changed.count_model(rows, layers="none")


# What cannot be used


def test_a_model_that_always_answers_the_same_has_nothing_to_explain(pipe: PIDAttributionPipeline) -> None:
    stuck = ablated(pipe.model)
    with torch.no_grad():
        stuck.get_parameter("classifier.bias")[0] += 1e4
    with pytest.raises(AttributionInputError, match=r"for every example.*different answers"):
        PIDAttributionPipeline.of_model(stuck, pipe.processor)(generate(MIXTURES["copy"], 1, 60).rows())


def test_a_layer_that_does_not_exist_is_refused_with_the_nearest_names(pipe: PIDAttributionPipeline) -> None:
    with pytest.raises(AttributionInputError, match=r"no layer 'fusion.22'.*fusion\.2"):
        pipe(generate(MIXTURES["copy"], 1, 60).rows(), layers=["fusion.22"])


def test_labels_as_the_target_need_labels(pipe: PIDAttributionPipeline) -> None:
    rows = [{"image": row["image"], "text": row["text"]} for row in generate(MIXTURES["copy"], 1, 60).rows()]
    with pytest.raises(AttributionInputError, match="no labels"):
        pipe(rows, target="label", layers="none")


def test_a_pipeline_without_a_model_says_how_to_load_one() -> None:
    with pytest.raises(AttributionInputError, match="from_pretrained"):
        PIDAttributionPipeline().read([])


def test_examples_whose_image_cannot_be_read_are_skipped_counted_and_listed(pipe: PIDAttributionPipeline) -> None:
    rows = generate(MIXTURES["copy"], 2, 120).rows()
    rows[7] = rows[7] | {"image": b"no image"}
    report = pipe(rows, layers="none")
    assert report.model is not None
    assert report.examples == 119
    assert len(report.model.skipped) == 1


# Questions


def captured(decision: list[str], **changes) -> Captured:
    """Made-up rows of a model with one layer."""
    n = len(decision)
    rows = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    made = Captured(
        sources=(rows, rows + 1),
        layers={"text.0": rows + 2},
        layer_streams={"text.0": "text"},
        decision=np.array(decision),
        label=None,
        readouts={},
        names=("image", "text"),
        skipped=(Skipped("x", "y"),),
        timings=Timings(1.0, 0.0, 0.0, n),
    )
    return replace(made, **changes)


def test_rare_answers_become_other_and_are_never_rare_together() -> None:
    answers = np.array(["a"] * 300 + ["b"] * 90 + ["c"] * 2 + ["d", "e", "f"])
    names, counts = np.unique(merge_rare(answers), return_counts=True)
    assert dict(zip(names, counts, strict=True)) == {"a": 300, "b": 90, OTHER: 5}
    names, counts = np.unique(merge_rare(np.array(["a"] * 300 + ["b"] * 99 + ["c"])), return_counts=True)
    assert dict(zip(names, counts, strict=True)) == {"a": 300, OTHER: 100}


def test_a_later_shard_keeps_the_classes_and_calls_the_rest_other() -> None:
    first = captured(["a"] * 30 + ["b"] * 30)
    asked = [question for question, _ in ask(first, "decision", "all")]
    classes = {question.name: ["a", OTHER] for question in asked}
    later = dict(ask_again(captured(["b", "z", "a"]), asked, "decision", classes))
    assert [question.name for question in later] == ["decision", "text.0@stream"]
    for streams in later.values():
        assert streams.y.tolist() == [OTHER, OTHER, "a"]


def test_a_layer_takes_the_place_of_its_own_stream() -> None:
    made = captured(["a"] * 30 + ["b"] * 30)
    at = {question.name: streams for question, streams in ask(made, "decision", "all")}
    assert np.allclose(at["text.0@stream"].x1, made.sources[0])
    assert np.allclose(at["text.0@stream"].x2, made.layers["text.0"])


# Any other model


class Scales(nn.Module):
    """A model of nobody's: the mean brightness of a picture and the length of a text, and whether both are large."""

    def __init__(self) -> None:
        super().__init__()
        self.see, self.read = nn.Identity(), nn.Identity()

    def forward(self, picture: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        bright, long = self.see(picture)[:, 0] > 0.5, self.read(words)[:, 0] > 0.5
        both = (bright & long).float()
        return torch.stack([1 - both, both], dim=1)


def test_any_module_is_explained_by_its_dotted_paths() -> None:
    def collate(pairs: Sequence[tuple[Image.Image, str]]) -> Batch:
        pictures = torch.tensor([[np.asarray(image).mean() / 255] for image, _ in pairs], dtype=torch.float32)
        words = torch.tensor([[len(text) / 10] for _, text in pairs])
        return Batch({"picture": pictures, "words": words}, {})

    model = Scales()
    family = DescribedFamily(
        model,
        labels=("no", "yes"),
        image_source=Tap("image", "see", "image", pool="none"),
        text_source=Tap("text", "read", "text", pool="none"),
        layer_taps=(Tap("image.0", "see", "image", pool="none"),),
        collate_with=collate,
        read=lambda output: output,
        image_argument="picture",
    )
    values = np.random.default_rng(0).integers(0, 2, (400, 2))
    rows = [{"image": Image.new("RGB", (2, 2), (200 * a,) * 3), "text": "x" * (1 + 9 * b)} for a, b in values]
    report = PIDAttributionPipeline.of_model(model, family=family, name="scales")(rows)
    assert report.quantities["redundancy"].value == pytest.approx(0.311, abs=0.05)  # of AND, in closed form
    assert report.quantities["synergy"].value == pytest.approx(0.5, abs=0.05)
    assert report.model is not None
    assert report.model.model == "scales"
