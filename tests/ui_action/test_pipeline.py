"""The pipeline loads a checkpoint of Qwen2.5-VL's kind and answers with actions; bad input is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer

from plugins.ui_action.backends.base import Prompt, Video
from plugins.ui_action.errors import ParseError, UIActionInputError
from plugins.ui_action.pipeline_ui_action import UIActionPipeline
from plugins.ui_action.processing import ScreenProcessor
from plugins.ui_action.small_model import new_model, new_tokenizer
from plugins.ui_action.train import save_checkpoint

SCREEN = Image.new("RGB", (250, 170), (20, 90, 40))
ANSWER = "Thought: there.\nAction: click(start_box='<|box_start|>(98,82)<|box_end|>')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint with random weights."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("checkpoint")
    processor = ScreenProcessor(new_tokenizer([ANSWER, "Select the red tank"]))
    save_checkpoint(place, new_model(processor.tokenizer), processor)
    return place


@pytest.fixture(scope="module")
def pipe(folder) -> UIActionPipeline:
    return UIActionPipeline.from_pretrained(folder, device="cpu")


@pytest.fixture
def saying(pipe, monkeypatch):
    """The pipeline with a model that says the answer whatever it sees."""
    ids = [*pipe.processor.tokenizer(ANSWER)["input_ids"], pipe.processor.tokenizer.eos_token_id]

    def generate(input_ids, logits_processor, **_):
        logits_processor(input_ids, torch.zeros(1, 10))
        return torch.cat([input_ids, torch.tensor([ids])], 1)

    monkeypatch.setattr(pipe.model, "generate", generate)
    return pipe


def test_an_answer_becomes_an_action_in_pixels_of_the_screen(saying):
    found = saying(SCREEN, "Select the red tank")
    assert found.thought == "there."
    (action,) = found.actions
    assert action.type == "click"
    # The model saw 252 x 168 pixels.
    assert action.start == pytest.approx((98 * 250 / 252, 82 * 170 / 168), abs=1.01)


def test_the_run_is_recorded(saying):
    saying(SCREEN, "Select the red tank", platform="web")
    run = json.loads(json.dumps(saying.run))
    assert run["params"] == {"instruction": "Select the red tank", "platform": "web", "role": "both", "family": "tiny"}
    assert run["model_size"] == [252, 168]
    assert run["prompt_tokens"] > 54
    assert run["output_tokens"] == len(saying.processor.tokenizer(ANSWER)["input_ids"]) + 1
    assert run["timings"]["total"] >= run["timings"]["prefill"] + run["timings"]["decode"] > 0


def test_a_model_that_was_never_trained_says_nothing_that_is_carried_out(pipe):
    with pytest.raises(ParseError):
        pipe(SCREEN, "Select the red tank", max_new_tokens=8)
    assert pipe.run["output_tokens"] <= 8


def test_several_screens_and_a_clip_are_taken(pipe):
    for screens in ([SCREEN, SCREEN], Video((SCREEN,) * 4, 2.0), [Video((SCREEN,) * 2, 2.0), SCREEN]):
        assert pipe(screens, "Wait", role="reason", max_new_tokens=2).actions == ()


def test_greedy_answers_are_the_same_each_time(pipe):
    prompt = Prompt("reason", "Wait", (SCREEN,), "desktop")
    backend = pipe.backend(max_new_tokens=6)
    assert backend.complete(prompt).text == backend.complete(prompt).text


def test_transformers_alone_loads_the_same_weights(folder, pipe):
    model = AutoModelForImageTextToText.from_pretrained(folder)
    own = pipe.model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == pipe.processor.tokenizer.chat_template


def test_saved_again_it_is_the_same(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = UIActionPipeline.from_pretrained(tmp_path, device="cpu")
    assert again.family == "tiny"
    assert again.processor.limits == pipe.processor.limits
    (weight,) = {name for name in again.model.state_dict() if name.endswith("layers.0.mlp.up_proj.weight")}
    assert torch.equal(again.model.state_dict()[weight], pipe.model.state_dict()[weight])


@pytest.mark.parametrize(
    ("screens", "instruction", "options", "message"),
    [
        (Image.new("RGB", (1, 1)), "Go", {}, "sides of 14 to 8192"),
        (Image.new("RGB", (20_000, 20)), "Go", {}, "crop or shrink it"),
        (SCREEN, "  ", {}, "say what is to be done"),
        ([], "Go", {}, "give 1 to 64"),
        (["screen.png"], "Go", {}, "give PIL images"),
        (SCREEN, "Go", {"platform": "tv"}, "desktop, mobile, web"),
        (SCREEN, "Go", {"role": "think"}, "reason, act, both"),
    ],
)
def test_bad_input_is_refused_with_what_is_allowed(pipe, screens, instruction, options, message):
    with pytest.raises(UIActionInputError, match=message):
        pipe(screens, instruction, **options)


class TestLoading:
    def test_no_such_folder(self):
        with pytest.raises(UIActionInputError, match="there is no checkpoint folder"):
            UIActionPipeline.from_pretrained("./nowhere")

    def test_another_kind_of_model(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "llama"}')
        with pytest.raises(UIActionInputError, match="type 'llama', not 'qwen2_5_vl'"):
            UIActionPipeline.from_pretrained(tmp_path)

    def test_pickles(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
        (tmp_path / "pytorch_model.bin").write_bytes(b"x")
        with pytest.raises(UIActionInputError, match="a pickle can run code"):
            UIActionPipeline.from_pretrained(tmp_path)

    def test_damaged_weights(self, folder, tmp_path):
        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(
                file.read_bytes()[:-100] if "safetensors" in file.name else file.read_bytes()
            )
        with pytest.raises(UIActionInputError, match="download the checkpoint again"):
            UIActionPipeline.from_pretrained(tmp_path)

    def test_a_family_that_neither_settings_nor_name_tell(self, folder, tmp_path):
        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        config = json.loads((tmp_path / "config.json").read_text())
        del config["prompt_family"]
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(UIActionInputError, match="give family, one of"):
            UIActionPipeline.from_pretrained(tmp_path)
        assert UIActionPipeline.from_pretrained(tmp_path, family="tiny").family == "tiny"

    def test_four_bits_without_cuda(self, folder):
        with pytest.raises(UIActionInputError, match="needs CUDA and the package bitsandbytes"):
            UIActionPipeline.from_pretrained(folder, device="cpu", four_bit=True)
