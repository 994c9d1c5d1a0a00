"""Training of the small text encoder: every word learns what the shape that it speaks of is, does, and counts as.

A text encoder that already knows which words belong together saves the transformer most of its training: the binding
of "red" to "square" would otherwise have to be found through the noise of the diffusion loss.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from .scenes import BACKGROUNDS, COLOURS, MAX_SHAPES, MOTIONS, SHAPES, Scene, sample_scene, worded

RELATIONS = ("alone", "behind", "in front")
RANKS = tuple(f"{which + 1} of {count}" for count in range(1, MAX_SHAPES + 1) for which in range(count))
QUESTIONS: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "motion": MOTIONS,
    "relation": RELATIONS,
    "rank": RANKS,  # where a shape goes, and how large it is, depends on it
    "background": tuple(BACKGROUNDS),
}
UNASKED = -100  # torch's cross entropy leaves these out


def word_answers(scene: Scene, length: int) -> torch.Tensor:
    """What each token of the prompt should know: int64 [questions, length]; UNASKED where there is nothing to know."""
    answers = torch.full((len(QUESTIONS), length), UNASKED)
    text = worded(scene)
    answers[-1, : len(text) + 1] = QUESTIONS["background"].index(scene.background)  # the last is </s>
    for place, (_, index) in enumerate(text):
        if index is None:
            continue
        shape = scene.shapes[index]
        relation = "behind" if shape.behind else "in front" if index == 1 and scene.shapes[0].behind else "alone"
        rank = f"{index + 1} of {len(scene.shapes)}"
        for question, answer in enumerate((shape.colour, shape.shape, shape.motion, relation, rank)):
            answers[question, place] = tuple(QUESTIONS.values())[question].index(answer)
    return answers


def encode_text(encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> torch.Tensor:
    """Embeddings as WanPipeline makes them, padding zeroed: float [prompts, tokens, width]."""
    tokens = tokenizer(prompts, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
    hidden = encoder(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    return hidden * tokens.attention_mask[..., None]


def train_text_encoder(
    encoder: UMT5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    steps: int,
    batch: int = 64,
    rate: float = 2e-3,
    log: Callable[[dict[str, float]], None],
) -> UMT5EncoderModel:
    """Train with one linear head per question; the heads are thrown away."""
    width, length = encoder.config.d_model, tokenizer.model_max_length
    heads = nn.ModuleList(nn.Linear(width, len(options)) for options in QUESTIONS.values())
    optimiser = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        scenes = [
            sample_scene(step * batch + index, frames=9, height=64, width=64, shapes=1 + index % 3)
            for index in range(batch)
        ]
        answers = torch.stack([word_answers(scene, length) for scene in scenes])
        prompts = [" ".join(word for word, _ in worded(scene)) for scene in scenes]
        hidden = encode_text(encoder, tokenizer, prompts)
        loss = sum(
            (
                nn.functional.cross_entropy(head(hidden).transpose(1, 2), answers[:, question], ignore_index=UNASKED)
                for question, head in enumerate(heads)
            ),
            start=torch.zeros(()),
        )
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        if step % 50 == 0 or step + 1 == steps:
            log({"step": step, "loss": loss.item()})
    return encoder.eval()
