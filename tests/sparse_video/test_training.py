"""Training learns, goes on where it stopped, and writes a checkpoint that loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from plugins.sparse_video import small_model, train
from plugins.sparse_video.cli import app
from plugins.sparse_video.latents import AHEAD, MAP_LABELS, MAPS, ClipSize, Examples, ExampleSource, token_maps
from plugins.sparse_video.noise import noise_mean
from plugins.sparse_video.scenes import COLOURS, FOLDS, describe, render, sample_scene, shape_path, worded
from plugins.sparse_video.train_text import QUESTIONS, UNASKED, encode_text, train_text_encoder, word_answers
from plugins.sparse_video.train_transformer import (
    SampledRope,
    TransformerTrainer,
    noise_levels,
    optimisers,
    sample_steps,
)
from plugins.sparse_video.train_vae import crop_batch, reconstruction_loss, to_model, train_decoder, train_vae
from plugins.sparse_video.vocabulary import words

SIZE = ClipSize(5, 32, 32)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def source() -> ExampleSource:
    tokenizer = small_model.new_tokenizer()
    encoder = small_model.new_text_encoder(tokenizer).eval()
    return ExampleSource(small_model.new_vae().eval(), encoder, tokenizer, SIZE, seed=7, capacity=40)


def trainer() -> TransformerTrainer:
    torch.manual_seed(0)
    return TransformerTrainer(small_model.new_transformer(), torch.zeros(small_model.TEXT_TOKENS, 128))


def examples(count: int = 4) -> Examples:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(count, 16, 1, 4, 4, generator=generator)
    text = torch.randn(count, small_model.TEXT_TOKENS, 128, generator=generator)
    return Examples(latents, text, (latents[:, :1] > 0).float().expand(-1, len(MAPS), -1, -1, -1))


def test_the_tokenizer_knows_every_word_of_the_prompts():
    tokenizer = small_model.new_tokenizer()
    for seed in range(60):
        scene = sample_scene(seed, frames=9, height=32, width=32, held_out=None)
        ids = tokenizer(describe(scene)).input_ids
        assert tokenizer.unk_token_id not in ids
        assert len(ids) == len(worded(scene)) + 1 <= small_model.TEXT_TOKENS
    assert tokenizer("an elephant").input_ids.count(tokenizer.unk_token_id) == 2
    assert "elephant" not in words()


def test_words_are_asked_for_what_their_shape_is():
    scene = sample_scene(2, frames=9, height=32, width=32, shapes=2)
    answers = word_answers(scene, small_model.TEXT_TOKENS)
    for place, (_, index) in enumerate(worded(scene)):
        asked = answers[list(QUESTIONS).index("colour"), place]
        expected = UNASKED if index is None else list(COLOURS).index(scene.shapes[index].colour)
        assert asked == expected
    assert (answers[:, len(worded(scene)) + 1 :] == UNASKED).all()


def test_the_text_encoder_learns():
    tokenizer = small_model.new_tokenizer()
    rows: list[dict[str, float]] = []
    train_text_encoder(small_model.new_text_encoder(tokenizer), tokenizer, steps=30, batch=12, log=rows.append)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]


def test_padding_carries_no_text():
    tokenizer = small_model.new_tokenizer()
    hidden = encode_text(small_model.new_text_encoder(tokenizer).eval(), tokenizer, ["a red star"])
    assert hidden.shape == (1, small_model.TEXT_TOKENS, 128)
    assert (hidden[0, 4:] == 0).all()
    assert (hidden[0, :4] != 0).any(-1).all()


def test_crops_are_in_the_models_range_and_differ_by_seed():
    first, second = crop_batch(0, 2), crop_batch(1, 2)
    assert first.shape == (2, 3, 9, 48, 48)
    assert first.min() >= -1
    assert first.max() <= 1
    assert not torch.equal(first, second)


def test_reconstruction_loss_is_zero_only_for_the_clip_itself():
    clip = crop_batch(0, 1)
    assert reconstruction_loss(clip, clip) == 0
    assert reconstruction_loss(clip.roll(1, -1), clip) > 0.01


def test_the_vae_learns_and_its_decoder_can_go_on_alone(tmp_path):
    rows: list[dict[str, float]] = []
    vae, unseen = small_model.new_vae(), crop_batch(99, 4)

    def error() -> float:
        with torch.no_grad():
            return float(reconstruction_loss(vae.decode(vae.encode(unseen).latent_dist.mode()).sample, unseen))

    before = error()
    vae = train_vae(vae, steps=12, batch=2, state_file=tmp_path / "state.pt", log=rows.append)
    assert error() < 0.9 * before
    encoder = {name: value.clone() for name, value in vae.encoder.state_dict().items()}
    decoder = {name: value.clone() for name, value in vae.decoder.state_dict().items()}
    vae = train_decoder(vae, steps=2, batch=1, state_file=tmp_path / "decoder.pt", log=rows.append)
    assert all(torch.equal(value, encoder[name]) for name, value in vae.encoder.state_dict().items())
    assert any(not torch.equal(value, decoder[name]) for name, value in vae.decoder.state_dict().items())
    assert all(value.requires_grad for value in vae.parameters())


def test_vae_training_goes_on_from_its_state(tmp_path):
    file = tmp_path / "state.pt"
    rows: list[dict[str, float]] = []
    train_vae(small_model.new_vae(), steps=3, batch=1, state_file=file, log=rows.append, deadline=0)
    assert torch.load(file, weights_only=True)["step"] == 1
    train_vae(small_model.new_vae(), steps=3, batch=1, state_file=file, log=rows.append)
    assert torch.load(file, weights_only=True)["step"] == 3


def test_a_token_map_shows_where_each_shape_is():
    size = ClipSize(9, 64, 64)
    scene = sample_scene(11, frames=9, height=64, width=64, shapes=1)
    maps = token_maps(scene, size)
    assert maps.shape == (len(MAPS), 5, 8, 8)
    shape = scene.shapes[0]
    named = {shape.colour, shape.shape, shape.motion}
    for label, layer in zip(MAP_LABELS, maps[: len(MAP_LABELS)], strict=True):
        assert bool(layer.sum() > 1) == (label in named)


@pytest.mark.parametrize("seed", range(6))
def test_every_token_of_a_shape_knows_its_geometry(seed):
    size = ClipSize(9, 64, 48)
    scene = sample_scene(seed, frames=9, height=64, width=48, shapes=1)
    maps = dict(zip(MAPS, token_maps(scene, size), strict=True))
    shape = scene.shapes[0]
    share = maps[shape.shape]
    path = shape_path(shape, 9, 64)
    for step, frames in enumerate(([0], [1, 2], [3, 4], [5, 6], [7, 8])):
        rows, columns = torch.nonzero(share[step] > 0.2, as_tuple=True)
        assert len(rows)
        seen = {name: value[step, rows, columns] / share[step, rows, columns] for name, value in maps.items()}
        radius = seen["size"] * 16
        torch.testing.assert_close(
            columns * 8 + 4 - seen["across"] * radius, torch.full_like(radius, path.x[frames].mean() * 64)
        )
        torch.testing.assert_close(
            rows * 8 + 4 - seen["down"] * radius, torch.full_like(radius, path.y[frames].mean() * 64)
        )
        turn = torch.atan2(seen["turn's sine"], seen["turn's cosine"])
        asked = np.deg2rad(path.angle[frames].mean()) * FOLDS.get(shape.shape, 0)
        torch.testing.assert_close(torch.cos(turn - asked), torch.ones_like(turn))


def test_fresh_examples_are_mixed_with_kept_ones_and_the_store_is_bounded(source):
    for _ in range(40):
        batch = source.batch(4)
        assert batch.latents.shape == (4, 16, 3, 4, 4)
    assert len(source.kept) == source.count == 40
    assert source.next_seed < 7 + 40 * 4 + AHEAD


def test_examples_depend_on_the_seed_alone(source):
    first = source.make(2)
    again = ExampleSource(source.vae, source.text_encoder, source.tokenizer, SIZE, seed=7).make(2)
    assert torch.equal(first.latents, again.latents)
    assert torch.equal(first.text, again.text)


def test_noise_levels_lean_to_the_noisy_end():
    levels = noise_levels(4000, torch.Generator().manual_seed(0))
    assert levels.min() > 0
    assert levels.max() < 1
    assert 0.78 < levels.mean() < 0.85
    assert 0.3 < (levels > 0.93).float().mean() < 0.4  # where the layout is not in sight yet


def test_steps_are_in_order_and_every_other_time_in_a_row():
    generator = torch.Generator().manual_seed(0)
    drawn = [sample_steps(29, 4, generator) for _ in range(200)]
    for steps in drawn:
        assert len(set(steps.tolist())) == 4
        assert steps.tolist() == sorted(steps.tolist())
        assert steps[0] >= 0
        assert steps[-1] < 29
    in_a_row = sum(bool(steps[-1] - steps[0] == 3) for steps in drawn)
    assert 70 < in_a_row < 130


def test_some_steps_of_a_clip_keep_the_positions_that_they_have_in_it():
    plain = small_model.new_transformer().rope
    sampled = SampledRope(plain)
    whole = plain(torch.zeros(1, 16, 9, 3, 2))
    for ours, theirs in zip(sampled(torch.zeros(1, 16, 9, 3, 2)), whole, strict=True):
        assert torch.equal(ours, theirs)
    sampled.steps, sampled.clip = torch.tensor([1, 2, 7]), 9
    for ours, theirs in zip(sampled(torch.zeros(1, 16, 3, 3, 2)), whole, strict=True):
        assert torch.equal(ours, theirs.unflatten(1, (9, 6))[:, [1, 2, 7]].flatten(1, 2))


def test_a_trainer_sees_some_steps_of_clips_as_the_clip_has_them():
    learner = trainer()
    generator = torch.Generator().manual_seed(1)
    latents, maps = (torch.randn(2, count, 7, 4, 4, generator=generator) for count in (16, len(MAPS)))
    clip = Examples(latents, torch.zeros(2, small_model.TEXT_TOKENS, 128), maps.sigmoid())
    seen = []
    handle = learner.model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    learner.loss(clip, torch.tensor([0, 5]))
    handle.remove()
    assert seen[0].shape == (2, 16, 2, 4, 4)
    generator.manual_seed(0)
    sigma = noise_levels(2, generator)[:, None, None, None, None]
    mean = noise_mean((7, 4, 4), 16)[:, [0, 5]]
    noise = mean + torch.randn(2, 16, 2, 4, 4, generator=generator)
    torch.testing.assert_close(seen[0], torch.lerp(latents[:, :, [0, 5]], noise, sigma))


def test_every_parameter_belongs_to_exactly_one_optimiser():
    model = small_model.new_transformer()
    head = torch.nn.Linear(192, len(MAPS))
    owned = [
        id(value) for part in optimisers(model, head, 1e-3) for group in part.param_groups for value in group["params"]
    ]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(value) for value in (*model.parameters(), *head.parameters())}


def test_the_transformer_learns_a_batch_by_heart():
    learner, batch = trainer(), examples()
    losses = [learner.train_step(batch, 2e-3) for _ in range(20)]
    assert np.mean([row["loss"] for row in losses[-5:]]) < 0.9 * np.mean([row["loss"] for row in losses[:3]])
    for name in ("map_loss", "geometry_loss"):
        assert losses[-1][name] < losses[0][name]


def test_guidance_adds_what_the_text_changes_to_the_target(monkeypatch):
    learner, batch = trainer(), examples(40)
    outputs, texts = [], []
    forward = learner.model.forward

    def recorded(latents, time, text, **options):
        outputs.append(forward(latents, time, text, **options)[0].detach().float())
        texts.append(text)
        return (outputs[-1],)

    monkeypatch.setattr(learner.model, "forward", recorded)
    plain, *_ = learner.loss(batch)
    learner.generator.manual_seed(0)
    learner.guidance = 0.5
    guided, *_ = learner.loss(batch)
    velocity, again, unasked = outputs
    torch.testing.assert_close(velocity, again)
    assert (texts[2] == 0).all()
    dropped = (texts[1] == 0).all(-1).all(-1)
    assert dropped.any()
    assert not dropped.all()
    assert ((velocity - unasked)[dropped] == 0).all()
    error = _velocity_error(learner, batch, velocity)
    torch.testing.assert_close(plain, error.square().mean())
    torch.testing.assert_close(guided, (error - 0.5 * (velocity - unasked)).square().mean())


def _velocity_error(learner: TransformerTrainer, batch: Examples, velocity: torch.Tensor) -> torch.Tensor:
    """Velocity less noise plus latents, with the noise that the trainer draws first."""
    generator = torch.Generator().manual_seed(0)
    noise_levels(len(batch), generator)
    noise = noise_mean((1, 4, 4), 16) + torch.randn(batch.latents.shape, generator=generator)
    return velocity - (noise - batch.latents)


def test_training_resumed_equals_training_in_one_go(tmp_path):
    straight, batch = trainer(), examples()
    for _ in range(4):
        straight.train_step(batch, 1e-3)
    first = trainer()
    for _ in range(2):
        first.train_step(batch, 1e-3)
    first.save(tmp_path / "state.pt", stages_done=0)
    second = trainer()
    assert second.load(tmp_path / "state.pt")["stages_done"] == 0
    for _ in range(2):
        second.train_step(batch, 1e-3)
    assert second.step == 4
    for name, value in straight.average.items():
        torch.testing.assert_close(second.average[name], value)


def test_a_state_keeps_the_models_own_names(tmp_path):
    learner = trainer()
    assert learner.plain_state().keys() == small_model.new_transformer().state_dict().keys()


def test_a_stage_warms_up_and_then_cools_down():
    stage = train.STAGES[0]
    assert stage.rate(0) < 0.1 * stage.rates[0]
    assert stage.rate(0.1) > stage.rate(0.9)
    assert stage.rate(1) == pytest.approx(stage.rates[1])


def test_the_learning_curve_keeps_each_stages_ends(tmp_path):
    rows = [{"stage": stage, "step": step} for stage in ("vae", "content") for step in range(100)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curve = train.learning_curve(tmp_path / "log.jsonl")
    for stage in ("vae", "content"):
        steps = [row["step"] for row in curve if row["stage"] == stage]
        assert steps == sorted(set(steps))
        assert (steps[0], steps[-1]) == (0, 99)
        assert len(steps) <= 13


def test_the_shipped_length_has_enough_tokens_for_sparsity():
    assert train.FULL.tokens >= 4096


def test_the_command_trains_writes_a_log_and_a_checkpoint_that_generates(tmp_path, monkeypatch):
    tiny = (train.Stage("content", 0.5, (train.Part(ClipSize(5, 32, 32), 2, moments=2),), (1e-3, 1e-3)),)
    monkeypatch.setattr(train, "STAGES", tiny)
    monkeypatch.setattr(train, "set_statistics", lambda vae: vae)
    text_part, vae_part, decoder_part = train.text_part, train.vae_part, train.decoder_part
    monkeypatch.setattr(train, "text_part", lambda *rest: text_part(*rest, steps=2))
    monkeypatch.setattr(train, "vae_part", lambda *rest, **more: vae_part(*rest, **more, steps=1))
    monkeypatch.setattr(train, "decoder_part", lambda *rest, **more: decoder_part(*rest, **more, steps=1))
    out = tmp_path / "run"
    outcome = CliRunner().invoke(app, ["train", "--minutes", "0.05", "--out", str(out)])
    assert outcome.exit_code == 0, outcome.output
    stages = {json.loads(line)["stage"] for line in (out / "log.jsonl").read_text().splitlines()}
    assert {"text", "vae", "decoder"} <= stages
    checkpoint = out / "checkpoint"
    assert not list(checkpoint.rglob("*.bin"))
    assert all(file.stat().st_size < 10e6 for file in checkpoint.rglob("*") if file.is_file())
    frames = generate_few_frames(checkpoint)
    assert frames.shape == (1, 5, 32, 32, 3)


def test_a_checkpoints_transformer_is_trained_on_and_the_rest_of_it_stays(tmp_path, monkeypatch):
    start = Path(__file__).resolve().parents[2] / "hub_cards" / "sparse-video-tiny"
    tiny = train.Stage("moments", 1.0, (train.Part(ClipSize(5, 32, 32), 2, moments=2),), (1e-3, 1e-3))
    monkeypatch.setattr(train, "STAGES", (train.STAGES[0], tiny))
    out = tmp_path / "run"
    outcome = CliRunner().invoke(app, ["train", "--minutes", "0.02", "--out", str(out), "--start", str(start)])
    assert outcome.exit_code == 0, outcome.output
    made = out / "checkpoint"
    for name in ("vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"):
        assert (made / name).read_bytes() == (start / name).read_bytes()
    weights = "transformer/diffusion_pytorch_model.safetensors"
    assert (made / weights).read_bytes() != (start / weights).read_bytes()
    curves = [json.loads((folder / "training.json").read_text())["curve"] for folder in (start, made)]
    assert curves[1][: len(curves[0])] == curves[0]


def test_what_is_no_checkpoint_cannot_be_trained_on(tmp_path):
    options = ["--minutes", "1", "--out", str(tmp_path / "out"), "--start", str(tmp_path)]
    outcome = CliRunner().invoke(app, ["train", *options])
    assert outcome.exit_code != 0
    assert "no checkpoint" in outcome.output
    assert not (tmp_path / "out").exists()


def generate_few_frames(checkpoint: Path) -> np.ndarray:
    from plugins.sparse_video import SparseVideoPipeline

    pipeline = SparseVideoPipeline.from_pretrained(str(checkpoint))
    pipeline.set_progress_bar_config(disable=True)
    small: dict[str, Any] = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 2}
    return pipeline("a red square stays on sand", seed=0, attention="dense", **small).frames


@pytest.mark.parametrize("minutes", ["0", "-3"])
def test_no_time_to_train_is_refused(minutes, tmp_path):
    outcome = CliRunner().invoke(app, ["train", "--minutes", minutes, "--out", str(tmp_path / "new")])
    assert outcome.exit_code != 0
    assert "above 0" in outcome.output
    assert not (tmp_path / "new").exists()


def test_a_rendered_batch_goes_to_the_models_range():
    clip = render(sample_scene(0, frames=3, height=32, width=32), frames=3, height=32, width=32)
    batch = to_model(clip[None])
    assert batch.shape == (1, 3, 3, 32, 32)
    torch.testing.assert_close(batch[0, :, 1, 4, 5] * 127.5 + 127.5, torch.from_numpy(clip[1, 4, 5]).float())
