"""DeMoE: gates, fused experts, the frozen shared expert, and how it meets the modalities."""

from __future__ import annotations

import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError

from plugins.tracking.encoder import complementary_loss, orthogonal_loss, task_loss
from plugins.tracking.experts import Experts, Router, Routing, balance_loss
from tests.tracking.tiny import frames, tiny_config, tiny_model, wake_experts

THERMAL, DEPTH, EVENT = 1, 2, 3


def labels(*values: int) -> torch.Tensor:
    return torch.tensor(values)


class TestGates:
    def test_k_experts_share_each_token(self):
        gates, chances = Router(4, 16, 2)(torch.randn(3, 5, 16))
        assert (gates >= 0).all()
        assert ((gates > 0).sum(-1) == 2).all()
        torch.testing.assert_close(gates.sum(-1), torch.ones(3, 5))
        torch.testing.assert_close(chances.sum(-1), torch.ones(3, 5))

    def test_every_token_is_counted_once_per_expert_kept(self):
        model = wake_experts(tiny_model())
        with torch.no_grad():
            routing = model.encode(frames(), frames(seed=1), labels(THERMAL, DEPTH)).routing
        first = routing.loads[0]
        tokens = 2 * 16 * 16
        assert int(first["common"].sum()) == 2 * 2 * tokens
        assert int(first["rgb"].sum()) == 2 * tokens
        assert int(first["thermal"].sum()) == int(first["depth"].sum()) == tokens
        assert "event" not in first

    def test_the_fused_experts_are_each_expert_alone(self):
        experts, router = Experts(4, 16, 8), Router(4, 16, 2)
        torch.nn.init.normal_(experts.bias)
        tokens = torch.randn(3, 7, 16)
        gates, _ = router(tokens)
        alone = torch.zeros_like(tokens)
        for index in range(4):
            part = slice(8 * index, 8 * index + 8)
            hidden = torch.nn.functional.gelu(tokens @ experts.inner.weight[part].T + experts.inner.bias[part])
            alone += gates[..., index : index + 1] * (hidden @ experts.outer.weight[:, part].T + experts.bias[index])
        torch.testing.assert_close(experts(tokens, gates), alone, atol=1e-5, rtol=0)

    def test_the_balance_term_is_one_for_even_use_and_grows_with_collapse(self):
        even = torch.eye(4).repeat(5, 1)
        assert balance_loss(even, torch.full((20, 4), 0.25)).item() == pytest.approx(1.0)
        one = torch.tensor([[1.0, 0, 0, 0]]).repeat(20, 1)
        assert balance_loss(one, one).item() == pytest.approx(4.0)

    @pytest.mark.parametrize("kept", [0, 5])
    def test_more_experts_than_there_are_cannot_be_kept(self, kept):
        with pytest.raises(StrictDataclassClassValidationError, match="give 1 to 4"):
            tiny_config(experts_per_token=kept)


class TestSharedExpert:
    def test_it_stays_frozen_after_loading_and_a_step(self, tmp_path):
        wake_experts(tiny_model()).save_pretrained(tmp_path)
        model = tiny_model().from_pretrained(tmp_path).train()
        before = {name: value.clone() for name, value in model.named_parameters() if ".mlp.shared." in name}
        assert before
        optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
        model.encode(frames(), frames(seed=1), labels(THERMAL, DEPTH)).fine.square().mean().backward()
        optimiser.step()
        after = dict(model.named_parameters())
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        changed = [name for name, value in model.named_parameters() if value.grad is not None]
        assert any(".common." in name for name in changed)

    def test_it_trains_in_the_first_stage(self):
        model = tiny_model(use_experts=False).train()
        unified = model.encoder(frames(), frames(seed=1), Routing(labels(THERMAL, DEPTH)))
        sum(part.square().mean() for part in unified).backward()
        assert all(value.grad is not None for name, value in model.named_parameters() if ".mlp.shared." in name)

    def test_switching_the_experts_on_changes_nothing(self):
        model = tiny_model(use_experts=False)
        with torch.no_grad():
            before = model.encode(frames(), frames(seed=1), labels(THERMAL, EVENT)).fine
            model.config.use_experts = True
            after = model.encode(frames(), frames(seed=1), labels(THERMAL, EVENT)).fine
        torch.testing.assert_close(before, after, atol=1e-6, rtol=0)

    def test_a_fresh_pair_of_the_same_is_twice_the_plain_trunk(self):
        model = tiny_model()
        image = frames(1)
        with torch.no_grad():
            unified = model.encoder(image, image, Routing(labels(0)))
            model.config.use_experts = False
            plain = model.encoder.trunk(image).intermediate_hidden_states
        for one, two in zip(unified, plain, strict=True):
            torch.testing.assert_close(one, 2 * two.permute(0, 3, 1, 2), atol=1e-5, rtol=1e-5)


class TestModalities:
    @pytest.fixture
    def model(self):
        return wake_experts(tiny_model())

    def test_rgb_alone_encoded_once_is_rgb_twice(self, model):
        image = frames()
        with torch.no_grad():
            once = model.encode(image, image, None, paired=False)
            twice = model.encode(image, image, labels(0, 0))
        torch.testing.assert_close(once.fine, twice.fine, atol=1e-5, rtol=1e-5)
        for one, two in zip(once.fused, twice.fused, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)

    def test_a_batch_is_its_samples(self, model):
        rgb, other = frames(3), frames(3, seed=1)
        with torch.no_grad():
            together = model.encode(rgb, other, labels(THERMAL, EVENT, THERMAL)).fine
            for index, modality in enumerate((THERMAL, EVENT, THERMAL)):
                part = slice(index, index + 1)
                alone = model.encode(rgb[part], other[part], labels(modality)).fine
                torch.testing.assert_close(together[part], alone, atol=1e-5, rtol=1e-5)

    def test_a_label_matters_unless_its_experts_are_the_same(self, model):
        with torch.no_grad():
            thermal, event = (model.encode(frames(1), frames(1, seed=1), labels(name)).fine for name in (1, 3))
            assert not torch.allclose(thermal, event)
            for block in model.encoder.trunk.blocks:
                for group in (block.mlp.specific, block.mlp.specific_routers):
                    group[EVENT].load_state_dict(group[THERMAL].state_dict())
            thermal, event = (model.encode(frames(1), frames(1, seed=1), labels(name)).fine for name in (1, 3))
        assert torch.equal(thermal, event)

    def test_without_a_label_the_router_decides(self, model):
        with torch.no_grad():
            for block in model.encoder.trunk.blocks:
                block.mlp.modality_router.weight.zero_()
                block.mlp.modality_router.bias.copy_(torch.tensor([0.0, 0, 9, 0]))
            told = model.encode(frames(), frames(seed=1), labels(DEPTH, DEPTH)).fine
            found = model.encode(frames(), frames(seed=1), None)
        assert torch.equal(told, found.fine)
        assert task_loss(found.routing, labels(DEPTH, DEPTH)) < 1e-3
        assert task_loss(found.routing, labels(EVENT, EVENT)) > 5


class TestLosses:
    def test_nothing_hidden_costs_nothing(self):
        model = wake_experts(tiny_model(masked_share=0.0))
        routing = model.encode(frames(), frames(seed=1), labels(THERMAL, DEPTH)).routing
        loss = complementary_loss(model.encoder, frames(), frames(seed=1), routing, None)
        assert loss.item() == 0

    def test_hiding_teaches_the_mask_token_and_the_experts(self):
        model = wake_experts(tiny_model())
        routing = model.encode(frames(), frames(seed=1), labels(THERMAL, DEPTH)).routing
        complementary_loss(model.encoder, frames(), frames(seed=1), routing, None).backward()
        learned = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}
        assert "encoder.mask_token" in learned
        assert "encoder.trunk.blocks.0.mlp.common.inner.weight" in learned

    @pytest.mark.parametrize("scale", [1.0, -3.0])
    def test_parallel_features_cost_one_whatever_their_scale(self, scale):
        prompts = torch.randn(2, 4, 4, 16)
        routing = Routing(None, prompts=[prompts], specific=[scale * prompts])
        assert orthogonal_loss(routing).item() == pytest.approx(1.0)

    def test_orthogonal_features_cost_nothing(self):
        first, second = torch.randn(2, 4, 4, 16), torch.randn(2, 4, 4, 16)
        unit = torch.nn.functional.normalize(first, dim=-1)
        second = second - (second * unit).sum(-1, keepdim=True) * unit
        assert orthogonal_loss(Routing(None, prompts=[first], specific=[second])).item() < 1e-6

    def test_random_features_cost_what_chance_gives(self):
        torch.manual_seed(0)
        first, second = torch.randn(2, 1, 100, 100, 16)
        expected = math.exp(math.lgamma(8) - math.lgamma(8.5)) / math.sqrt(math.pi)
        found = orthogonal_loss(Routing(None, prompts=[first[None]], specific=[second[None]])).item()
        assert expected == pytest.approx(0.2026, abs=1e-4)
        assert found == pytest.approx(expected, abs=5e-3)
