"""Training of who is who alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from plugins.tracking.clips import clip_batch
from plugins.tracking.identity import AT_ONCE, embedded_where, identity_losses, remembered_when, sighted
from plugins.tracking.rollout import looked_at
from plugins.tracking.train import Trainer
from tests.tracking.tiny import tiny_model

SIDE = 64


@pytest.fixture(scope="module")
def batch():
    return clip_batch(3, 2, 2, (SIDE, SIDE))


def test_what_is_seen_is_what_a_roll_out_sees(batch):
    model = tiny_model().train()
    assert len(batch.rgb) % AT_ONCE  # a part that is not full
    seen = sighted(model, batch, torch.Generator().manual_seed(0))
    whole = looked_at(model, batch, heads_only=True)
    for one, other in ((seen.features.fine, whole.fine), (seen.features.fused[0], whole.fused[0])):
        assert torch.allclose(one, other, atol=1e-4)
    assert seen.masks.shape == batch.masks.shape
    assert not seen.masks.requires_grad


def test_only_what_can_be_seen_is_embedded_and_looked_at_beside_it(batch):
    model = tiny_model()
    features = looked_at(model, batch, heads_only=True)
    source, boxes, masks = batch.clip * batch.frames, batch.boxes[:, 0], batch.masks[:, 0]
    visible = torch.arange(len(batch.clip)) != 1
    with torch.no_grad():
        found = embedded_where(model, features, boxes, masks, source, visible)
        other = embedded_where(model, features, boxes.flip(1), masks, source, visible)
        astray = torch.where(visible[:, None], boxes, 0.5 * boxes)
        same = embedded_where(model, features, astray, masks, source, visible)
    assert not found.signature[1].any()
    assert not found.fine[1].any()
    assert torch.equal(found.signature, same.signature)
    assert not torch.allclose(found.signature[0], other.signature[0])


def test_it_teaches_embeddings_and_the_decoder_that_reads_them_and_nothing_else(batch):
    trainer = Trainer(tiny_model().train(), Accelerator(cpu=True))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    found = trainer.identity_step(batch, 1e-3)
    assert {"association", "mask", "affinity", "presence", "total"} == set(found)
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    taught = {name.split(".")[0] for name in changed}
    assert taught == {"candidates", "tracklets", "signature", "decoder", "temperature", "dustbin"}
    assert (trainer.step, trainer.clips) == (1, 2)


def test_it_learns_who_is_who():
    clips = clip_batch(5, 3, 4, (SIDE, SIDE), twins=1.0, stride=2, shares=(0, 1, 0, 0))
    trainer = Trainer(tiny_model(use_experts=False).train(), Accelerator(cpu=True))
    seen = sighted(trainer.model, clips, torch.Generator().manual_seed(0))

    def loss():
        with torch.no_grad():
            found = identity_losses(trainer.model, clips, seen, torch.Generator().manual_seed(1))
        return float(found["association"])

    first = loss()
    for _ in range(8):
        trainer.identity_step(clips, 2e-3)
    assert loss() < 0.8 * first


def test_what_is_remembered_was_seen_and_is_older_than_now():
    clips = clip_batch(7, 3, 5, (SIDE, SIDE), stride=6)
    generator = torch.Generator().manual_seed(0)
    newest, ages = [], []
    for frame in range(1, 5):
        for _ in range(20):
            age, kept = remembered_when(clips, frame, generator)
            seen = clips.visible[:, :frame]
            assert age.shape == kept.shape == seen.shape
            assert (age > 0).all()
            assert (age.diff(dim=1) < 0).all()
            assert kept.any(1).all()
            assert not (kept & ~seen)[seen.any(1)].any()
            newest += [bool(value) for value in kept[:, -1][seen.all(1)]]
            ages += age[:, -1].tolist()
    assert 0.2 < sum(newest) / len(newest) < 0.8
    assert min(ages) == 1
    assert max(ages) > 15


def test_a_clip_in_which_nothing_is_seen_twice_teaches_nothing(batch):
    model = tiny_model().train()
    once = replace(batch, visible=torch.zeros_like(batch.visible) | torch.tensor([True, False]))
    generator = torch.Generator().manual_seed(0)
    found = identity_losses(model, once, sighted(model, once, generator), generator)
    assert set(found) == {"total"}
    assert float(found["total"].detach()) == 0.0
    found["total"].backward()
