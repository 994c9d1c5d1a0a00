"""Training: batches, the roll-out and its losses, and a trainer that goes on where it stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import typer
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.nn import functional
from torch.utils.data import DataLoader

from plugins.tracking import clips, train
from plugins.tracking.clips import FEWEST_PIXELS, clip_batch
from plugins.tracking.decoder import Appearance, Decoded
from plugins.tracking.detection import cell_boxes, detection_loss, expected_heat, heat_target
from plugins.tracking.losses import decoder_losses, mask_error, soft_iou
from plugins.tracking.modeling_sata import SataModel
from plugins.tracking.pipeline_sata import SataPipeline
from plugins.tracking.rollout import (
    expected_where,
    frame_boxes,
    jittered,
    looked_at,
    rollout_losses,
    sampled_points,
)
from plugins.tracking.scenes import random_scene
from plugins.tracking.train import (
    AVERAGED,
    BEFORE_FEATURES,
    CROWD_STRIDE,
    HEADS,
    IDENTITY,
    STAGES,
    TRAINED_ON,
    Clips,
    Trainer,
)
from tests.tracking.tiny import tiny_model
from tests.tracking.two_processes import SMALL

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "hub_cards" / "sata-tiny"
SIDE = 64


@pytest.fixture(scope="module")
def batch():
    return clip_batch(3, 2, 2, (SIDE, SIDE))


class TestBatches:
    def test_two_makers_of_clips_share_the_seeds_without_overlap(self):
        stage = replace(STAGES[-1], side=SIDE, clips=1, crowds=2)
        loader = DataLoader(Clips(stage, 40), batch_size=None, num_workers=2)
        size, twins = (SIDE, SIDE), stage.twins
        for step, (batch, crowds) in zip(range(4), loader, strict=False):
            alone = clip_batch(40 + 3 * step, 1, stage.frames, size, twins, stage.stride)
            beside = clip_batch(41 + 3 * step, 2, 2, size, twins, CROWD_STRIDE)
            assert torch.equal(batch.rgb, alone.rgb)
            assert torch.equal(crowds.rgb, beside.rgb)

    def test_a_stage_may_have_one_of_the_two_alone(self):
        batch, crowds = next(iter(Clips(replace(HEADS, side=SIDE, clips=0, crowds=1), 40)))
        assert batch is None
        assert crowds is not None
        assert len(crowds.rgb) == 2
        batch, crowds = next(iter(Clips(replace(STAGES[0], side=SIDE, clips=1), 40)))
        assert crowds is None
        assert batch is not None
        assert len(batch.rgb) == STAGES[0].frames

    def test_shapes_and_values(self, batch):
        objects = len(batch.clip)
        assert batch.rgb.shape == batch.other.shape == (4, 3, SIDE, SIDE)
        assert batch.masks.shape == (objects, 2, SIDE // 2, SIDE // 2)
        assert batch.boxes.shape == (objects, 2, 4)
        assert batch.visible.any(1).all()
        assert batch.boxes.min() >= 0
        assert batch.boxes.max() <= 1

    def test_they_depend_on_the_seed_alone(self, batch):
        again, other = (clip_batch(seed, 2, 2, (SIDE, SIDE)) for seed in (3, 4))
        assert torch.equal(batch.rgb, again.rgb)
        assert torch.equal(batch.modality, again.modality)
        assert not torch.equal(batch.rgb, other.rgb)

    def test_boxes_hold_their_masks(self, batch):
        for mask, box, seen in zip(
            batch.masks.flatten(0, 1), batch.boxes.flatten(0, 1), batch.visible.flatten(), strict=True
        ):
            if not seen:
                assert mask.sum() * 4 < FEWEST_PIXELS
                continue
            rows, columns = torch.nonzero(mask > 0, as_tuple=True)
            x0, y0, x1, y1 = (box * SIDE / 2).tolist()
            assert columns.min() >= int(x0)
            assert rows.min() >= int(y0)
            assert columns.max() < x1 + 1
            assert rows.max() < y1 + 1

    def test_a_dropped_sensor_is_replaced_by_the_other_under_its_name(self):
        found = set()
        for seed in range(60):
            drawn = clip_batch(seed, 1, 1, (SIDE, SIDE))
            if torch.equal(drawn.rgb, drawn.other):
                assert torch.equal(drawn.first, drawn.modality)
                found.add(int(drawn.first[0]) > 0)
            else:
                assert drawn.first.tolist() == [0]
                assert drawn.modality[0] > 0
        assert found == {True, False}

    def test_how_often_each_sensor_is_seen_may_be_told(self):
        shares = (0.0, 0.0, 1.0, 0.0)
        for seed in range(4):
            assert (clip_batch(seed, 1, 1, (SIDE, SIDE), shares=shares).modality % 2 == 0).all()
        batch, crowds = next(iter(Clips(replace(IDENTITY, side=SIDE, clips=2, sensors=shares), 40)))
        assert crowds is None
        assert batch is not None
        assert set(batch.modality.tolist()) <= {0, 2}


class TestLosses:
    def test_a_mask_that_is_right_costs_little_and_one_that_is_wrong_a_lot(self):
        truth = torch.zeros(1, 8, 8)
        truth[0, 2:6, 2:6] = 1
        right, wrong = mask_error(20 * truth - 10, truth), mask_error(10 - 20 * truth, truth)
        assert right < 0.01
        assert wrong > 20
        assert soft_iou(20 * truth - 10, truth).item() == 1
        assert soft_iou(10 - 20 * truth, truth).item() == 0

    def test_what_is_not_visible_has_presence_to_learn_and_nothing_else(self):
        found = Decoded(torch.randn(2, 3, 8, 8), torch.zeros(2, 3), torch.tensor([-20.0, 20.0]))
        truth = torch.zeros(2, 8, 8)
        hidden = decoder_losses(found, truth, torch.tensor([False, False]))
        assert hidden["mask"] == hidden["affinity"] == 0
        assert hidden["presence"] == pytest.approx(10.0)
        assert decoder_losses(found, truth, torch.tensor([False, True]))["presence"] < 1e-3

    def test_a_detection_that_is_right_costs_almost_nothing(self):
        boxes = torch.tensor([[0.1, 0.2, 0.5, 0.6], [0.6, 0.5, 0.9, 0.95]])
        heat, answering = heat_target(boxes, 16, 16)
        assert (heat.flatten()[answering[:, 0]] == 1).all()
        assert heat.max() == 1
        cells = answering.flatten()
        boxes = boxes.repeat_interleave(5, 0)
        middle = torch.stack([(cells % 16 + 0.5) / 16, (cells // 16 + 0.5) / 16], 1)
        sides = torch.ones(1, 4, 16, 16)
        distances = torch.cat([middle - boxes[:, :2], boxes[:, 2:] - middle], 1)
        sides.flatten(2)[0][:, cells] = distances.T
        torch.testing.assert_close(cell_boxes(sides).flatten(2)[0][:, cells].T, boxes)
        right = detection_loss(torch.where(heat == 1, 9.0, -9.0)[None, None], sides, [boxes[::5]])
        wrong = detection_loss(torch.where(heat == 1, -9.0, -9.0)[None, None], 2 * sides, [boxes[::5]])
        assert right[0] < 0.01 < 5 < wrong[0]
        assert right[1] < 1e-4 < wrong[1]

    def test_the_middle_of_a_box_and_the_cells_beside_it_answer_for_it(self):
        _, cells = heat_target(torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.0, 0.0, 0.1, 0.1]]), 8, 8)
        assert cells[0].tolist() == [27, 26, 28, 19, 35]
        assert cells[1].tolist() == [0, 0, 1, 0, 8]  # at the corner, those that there are

    def test_a_frame_without_objects_teaches_that(self):
        heat, box = detection_loss(torch.zeros(1, 1, 8, 8), torch.ones(1, 4, 8, 8), [torch.zeros(0, 4)])
        assert heat > 0
        assert box == 0

    def test_points_lie_inside_and_outside_the_mask(self):
        mask = torch.zeros(1, 8, 8)
        mask[0, 2:5, 3:6] = 1
        for seed in range(10):
            points, labels = sampled_points(mask, torch.Generator().manual_seed(seed))
            column, row = (points[0] * 8).long().T
            assert mask[0, row, column].tolist() == labels[0].tolist() == [1, 0]

    def test_a_jittered_box_stays_near(self):
        box = torch.tensor([[0.2, 0.2, 0.6, 0.6]])
        moved = jittered(box.expand(50, -1), 0.1, torch.Generator().manual_seed(0))
        assert (moved - box).abs().max() <= 0.04 + 1e-6

    def test_what_is_expected_is_near_what_is_there_sometimes_wrong_and_sometimes_nothing(self, batch):
        model = tiny_model()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            features = looked_at(model, batch, heads_only=True)
            told = [expected_where(model, batch, features, generator) for _ in range(40)]
        heat = torch.stack(told)
        assert heat.shape == (40, len(batch.rgb), *features.stems.shape[2:])
        assert 0 <= heat.min() < heat.max() == 1
        silent = heat.flatten(2).amax(2) == 0
        assert 0.1 < silent.float().mean() < 0.8  # a head of random weights finds nothing by itself either
        true = expected_heat(frame_boxes(batch), *heat.shape[2:])
        likeness = (heat * true).flatten(2).sum(2) / true.flatten(1).square().sum(1).clamp_min(1e-6)
        seen = true.flatten(1).amax(1) > 0
        spoken = likeness[:, seen][~silent[:, seen]]
        assert 0.3 < spoken.mean() < 1
        assert spoken.min() < 0.1


class TestAppearance:
    def test_it_says_nothing_before_it_has_learned(self):
        model = tiny_model()
        layers: list[Any] = [model.detection.expected, model.decoder.appearance.judge[2], model.candidates.surface[2]]
        assert not any(value.any() for layer in layers for value in layer.parameters())

    def test_a_part_that_a_checkpoint_does_not_have_says_nothing_either(self, tmp_path):
        tiny_model().save_pretrained(tmp_path)
        file = tmp_path / "model.safetensors"
        kept = {name: value for name, value in load_file(file).items() if ".expected." not in name}
        save_file(kept, file, metadata={"format": "pt"})
        loaded: Any = SataModel.from_pretrained(tmp_path)
        assert not loaded.detection.expected.weight.any()

    def test_a_mask_is_corrected_by_how_its_pixels_differ_from_what_is_beside_it(self):
        """Two squares that touch, as warm as they happen to be; the first mask holds a part of the wrong one."""
        torch.manual_seed(0)
        part = Appearance(32, 32, 4)
        optimiser = torch.optim.Adam(part.parameters(), lr=1e-2)
        warmth = torch.linspace(-1, 1, 4)[:, None, None]

        def sample(count: int) -> tuple[torch.Tensor, ...]:
            truth, rough = torch.zeros(count, 16, 16), torch.zeros(count, 16, 16)
            truth[:, 4:12, 2:8], rough[:, 4:12, 3:9] = 1, 1
            other = torch.zeros(16, 16)
            other[4:12, 8:14] = 1
            one, two = 0.2 + 0.8 * torch.rand(2, count, 1, 1)
            two = torch.where((one - two).abs() < 0.2, 0.2 + (one + 0.2) % 0.8, two)
            detail = functional.gelu(4 * ((truth * one + other * two)[:, None] - warmth))
            return truth, 4 * rough - 2, detail

        def masks(logits: torch.Tensor, detail: torch.Tensor) -> torch.Tensor:
            count = len(logits)
            nothing = torch.zeros(count, 32, 16, 16)
            return logits + part(
                torch.zeros(count, 32), logits, nothing, detail, torch.arange(count), torch.ones(count, 16, 16)
            )

        for _ in range(200):
            truth, logits, detail = sample(16)
            loss = functional.binary_cross_entropy_with_logits(masks(logits, detail), truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        truth, logits, detail = sample(64)
        with torch.no_grad():
            better = soft_iou(masks(logits, detail), truth).mean()
        assert soft_iou(logits, truth).mean() < 0.75
        assert better > 0.9


class TestTrainer:
    def test_every_stage_of_a_roll_out_has_its_loss(self, batch):
        model = tiny_model().train()
        found = rollout_losses(model, batch, torch.Generator().manual_seed(0), own_boxes=0.5, complementary=True)
        assert set(found) == {
            "heat", "box", "mask", "affinity", "presence", "association",
            "task", "orthogonal", "balance", "complementary", "total",
        }  # fmt: skip
        assert all(torch.isfinite(value) for value in found.values())
        found["total"].backward()
        learned = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}
        for part in ("encoder", "neck", "stem", "detection", "decoder", "candidates", "tracklets", "signature"):
            assert any(name.startswith(part) for name in learned), part
        assert "dustbin" in learned

    @pytest.mark.parametrize("clips", [False, True])
    def test_the_heads_alone_can_be_taught(self, batch, clips):
        trainer = Trainer(tiny_model().train(), Accelerator(cpu=True))
        before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        found = trainer.train_step(batch if clips else None, 1e-3, 0.0, crowds=batch, heads_only=True)
        assert {"crowd_heat", "crowd_box", "crowd_association", "total"} <= set(found)
        assert ("mask" in found) == clips
        changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
        taught = {name.split(".")[0] for name in changed}
        assert {"detection", "candidates", "signature"} <= taught
        assert ("decoder" in taught) == clips
        assert not taught & {"encoder", "neck", "stem", "sharpen", "blur"}

    def test_beside_clips_they_teach_the_encoder_too(self, batch):
        steps = []
        for crowds in (None, batch):
            trainer = Trainer(tiny_model().train(), Accelerator(cpu=True))
            found = trainer.train_step(batch, 1e-3, 0.0, crowds=crowds)
            assert ("crowd_association" in found) == (crowds is not None)
            steps.append((trainer.model.encoder.trunk.patch_embed.projection.weight.clone(), found["total"]))
            assert trainer.clips == (2 if crowds is None else 4)
        assert not torch.equal(steps[0][0], steps[1][0])
        assert steps[1][1] > steps[0][1]

    def test_it_learns_a_batch_by_heart(self, batch):
        trainer = Trainer(tiny_model(use_experts=False).train(), Accelerator(cpu=True))
        losses = [trainer.train_step(batch, 3e-3, 0.0) for _ in range(25)]
        first, last = (
            {name: np.mean([row[name] for row in rows]) for name in losses[0]} for rows in (losses[:3], losses[-3:])
        )
        for name in ("heat", "box", "mask", "total"):
            assert last[name] < 0.8 * first[name], name

    def test_training_resumed_is_training_in_one_go(self, batch, tmp_path):
        straight = Trainer(tiny_model().train(), Accelerator(cpu=True))
        for _ in range(3):
            straight.train_step(batch, 1e-3, 0.2)
        first = Trainer(tiny_model().train(), Accelerator(cpu=True))
        first.train_step(batch, 1e-3, 0.2)
        first.save(tmp_path / "state.pt", stages_done=1)
        second = Trainer(tiny_model(seed=1).train(), Accelerator(cpu=True))
        assert second.load(tmp_path / "state.pt")["stages_done"] == 1
        for _ in range(2):
            second.train_step(batch, 1e-3, 0.2)
        assert (second.step, second.clips) == (3, 6)
        for one, two in zip(straight.model.parameters(), second.model.parameters(), strict=True):
            torch.testing.assert_close(one, two)

    def test_what_is_published_is_the_running_mean_of_the_weights(self, batch, tmp_path):
        trainer = Trainer(tiny_model().train(), Accelerator(cpu=True))
        kept = []
        for _ in range(3):
            trainer.train_step(batch, 1e-3, 0.0)
            kept.append(trainer.model.dustbin.detach().clone())
        mean = kept[0]
        for value in kept[1:]:
            mean = AVERAGED * mean + (1 - AVERAGED) * value
        assert len({float(value) for value in kept}) == 3
        torch.testing.assert_close(trainer.average.module.dustbin, mean)
        trainer.save(tmp_path / "state.pt", stages_done=len(STAGES))
        again = Trainer(tiny_model(seed=1).train(), Accelerator(cpu=True))
        again.load(tmp_path / "state.pt")
        torch.testing.assert_close(again.average.module.dustbin, mean)
        again.train_step(batch, 1e-3, 0.0)
        mean = AVERAGED * mean + (1 - AVERAGED) * again.model.dustbin
        torch.testing.assert_close(again.average.module.dustbin, mean)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
    def test_a_step_on_a_gpu_has_the_losses_of_one_on_the_cpu(self, batch):
        losses = [
            Trainer(tiny_model().train(), Accelerator(cpu=cpu)).train_step(batch, 1e-3, 0.5) for cpu in (True, False)
        ]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3, abs=1e-4)

    def test_processes_step_by_the_mean_of_their_gradients(self, batch):
        trainer = Trainer(tiny_model().train(), Accelerator(cpu=True))
        others = {"value": torch.zeros(())}

        class Two:
            """An accelerator of two processes, the other of which has gradients of `others` everywhere."""

            num_processes, device = 2, torch.device("cpu")

            def reduce(self, tensor: torch.Tensor, how: str) -> torch.Tensor:
                assert how == "mean"
                return (tensor + others["value"]) / 2

        first, *rest = [value for value in trainer.model.parameters() if value.requires_grad]
        first.grad = torch.ones_like(first)
        others["value"] = torch.tensor(3.0)
        trainer.accelerator = cast(Any, Two())
        trainer.share_gradients()
        assert torch.equal(first.grad, torch.full_like(first, 2.0))
        assert all(torch.equal(value.grad, torch.full_like(value, 1.5)) for value in rest if value.grad is not None)
        assert all(value.grad is not None for value in rest)
        assert trainer.agreed(0.5) == 1.75
        trainer.model.zero_grad(set_to_none=True)
        trainer.share_gradients(BEFORE_FEATURES)
        taught = {name.split(".")[0] for name, value in trainer.model.named_parameters() if value.grad is not None}
        assert "detection" in taught
        assert not taught & {"encoder", "neck", "stem", "sharpen", "blur"}


@pytest.mark.skipif(not os.environ.get("QUARTET_LONG"), reason="half a minute: with QUARTET_LONG=1")
def test_two_processes_train_one_model(tmp_path):
    """As `make train-tracking` has it, for one step of each part, with a smaller model and smaller clips."""
    module = ["-m", "tests.tracking.two_processes", "--minutes", "0.0005", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", *module]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["stages_done"] == len(STAGES)
    counts = state["counts"]
    assert (counts["step"], counts["clips"]) == (len(STAGES), 2 * len(STAGES) * (SMALL["clips"] + SMALL["crowds"]))
    loaded = SataPipeline.from_pretrained(tmp_path / "checkpoint", device="cpu")
    assert loaded.model.config.use_experts


def test_when_all_is_done_another_run_goes_on_with_the_last_part(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(train, "train_stage", lambda trainer, stage, **_: trained.append(stage.name))
    for _ in range(2):
        train.train_command(minutes=1, out=tmp_path)
    names = [stage.name for stage in STAGES]
    assert trained == [*names, names[-1]]


def test_a_checkpoint_is_trained_on_with_the_last_part(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(train, "train_stage", lambda trainer, stage, **_: trained.append((trainer.model, stage.name)))
    train.train_command(minutes=1, out=tmp_path, start=CHECKPOINT)
    ((model, name),) = trained
    assert name == STAGES[-1].name == TRAINED_ON.name
    published = SataModel.from_pretrained(CHECKPOINT).state_dict()
    assert all(torch.equal(value, published[key]) for key, value in model.state_dict().items())


def test_heads_and_who_is_who_are_trained_first_and_once(tmp_path, monkeypatch):
    trained = []

    def noted(trainer, stage, *, seconds, **_):
        trained.append((stage.name, seconds))
        trainer.step += 1

    monkeypatch.setattr(train, "train_stage", noted)
    for _ in range(2):
        train.train_command(minutes=1, out=tmp_path, start=CHECKPOINT, head_minutes=2, identity_minutes=3)
    first = [(HEADS.name, 120.0), (IDENTITY.name, 180.0)]
    assert trained == [*first, (STAGES[-1].name, 60.0), (STAGES[-1].name, 60.0)]


def test_a_start_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(typer.BadParameter, match=r"no checkpoint: give a folder with config\.json"):
        train.train_command(minutes=1, out=tmp_path / "out", start=tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def asked(monkeypatch):
    """What scenes are asked for, one after the other."""
    options = []

    def noted(seed, **fixed):
        options.append(fixed)
        return random_scene(seed, **fixed)

    monkeypatch.setattr(clips, "random_scene", noted)
    return options


def test_the_share_of_clips_whose_objects_look_alike_can_be_set(asked):
    for twins in (None, 0.0, 1.0):
        clip_batch(5, 2, 2, (SIDE, SIDE), twins)
    alike = [options.get("twins") for options in asked]
    assert {*alike[:2]} == {None}
    assert True in alike
    assert alike.index(False) < alike.index(True)
    assert alike[alike.index(True) :] == [True] * (len(alike) - alike.index(True))


def test_the_strides_of_clips_can_be_set(asked):
    clip_batch(5, 8, 2, (SIDE, SIDE), stride=3)
    assert {options.get("stride") for options in asked} == {1, 2, 3}
