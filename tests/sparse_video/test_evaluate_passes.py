"""One pass of the transformer against dense: what is recorded, and what is compared."""

from __future__ import annotations

import pytest

from plugins.sparse_video.evaluate_passes import as_markdown, evaluate_passes, pass_errors, recorded

from .pipelines import PROMPT, latents, make_pipeline


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline()


def test_every_pass_of_a_run_is_recorded_and_none_after_it(pipeline):
    with recorded(pipeline.transformer) as passes:
        latents(pipeline, attention="dense")
    assert len(passes) == 2
    latents(pipeline, attention="dense")
    assert len(passes) == 2


def test_a_pass_with_every_block_is_the_dense_one(pipeline):
    with recorded(pipeline.transformer) as passes:
        latents(pipeline, attention="dense")
    found = pass_errors(pipeline.transformer, passes, pipeline.attention_config().replace(density=1.0))
    assert found == {name: [0.0, 0.0] for name in ("sparse", "rectified", "centroid")}


def test_a_pass_with_fewer_blocks_is_further_from_the_dense_one(pipeline):
    with recorded(pipeline.transformer) as passes:
        latents(pipeline, attention="dense")
    config = pipeline.attention_config().replace(dense_steps=0.0)
    some, few = (pass_errors(pipeline.transformer, passes, config.replace(density=share)) for share in (0.7, 0.15))
    assert all(0 < a < b for a, b in zip(some["sparse"], few["sparse"], strict=True))


def test_the_table_has_a_row_for_each_block_size(pipeline):
    report = evaluate_passes(pipeline, {3: PROMPT}, density=0.3, steps=2, block_sizes=(32, 16))
    assert [(row["block_size"], row["seed"], row["step"]) for row in report["passes"]] == [
        (32, 3, 0),
        (32, 3, 1),
        (16, 3, 0),
        (16, 3, 1),
    ]
    large, small = as_markdown(report).splitlines()[2:]
    assert large.startswith("| 32 | 2 |")
    assert small.startswith("| 16 | 2 |")
