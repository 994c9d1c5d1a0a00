"""The noise that the small model's clips start from."""

from __future__ import annotations

import pytest
import torch

from plugins.sparse_video.errors import SparseVideoInputError
from plugins.sparse_video.noise import noise_mean

from .pipelines import SMALL, hunyuan_text_encoders, latents, make_pipeline
from .tiny_models import tiny_hunyuan_pipeline


def test_no_two_places_of_the_shipped_clip_have_the_same_mean():
    means = noise_mean((29, 12, 12), 16).flatten(1).T
    distances = torch.cdist(means, means).fill_diagonal_(torch.inf)
    assert distances.min() > 0.5


def test_the_mean_is_as_large_as_asked_for_and_counts_from_the_middle():
    mean = noise_mean((29, 12, 12), 16, 2.0)
    assert mean.shape == (16, 29, 12, 12)
    assert mean.square().mean() == pytest.approx(4, rel=0.2)
    assert torch.equal(noise_mean((3, 4, 5), 16)[:, 1:2], noise_mean((1, 4, 5), 16))
    assert (noise_mean((3, 4, 5), 20)[16:] == 0).all()
    assert (noise_mean((3, 4, 5), 16, 0.0) == 0).all()


def test_a_model_with_such_noise_starts_from_it():
    usual, shifted = make_pipeline(), make_pipeline(noise_strength=0.5)
    shifted.transformer.load_state_dict(usual.transformer.state_dict())
    size = (SMALL["height"], SMALL["width"], SMALL["num_frames"])
    generator = torch.Generator().manual_seed(3)
    drawn = usual._delegate(usual.scheduler).prepare_latents(1, 4, *size, torch.float32, "cpu", generator)
    mean = noise_mean(drawn.shape[2:], 4, 0.5)
    assert mean.std() > 0.3
    expected = latents(usual, latents=drawn + mean)
    assert torch.equal(latents(shifted, seed=3), expected)
    assert not torch.equal(latents(usual, seed=3), expected)


def test_latents_that_are_given_are_taken_as_they_are():
    usual, shifted = make_pipeline(), make_pipeline(noise_strength=0.5)
    shifted.transformer.load_state_dict(usual.transformer.state_dict())
    given = torch.randn(1, 4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(*(latents(pipe, latents=given) for pipe in (usual, shifted)))


def test_several_clips_of_one_call_each_get_their_own_noise():
    pipe = make_pipeline(noise_strength=0.5)
    both = latents(pipe, seed=3, num_videos_per_prompt=2)
    torch.testing.assert_close(both[1:], latents(pipe, seed=4), rtol=1e-4, atol=1e-4)


def test_families_that_start_from_the_usual_noise_only_say_so():
    components = tiny_hunyuan_pipeline().components | hunyuan_text_encoders()
    with pytest.raises(SparseVideoInputError, match="family 'wan'"):
        make_pipeline(components=components, noise_strength=1.0)
