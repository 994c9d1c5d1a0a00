"""The small two-stream classifier: its parts, its processor, its training, and the checkpoint that is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoImageProcessor, AutoModelForSequenceClassification, AutoProcessor
from typer.testing import CliRunner

from plugins.attribution import AttributionInputError
from plugins.attribution.configuration_two_stream import TwoStreamConfig
from plugins.attribution.modeling_two_stream import TwoStreamForClassification
from plugins.attribution.planted import MIXTURES, TRAINING_SEEDS, generate
from plugins.attribution.processing_two_stream import TwoStreamProcessor
from plugins.attribution.train import HELD_OUT_SEED, Trainer, held_out, new_model, new_processor

FOLDER = Path(__file__).resolve().parents[2] / "hub_cards" / "attribution-tiny"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
PLUGIN = FOLDER.parents[1] / "plugins" / "attribution"
RECORD = json.loads((FOLDER / "training.json").read_text(encoding="utf-8"))
TOLERANCE = 0.02  # of an accuracy, for other examples


@pytest.fixture(scope="module")
def model() -> TwoStreamForClassification:
    return TwoStreamForClassification.from_pretrained(FOLDER).eval()


@pytest.fixture(scope="module")
def processor() -> TwoStreamProcessor:
    return TwoStreamProcessor.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def inputs(processor):
    examples = generate(MIXTURES["mixed"], 21, 6)
    return processor(list(examples.images), examples.texts)


class TestModel:
    def test_the_text_does_not_know_the_picture_before_cross_attention_and_does_after(self, model, inputs):
        other = {**inputs, "pixel_values": inputs["pixel_values"].flip(0)}
        with torch.no_grad():
            one, two = (model(**each, output_hidden_states=True).hidden_states for each in (inputs, other))
        differ = [not torch.equal(a, b) for a, b in zip(one, two, strict=True)]
        first = min(model.config.cross_attention_layers)
        assert differ == [index > first for index in range(model.config.num_fusion_layers + 1)]

    def test_every_part_that_is_read_gives_a_tensor_of_tokens(self, model, inputs):
        shapes: dict[str, torch.Size] = {}
        parts = {"image": model.image_encoder, "text": model.text_encoder}
        parts |= {f"fusion {index}": layer for index, layer in enumerate(model.fusion.layers)}
        hooks = [
            part.register_forward_hook(lambda module, given, made, name=name: shapes.update({name: made.shape}))
            for name, part in parts.items()
        ]
        with torch.no_grad():
            model(**inputs)
        for hook in hooks:
            hook.remove()
        words = inputs["input_ids"].shape[1]
        expected = dict.fromkeys(parts, (6, words, model.config.hidden_size))
        assert shapes == expected | {"image": (6, 16, model.config.hidden_size)}

    def test_filling_up_changes_no_answer(self, model, processor):
        examples = generate(MIXTURES["image"], 3, 8)
        alone = processor(list(examples.images), examples.texts)
        long = generate(MIXTURES["mixed"], 3, 1)
        padded = processor([*examples.images, *long.images], [*examples.texts, *long.texts])
        assert padded["input_ids"].shape[1] > alone["input_ids"].shape[1]
        with torch.no_grad():
            torch.testing.assert_close(model(**padded).logits[:8], model(**alone).logits, rtol=1e-5, atol=1e-5)

    def test_what_lies_under_the_mask_changes_no_answer(self, model, inputs):
        mask = inputs["attention_mask"].clone()
        mask[:, -3:] = 0
        changed = torch.where(mask == 0, 5, inputs["input_ids"])
        assert not torch.equal(changed, inputs["input_ids"])
        with torch.no_grad():
            one = model(inputs["pixel_values"], inputs["input_ids"], mask).logits
            two = model(inputs["pixel_values"], changed, mask).logits
        assert torch.equal(one, two)

    def test_the_loss_is_the_cross_entropy_of_the_labels_and_reaches_every_weight(self, inputs, processor):
        fresh = new_model(processor)
        labels = torch.arange(6)
        output = fresh(**inputs, labels=labels)
        expected = -output.logits.log_softmax(dim=-1)[labels, labels].mean()
        torch.testing.assert_close(output.loss, expected)
        output.loss.backward()
        silent = [name for name, value in fresh.named_parameters() if value.grad is None or not value.grad.any()]
        assert silent == []

    def test_saving_and_loading_keeps_every_bit(self, tmp_path, inputs, processor):
        fresh = new_model(processor).eval()
        fresh.save_pretrained(tmp_path)
        again = TwoStreamForClassification.from_pretrained(tmp_path).eval()
        one, two = fresh.state_dict(), again.state_dict()
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)
        with torch.no_grad():
            assert torch.equal(fresh(**inputs).logits, again(**inputs).logits)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"hidden_size": 30}, "not a multiple of num_attention_heads"),
            ({"image_size": 20}, "give a multiple of 8"),
            ({"cross_attention_layers": [4]}, "name layers from 0 to 3"),
        ],
    )
    def test_settings_that_do_not_fit_together_are_refused(self, options, message):
        with pytest.raises(Exception, match=message):
            TwoStreamConfig(**options)


class TestProcessor:
    def test_pictures_of_any_size_and_kind_become_what_the_model_takes(self, processor):
        image = generate(MIXTURES["image"], 3, 1).images[0]
        large = Image.fromarray(image).resize((128, 96), Image.Resampling.NEAREST).convert("RGBA")
        one = processor([image, large], ["Which colour is it?", "Which colour is it? It is from July."])
        assert one["pixel_values"].shape == (2, 3, 32, 32)
        assert one["attention_mask"].sum(dim=1).tolist() == [5, 10]

    def test_words_it_does_not_know_are_said_to_be_unknown_and_case_does_not_count(self, processor):
        picture = np.zeros((32, 32, 3), np.uint8)
        ids = processor([picture] * 2, ["WHICH zebra", "which colour"])["input_ids"]
        assert ids[0, 0] == ids[1, 0]
        assert ids[0, 1] == processor.tokenizer.unk_token_id

    @pytest.mark.parametrize(
        ("images", "text", "message"),
        [
            ([], [], "no picture"),
            (None, "which", "no picture"),
            (np.zeros((32, 32, 3)), "which", r"give uint8 \[height, width, 3\]"),
            (np.zeros((4, 4, 1), np.uint8), "which", r"give uint8 \[height, width, 3\]"),
            (["a.png"], "which", "give a PIL image or an array"),
            (np.zeros((4, 4, 3), np.uint8), ["which", "which"], "give one for each"),
            (np.zeros((4, 4, 3), np.uint8), [3], "give a text, or a list of texts"),
            (np.zeros((4, 4, 3), np.uint8), None, "give a text, or a list of texts"),
            (np.zeros((4, 4, 3), np.uint8), "", "give 1 to 48"),
            (np.zeros((4, 4, 3), np.uint8), "which " * 49, "give 1 to 48"),
        ],
    )
    def test_what_cannot_be_taken_is_refused(self, processor, images, text, message):
        with pytest.raises(AttributionInputError, match=message):
            processor(images, text)


class TestTraining:
    def test_a_training_that_was_cut_goes_on_as_if_it_had_not_been(self, tmp_path):
        weights = []
        for cut in (False, True):
            torch.manual_seed(3)
            processor = new_processor()
            trainer = Trainer(new_model(processor), processor, seed=1)
            trainer.train_step(1e-3)
            if cut:
                trainer.save(tmp_path / "state.pt")
                torch.manual_seed(4)
                trainer = Trainer(new_model(processor), processor, seed=0)
                trainer.load(tmp_path / "state.pt")
            trainer.train_step(1e-3)
            weights.append(trainer.model.state_dict())
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    def test_the_command_writes_a_checkpoint_a_log_and_how_it_was_made(self, tmp_path, monkeypatch):
        import typer

        import plugins.attribution.train as training

        monkeypatch.setattr(training, "HELD_OUT", 4)
        app = typer.Typer()
        app.command()(training.train_command)
        done = CliRunner().invoke(app, ["--minutes", "0.01", "--out", str(tmp_path)])
        assert done.exit_code == 0, done.output
        record = json.loads((tmp_path / "checkpoint" / "training.json").read_text())
        assert record["steps"] >= 1
        assert set(record["held_out"]) == set(MIXTURES)
        assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["stage"] == "held out"
        kept = {file.name for file in FOLDER.iterdir()} - {"README.md", "evaluation.json", "examples.png"}
        assert {file.name for file in (tmp_path / "checkpoint").iterdir()} == kept
        other = CliRunner().invoke(app, ["--minutes", "0.01", "--seed", "5", "--out", str(tmp_path)])
        assert other.exit_code == 2


class TestCheckpoint:
    @pytest.mark.parametrize("name", MIXTURES)
    def test_it_answers_as_its_record_says_and_its_decisions_carry_what_was_planted(self, model, processor, name):
        found = held_out(model, processor, MIXTURES[name], 500_000, 300)
        assert found.accuracy == pytest.approx(RECORD["held_out"][name]["accuracy"], abs=TOLERANCE)
        assert found.atoms == pytest.approx(MIXTURES[name].atoms, abs=0.1)  # of 300 draws

    @pytest.mark.parametrize("name", MIXTURES)
    def test_its_record_meets_the_bar(self, name):
        recorded = RECORD["held_out"][name]
        assert recorded["accuracy"] >= 0.99
        assert recorded["truth"] == pytest.approx(MIXTURES[name].atoms)
        assert recorded["atoms"] == pytest.approx(MIXTURES[name].atoms, abs=0.05)

    def test_its_record_is_of_examples_that_training_did_not_take(self):
        assert RECORD["held_out_seed"] == HELD_OUT_SEED < TRAINING_SEEDS
        assert RECORD["held_out_examples"] == 2000

    def test_decisions_that_are_always_the_same_carry_nothing(self, processor):
        constant = new_model(processor).eval()
        with torch.no_grad():
            constant.classifier.weight.zero_()
        found = held_out(constant, processor, MIXTURES["image"], 500_000, 40)
        assert found.atoms == pytest.approx((0, 0, 0, 0), abs=1e-9)
        assert 0.2 < found.accuracy < 0.8  # it says "red"

    def test_the_auto_classes_know_it(self):
        assert isinstance(AutoConfig.from_pretrained(FOLDER), TwoStreamConfig)
        assert isinstance(AutoModelForSequenceClassification.from_pretrained(FOLDER), TwoStreamForClassification)
        assert isinstance(AutoProcessor.from_pretrained(FOLDER), TwoStreamProcessor)
        assert type(AutoImageProcessor.from_pretrained(FOLDER)).__name__ == "TwoStreamImageProcessor"

    def test_saving_what_was_loaded_changes_nothing(self, model, processor, tmp_path):
        model.save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
        own = {"README.md", "training.json", "evaluation.json", "examples.png"}
        names = sorted(file.name for file in FOLDER.iterdir() if file.name not in own)
        assert sorted(file.name for file in tmp_path.iterdir()) == names
        one, two = (load_file(place / "model.safetensors") for place in (FOLDER, tmp_path))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)

    def test_the_code_beside_the_weights_is_that_of_the_plugin(self):
        copies = sorted(FOLDER.glob("*.py"))
        assert [file.name for file in copies] == [
            "configuration_two_stream.py", "errors.py", "modeling_two_stream.py", "processing_two_stream.py",
        ]  # fmt: skip
        assert [file.name for file in copies if file.read_bytes() != (PLUGIN / file.name).read_bytes()] == []

    def test_nothing_of_the_training_alone_is_in_it(self, model):
        names = load_file(FOLDER / "model.safetensors").keys()
        assert set(names) == set(model.state_dict())
        assert (FOLDER / "model.safetensors").stat().st_size < 6_000_000
