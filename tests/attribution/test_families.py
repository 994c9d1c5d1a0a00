"""Five families of transformers and our own: what capture keeps of them is what they compute themselves."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import BertConfig, BertModel, ViltForMaskedLM

from plugins.attribution.errors import AttributionInputError
from plugins.attribution.examples import Example, Skipped
from plugins.attribution.families import Batch, CLIPFamily, DescribedFamily, LlavaFamily, QwenFamily, family_of
from plugins.attribution.hooks import PooledCapture, Positions, Tap
from plugins.attribution.model_capture import Captured, ModelCapture, RowStore
from plugins.attribution.model_loading import load_for_capture
from plugins.attribution.modeling_two_stream import TwoStreamForClassification
from tests.attribution.tiny_families import KINDS, OPTIONS, examples, options_of, save, tiny, tiny_llava

CLOSE: dict[str, Any] = {"atol": 2e-5, "rtol": 1e-4}
MIXED = ((40, 40), (90, 40), (40, 70))  # pictures of three shapes


@cache
def model_of(kind: str) -> tuple[Any, Any]:
    return tiny(kind)


@cache
def captured(kind: str, batch_size: int = 4) -> Captured:
    """Eight examples of mixed lengths and shapes, with every layer."""
    model, processor = model_of(kind)
    capture = ModelCapture(model, processor, options=options_of(kind), batch_size=batch_size)
    return capture(examples(8, sizes=MIXED))


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def forward(model: Any, **inputs: Any) -> Any:
    """The model without hooks, its patches in the order that the seed gives."""
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(0)
        return model(**inputs)


def clip_itself(model: Any, processor: Any, example: Example) -> dict[str, Tensor]:
    inputs = processor(images=example.image, text=example.text, return_tensors="pt")
    out = forward(model, **inputs, output_hidden_states=True)
    vision, text = out.vision_model_output.hidden_states, out.text_model_output.hidden_states
    found = {f"image.{i}": vision[i + 1][0, 0] for i in range(2)} | {f"text.{i}": text[i + 1][0, -1] for i in range(3)}
    # The tower's output is normalised already; its direction is what the source has.
    return found | {"source image": out.image_embeds[0], "source text": out.text_embeds[0]}


def vilt_itself(model: Any, processor: Any, example: Example) -> dict[str, Tensor]:
    inputs = processor(images=example.image, text=example.text, return_tensors="pt")
    states = forward(model, **inputs, output_hidden_states=True).hidden_states
    words = inputs["input_ids"].shape[1]
    patches = inputs["pixel_mask"].sum().item() // 16**2
    assert states[0].shape[1] == words + 1 + patches
    text, image = ([state[0, part].mean(0) for state in states] for part in (slice(words), slice(words, None)))
    found = {f"text.{i}": text[i + 1] for i in range(2)} | {f"image.{i}": image[i + 1] for i in range(2)}
    return found | {"source image": image[0], "source text": text[0]}


def blip_itself(model: Any, processor: Any, example: Example) -> dict[str, Tensor]:
    inputs = processor(images=example.image, text=example.text, return_tensors="pt")
    vision = forward(model.vision_model, pixel_values=inputs["pixel_values"], output_hidden_states=True)
    asked = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    asked |= {"encoder_hidden_states": vision.last_hidden_state, "output_hidden_states": True}
    text = forward(model.text_encoder, **asked).hidden_states
    found = {f"image.{i}": vision.hidden_states[i + 1][0].mean(0) for i in range(2)}
    found |= {f"text.{i}": text[i + 1][0].mean(0) for i in range(2)}
    return found | {"source image": vision.last_hidden_state[0].mean(0), "source text": text[0][0].mean(0)}


def merged(model: Any, inputs: dict[str, Tensor], features: Tensor) -> dict[str, Tensor]:
    """Means over the positions of a merged sequence; its last state is behind a norm and is left out."""
    states = forward(model, **inputs, output_hidden_states=True).hidden_states
    image = inputs["input_ids"][0] == model.config.image_token_id
    assert int(image.sum()) == len(features)
    torch.testing.assert_close(states[0][0, image], features)
    found = {f"image.{i}": states[i + 1][0, image].mean(0) for i in range(2)}
    found |= {f"text.{i}": states[i + 1][0, ~image].mean(0) for i in range(2)}
    return found | {"source image": features.mean(0), "source text": states[0][0, ~image].mean(0)}


def llava_itself(model: Any, processor: Any, example: Example) -> dict[str, Tensor]:
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": example.text}]}]
    prompt = processor.apply_chat_template(said, add_generation_prompt=True)
    inputs = processor(images=example.image, text=prompt, add_special_tokens=False, return_tensors="pt")
    features = model.get_image_features(pixel_values=inputs["pixel_values"]).pooler_output[0]
    return merged(model, dict(inputs), features)


def qwen_itself(model: Any, processor: Any, example: Example) -> dict[str, Tensor]:
    pixels = processor.image_processor(images=[example.image], return_tensors="pt")
    places = int(pixels["image_grid_thw"].prod()) // 4
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": example.text}]}]
    prompt = processor.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    text = processor.tokenizer(prompt.replace("<|image_pad|>", "<|image_pad|>" * places), return_tensors="pt")
    kinds = (text["input_ids"] == model.config.image_token_id).int()
    inputs = {"input_ids": text["input_ids"], "attention_mask": text["attention_mask"], "mm_token_type_ids": kinds}
    features = torch.cat(tuple(model.get_image_features(**pixels).pooler_output))
    return merged(model, inputs | dict(pixels), features)


def two_stream_itself(model: Any, processor: Any, example: Example) -> dict[str, Tensor]:
    inputs = processor(example.image, example.text)
    states = forward(model, **inputs, output_hidden_states=True).hidden_states
    found = {f"fusion.{i}": states[i + 1][0].mean(0) for i in range(len(states) - 1)}
    image = model.image_encoder(inputs["pixel_values"])[0].mean(0)
    return found | {"source image": image, "source text": states[0][0].mean(0)}


THEMSELVES: dict[str, Callable[[Any, Any, Example], dict[str, Tensor]]] = {
    "clip": clip_itself,
    "vilt": vilt_itself,
    "blip": blip_itself,
    "llava": llava_itself,
    "qwen2_5_vl": qwen_itself,
    "two_stream": two_stream_itself,
}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padded_batches_hold_what_the_model_says_of_each_example_alone(kind: str) -> None:
    model, processor = model_of(kind)
    found = captured(kind)
    for row, example in enumerate(examples(8, sizes=MIXED)):
        wanted = THEMSELVES[kind](model, processor, example)
        sources = {"source image": found.sources[0][row], "source text": found.sources[1][row]}
        if kind == "clip":
            sources = {name: value / np.linalg.norm(value) for name, value in sources.items()}
        got = sources | {key: values[row] for key, values in found.layers.items()}
        assert set(wanted) <= set(got)
        for key, value in wanted.items():
            np.testing.assert_allclose(got[key], value.detach().numpy(), **CLOSE, err_msg=f"{key} of row {row}")


@pytest.mark.parametrize("kind", KINDS)
def test_one_by_one_and_in_a_batch_of_mixed_lengths_are_the_same(kind: str) -> None:
    together, alone = captured(kind, batch_size=8), captured(kind, batch_size=1)
    assert together.decision.tolist() == alone.decision.tolist()
    for key, values in together.layers.items():
        np.testing.assert_allclose(values, alone.layers[key], **CLOSE, err_msg=key)
    for ours, theirs in zip(together.sources, alone.sources, strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE)


@pytest.mark.parametrize("family", [LlavaFamily, QwenFamily])
def test_padding_on_the_left_and_on_the_right_is_the_same(family: type[LlavaFamily] | type[QwenFamily]) -> None:
    model, processor = model_of("llava" if family is LlavaFamily else "qwen2_5_vl")
    sides = [
        ModelCapture(model, None, family=family(model, processor, OPTIONS, padding=side), batch_size=8)(
            examples(8, sizes=MIXED)
        )
        for side in ("left", "right")
    ]
    assert sides[0].decision.tolist() == sides[1].decision.tolist()
    for key, values in sides[0].layers.items():
        np.testing.assert_allclose(values, sides[1].layers[key], **CLOSE, err_msg=key)


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_change_no_bit_of_the_output(kind: str) -> None:
    model, processor = model_of(kind)
    family = family_of(model, processor, options_of(kind))
    batch = family.collate([family.encode(each.image, each.text) for each in examples(3) if each.image])
    with torch.inference_mode():
        torch.manual_seed(0)
        plain = family.forward(batch)
        plain_scores = family.scores(plain, batch)
        with PooledCapture(model, (*family.sources(), *family.layers()), family.observers()) as capture:
            capture.expect(batch.positions)
            torch.manual_seed(0)
            watched = family.forward(batch)
            capture.take()
        watched_scores = family.scores(watched, batch)
    assert torch.equal(plain_scores, watched_scores)
    pairs = zip(tensors(plain), tensors(watched), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def tensors(output: Any) -> list[Tensor]:
    values = output.values() if isinstance(output, dict) else vars(output).values()
    return [value for value in values if isinstance(value, Tensor)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_from_the_callback_leaves_no_hook_and_the_mode_as_it_was(kind: str) -> None:
    model, processor = tiny(kind)
    model.train()
    ModelCapture(model, processor, options=options_of(kind))(examples(1))  # transformers adds lasting hooks of its own
    before = hooks_of(model)
    seen: list[str] = []

    def stop(fraction: float, message: str) -> None:
        seen.append(message)
        if len(seen) == 2:
            assert hooks_of(model) > before
            raise KeyboardInterrupt

    capture = ModelCapture(model, processor, options=options_of(kind), batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        capture(examples(8), callback=stop)
    assert hooks_of(model) == before
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "blip"])
def test_the_readout_at_the_last_layer_is_the_decision(kind: str) -> None:
    model, processor = model_of(kind)
    capture = ModelCapture(model, processor, options=options_of(kind), layers=None, readouts="all", batch_size=4)
    found = capture(examples(24, sizes=MIXED))
    assert found.layers == {}
    last = {"clip": ["image.1", "text.2"], "vilt": ["text.1"], "two_stream": ["fusion.3"]}.get(kind, ["text.2"])
    for key in last:
        assert found.readouts[key].tolist() == found.decision.tolist()
    assert any(read.tolist() != found.decision.tolist() for read in found.readouts.values())
    assert len(set(found.decision.tolist())) > 1


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl"])
def test_options_of_several_tokens_are_compared_by_sums_of_log_probabilities(kind: str) -> None:
    model, processor = model_of(kind)
    options = ("red", "not sure", "big green shape")
    family = family_of(model, processor, options)
    rows = [family.encode(each.image, each.text) for each in examples(4, sizes=MIXED) if each.image]
    batch = family.collate(rows)
    with torch.inference_mode():
        scores = family.scores(family.forward(batch), batch)
    for row, encoded in enumerate(rows):
        for column, option in enumerate(options):
            said = processor.tokenizer(option, add_special_tokens=False)["input_ids"]
            whole = family.collate([type(encoded)((*encoded.ids, *said), encoded.pixels)])
            logits = forward(model, **whole.inputs).logits[0].log_softmax(-1)
            start = len(encoded.ids) - 1
            wanted = sum(logits[start + i, token] for i, token in enumerate(said))
            torch.testing.assert_close(scores[row, column], wanted, atol=1e-4, rtol=1e-4)


def test_options_of_several_tokens_have_no_readout() -> None:
    model, processor = model_of("llava")
    with pytest.raises(AttributionInputError, match="'not sure' is several tokens"):
        ModelCapture(model, processor, options=("red", "not sure"), readouts="all")


def test_blips_candidates_are_scored_as_its_own_loss_does() -> None:
    model, processor = model_of("blip")
    options = ("red", "not sure", "big green shape")
    family = family_of(model, processor, options)
    example = examples(1)[0]
    batch = family.collate([family.encode(example.image, example.text)])  # ty: ignore[invalid-argument-type]
    with torch.inference_mode():
        output = family.forward(batch)
        scores = family.scores(output, batch)[0]
    text = model.config.text_config
    for score, option in zip(scores, options, strict=True):
        said = processor.tokenizer(option, add_special_tokens=False)["input_ids"]
        labels = torch.tensor([[text.bos_token_id, *said, text.sep_token_id]])
        inputs = processor(images=example.image, text=example.text, return_tensors="pt")
        loss = forward(model, **inputs, labels=labels).loss
        torch.testing.assert_close(score, -loss * (len(said) + 1), atol=1e-4, rtol=1e-4)


def test_clip_decides_by_the_sum_of_both_cosines() -> None:
    model, processor = model_of("clip")
    example = examples(1)[0]
    found = ModelCapture(model, processor, options=OPTIONS)([example])
    scores = [
        forward(
            model, **processor(images=example.image, text=[example.text, option], return_tensors="pt", padding=True)
        )
        for option in OPTIONS
    ]
    cosines = [float((out.image_embeds[0] + out.text_embeds[0]) @ out.text_embeds[1]) for out in scores]
    assert found.decision.tolist() == [OPTIONS[int(np.argmax(cosines))]]


class IgnoresImages(TwoStreamForClassification):
    """Takes pixels and puts zeros in their place."""

    def forward(self, pixel_values: Tensor, input_ids: Tensor, **inputs: Any) -> Any:  # ty: ignore[incompatible-method-override]
        return super().forward(torch.zeros_like(pixel_values), input_ids, **inputs)


def test_a_model_that_the_image_does_not_reach_is_refused() -> None:
    model, processor = tiny("two_stream")
    blind = IgnoresImages(model.config)
    blind.load_state_dict(model.state_dict())
    with pytest.raises(AttributionInputError, match="does not reach it"):
        ModelCapture(blind, processor)(examples(4))


def test_models_of_one_stream_are_refused_with_what_is_needed() -> None:
    model, processor = model_of("clip")
    for single, missing in ((model.text_model, "no image"), (model.vision_model, "no text")):
        with pytest.raises(AttributionInputError, match=f"{missing}.*two streams are needed"):
            ModelCapture(single, processor, options=OPTIONS)
    with pytest.raises(AttributionInputError, match="no image"):
        ModelCapture(BertModel(BertConfig(vocab_size=9, hidden_size=12, num_hidden_layers=1)), processor)


def test_a_model_of_the_family_that_decides_nothing_is_refused() -> None:
    model, processor = model_of("vilt")
    with pytest.raises(AttributionInputError, match=r"no classifier: load ViltForQuestionAnswering"):
        ModelCapture(ViltForMaskedLM(model.config), processor)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["text.9"]}, r"no layer 'text\.9': the nearest are 'text\."),
        ({"layers": "some"}, "give 'all', a list of keys, or None"),
        ({"readouts": ["image.0"]}, "no readout 'image.0'"),
        ({"options": ["red"]}, "two or more"),
        ({"options": ["red", "redd"]}, "no answer 'redd': the nearest are 'red'"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_what_cannot_be_captured_is_refused_with_what_can(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AttributionInputError, match=message):
        ModelCapture(*model_of("vilt"), **arguments)


@pytest.mark.parametrize("kind", ["clip", "blip", "llava", "qwen2_5_vl"])
def test_families_without_labels_of_their_own_ask_for_options(kind: str) -> None:
    with pytest.raises(AttributionInputError, match="options"):
        ModelCapture(*model_of(kind))


def test_layers_are_captured_in_order_of_depth_with_their_stream() -> None:
    found = ModelCapture(*model_of("two_stream"), layers=["fusion.1", "image.0", "fusion.0"])(examples(2))
    assert list(found.layer_streams.items()) == [("image.0", "image"), ("fusion.0", "text"), ("fusion.1", "text")]
    assert list(found.layers) == list(found.layer_streams)
    assert found.names == ("image", "text")


@pytest.mark.parametrize("kind", KINDS)
def test_examples_that_the_model_cannot_take_are_left_out_and_listed(kind: str) -> None:
    model, processor = model_of(kind)
    good = examples(3)
    bad = [
        Skipped("broken.png", "damaged"),
        Example(None, "what colour", "red", "no picture"),
        Example(good[0].image, "red " * 2000, "red", "long text"),
    ]
    found = ModelCapture(model, processor, options=options_of(kind), layers=None, batch_size=2)(
        [good[0], *bad, *good[1:]]
    )
    assert [each.name for each in found.skipped] == ["broken.png", "no picture", "long text"]
    assert "tokens" in found.skipped[2].reason
    assert len(found.decision) == len(found.sources[0]) == len(found.sources[1]) == found.timings.n == 3
    assert found.label is not None
    assert found.label.tolist() == ["red", "green", "blue"]


def test_no_usable_example_is_an_error_that_says_why() -> None:
    capture = ModelCapture(*model_of("vilt"))
    with pytest.raises(AttributionInputError, match=r"no example could be used.*'a', because damaged"):
        capture([Skipped("a", "damaged")])


def test_an_image_of_absurd_proportions_is_left_out() -> None:
    strip = Example(Image.new("RGB", (2000, 4)), "what", "red", "strip")
    found = ModelCapture(*model_of("qwen2_5_vl"), options=OPTIONS, layers=None)([*examples(2), strip])
    assert [each.name for each in found.skipped] == ["strip"]


@pytest.mark.parametrize(("kind", "marker"), [("llava", "<image>"), ("qwen2_5_vl", "<|image_pad|>")])
def test_a_text_cannot_write_the_models_own_markers(kind: str, marker: str) -> None:
    model, processor = model_of(kind)
    family = family_of(model, processor, OPTIONS)
    picture: Any = examples(1)[0].image
    plain, hostile = (family.encode(picture, text) for text in ("what colour", f"what {marker} colour"))
    image = model.config.image_token_id
    assert hostile.ids.count(image) == plain.ids.count(image) > 0


def test_llava_without_a_chat_template_is_asked_as_it_was_trained() -> None:
    model, processor = tiny_llava(template=None)
    family = family_of(model.eval(), processor, OPTIONS)
    picture: Any = examples(1)[0].image
    ids = family.encode(picture, "what colour").ids
    words = [each for each in processor.tokenizer.convert_ids_to_tokens(ids) if each != "<image>"]
    assert words == ["<s>", "USER", ":", "what", "colour", "ASSISTANT", ":"]


def test_memory_does_not_grow_with_the_number_of_batches_but_for_the_pooled_rows() -> None:
    model, processor = tiny("two_stream")
    states: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    for module in (*model.image_encoder.layers, *model.fusion.layers):
        module.register_forward_hook(lambda module, inputs, output: states.append(weakref.ref(output)))
    traced: list[int] = []

    def look(fraction: float, message: str) -> None:
        alive.append(sum(state() is not None for state in states))
        traced.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        rows = ModelCapture(model, processor, batch_size=4)((each for each in examples(160)), callback=look)
    finally:
        tracemalloc.stop()
    pooled = sum(values.nbytes for values in (*rows.layers.values(), *rows.sources))
    assert len(states) == (160 // 4 + 2) * 6  # two passes more, to see that the image reaches the model
    assert max(alive) == 0
    assert traced[-2] - traced[10] < pooled + 200_000


def test_rows_of_many_batches_come_back_as_one_array_and_lie_in_few_pieces() -> None:
    store, parts = RowStore(), [np.full((1 + i % 5, 3), i, np.float32) for i in range(900)]
    for part in parts:
        store.add("a", part)
    np.testing.assert_array_equal(store.of("a"), np.concatenate(parts))
    pieces = vars(store)["_arrays"]["a"]
    assert pieces.base is None
    assert len(pieces) < 4 * sum(map(len, parts))


def test_the_callers_random_numbers_stay_where_they_were() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    ModelCapture(*model_of("vilt"))(examples(3))
    assert torch.equal(torch.rand(1), wanted)


def test_any_module_can_be_described_by_dotted_paths() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.see, self.read, self.head = nn.Linear(3, 4), nn.Embedding(50, 4), nn.Linear(4, 2)

        def forward(self, picture: Tensor, words: Tensor) -> Tensor:
            return self.head(self.see(picture) + self.read(words).mean(1))

    def collate(pairs: Any) -> Batch:
        pictures = torch.stack([torch.tensor(np.asarray(image).mean((0, 1)) / 255).float() for image, _ in pairs])
        words = torch.tensor([[len(text), 0] for _, text in pairs])
        return Batch({"picture": pictures, "words": words}, {"words": Positions(mask=torch.ones_like(words).bool())})

    model = Plain()
    family = DescribedFamily(
        model,
        labels=("no", "yes"),
        image_source=Tap("image", "see", "image", pool="none"),
        text_source=Tap("text", "read", "text", "words"),
        layer_taps=(Tap("image.0", "see", "image", pool="none"),),
        collate_with=collate,
        read=lambda output: output,
        image_argument="picture",
    )
    found = ModelCapture(model, None, family=family)(examples(5))
    batch = collate([(each.image, each.text) for each in examples(5)])
    with torch.inference_mode():
        wanted = model(**batch.inputs).argmax(1)
        np.testing.assert_allclose(found.sources[1], model.read(batch.inputs["words"]).mean(1).numpy(), **CLOSE)
    assert found.decision.tolist() == [("no", "yes")[i] for i in wanted]


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_saved_as_published_ones_are_loads_and_decides_the_same(kind: str, tmp_path: Path) -> None:
    save(kind, tmp_path)
    model, parts = load_for_capture(tmp_path, device="cpu", local_files_only=True)
    found = ModelCapture(model, parts, options=options_of(kind), batch_size=4)(examples(8, sizes=MIXED))
    wanted = captured(kind)
    assert found.decision.tolist() == wanted.decision.tolist()
    for key, values in wanted.layers.items():
        np.testing.assert_allclose(found.layers[key], values, **CLOSE, err_msg=key)


def test_a_checkpoint_of_the_bare_model_or_of_pickles_is_refused(tmp_path: Path) -> None:
    save("vilt", tmp_path)
    model, _ = tiny("vilt")
    model.vilt.save_pretrained(tmp_path)
    with pytest.raises(AttributionInputError, match=r"lacks .* weights of ViltForQuestionAnswering"):
        load_for_capture(tmp_path, device="cpu")
    weights = tmp_path / "model.safetensors"
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(AttributionInputError, match="cannot be loaded"):
        load_for_capture(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("/no/such/folder", {}, "there is no checkpoint"),
        ("a b/c", {}, "there is no checkpoint"),
        ("owner/name", {"revision": "../main"}, "revision is"),
        ("owner/name", {"dtype": "int8"}, "dtype is 'int8'"),
        ("owner/name", {"device": "nothing"}, "device 'nothing' cannot be used"),
        ("owner/name", {"local_files_only": True}, "owner/name cannot be loaded"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_a_sentence(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AttributionInputError, match=message):
        load_for_capture(name, **arguments)


def test_bfloat16_models_give_float32_rows() -> None:
    model, processor = tiny("llava")
    found = ModelCapture(model.to(torch.bfloat16), processor, options=OPTIONS)(examples(8, sizes=MIXED))
    assert {values.dtype for values in (*found.layers.values(), *found.sources)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(found.sources[1], captured("llava").sources[1], atol=0.02)


def test_clips_label_texts_may_be_sentences() -> None:
    model, processor = model_of("clip")
    family = CLIPFamily(model, processor, ("the big shape is red", "blue"))
    with torch.inference_mode():
        assert family.labels.shape == (2, 24)
