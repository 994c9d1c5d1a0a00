"""The sparse video page's views and work, without a browser, on a small model with random weights."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apps.components import note
from apps.sparse_video import plots, views, work
from apps.sparse_video.files import DOWNLOADS, difference_name
from apps.sparse_video.pictures import MOST_FRAMES, block_picture, film_strip
from apps.sparse_video.player import NAMES, empty_tiles, live_tiles, players
from apps.sparse_video.work import EXAMPLES, FRAMES, METHODS, SIDE, WORDS, Request, snippet, submit
from core.errors import InputError
from core.jobs import Job, default_store
from plugins.sparse_video.pipeline import SparseVideoPipeline
from plugins.sparse_video.scenes import BACKGROUNDS, COLOURS, MOTIONS, SHAPES
from plugins.sparse_video.small_model import (
    DEFAULTS,
    new_scheduler,
    new_text_encoder,
    new_tokenizer,
    new_transformer,
    new_vae,
)
from plugins.sparse_video.vocabulary import words

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "a red <img src=x onerror=alert(1)> square"
SMALL = Request(HOSTILE, METHODS, density=0.25, seed=3, steps=2, frames=5, height=64, width=64)


@pytest.fixture(scope="module")
def pipeline() -> SparseVideoPipeline:
    torch.manual_seed(0)
    tokenizer = new_tokenizer()
    return SparseVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=new_text_encoder(tokenizer).eval(),
        vae=new_vae().eval(),
        transformer=new_transformer().eval(),
        scheduler=new_scheduler(),
        default_num_frames=5,
        default_height=64,
        default_width=64,
        default_num_inference_steps=2,
        default_guidance_scale=1.0,
        default_attention={"density": 0.25, "block_size": 16, "min_tokens": 0, "neighbors": False},
    )


@pytest.fixture(scope="module")
def run_job(pipeline: SparseVideoPipeline) -> Any:
    """A function from a request to its finished job."""

    def run(request: Request) -> Job:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(work, "pipeline", lambda: pipeline)
            return default_store().wait(submit(request), 120)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield run
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def job(run_job: Any) -> Job:
    """All four kinds of attention, done."""
    done = run_job(SMALL)
    assert done.status == "done", done.error
    return done


@pytest.fixture(scope="module")
def result(job: Job) -> dict[str, Any]:
    assert job.result is not None
    return job.result


def with_rows(result: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The result with changed figures of all but dense."""
    dense, *others = result["rows"]
    return result | {"rows": [dense, *(row | changes for row in others)]}


def test_a_job_writes_every_download_and_a_run_that_can_be_repeated(job: Job, pipeline: SparseVideoPipeline) -> None:
    files = {path.name: path for path in job.artefacts}
    assert set(files) == set(DOWNLOADS) | {difference_name(method) for method in METHODS[1:]}
    record = json.loads(files["run.json"].read_text("utf-8"))
    assert (record["plugin"], record["seed"], record["params"]["prompt"]) == ("sparse-video", 3, HOSTILE)
    assert set(record["timings"]) == {"dense", "sparse 0.25", "rectified 0.25", "centroid 0.25"}
    assert len(zipfile.ZipFile(files["frames.zip"]).namelist()) == 4 * 5
    blocks = np.load(files["blocks.npz"])
    config = pipeline.transformer.config
    assert [blocks[name].shape for name in blocks.files] == [(config.num_attention_heads, 12, 12)] * config.num_layers


def test_every_figure_is_of_the_same_run_and_the_preview_is_left_out(result: dict[str, Any]) -> None:
    assert [row["method"] for row in result["rows"]] == list(METHODS)
    for clip in result["clips"]:
        timings = clip["run"]["timings"]
        assert timings["total"] == pytest.approx(timings["text"] + timings["denoise"] + timings["decode"])
    dense, sparse = result["rows"][:2]
    assert sparse["denoise_ratio"] == pytest.approx(dense["denoise_seconds"] / sparse["denoise_seconds"])


def test_the_look_inside_has_a_map_a_recall_and_an_error_for_each_layer(
    result: dict[str, Any], pipeline: SparseVideoPipeline
) -> None:
    layers = result["inside"]["layers"]
    assert [row["layer"] for row in layers] == list(range(pipeline.transformer.config.num_layers))
    for row in layers:
        assert len(row["maps"]) == len(row["recall"]) == pipeline.transformer.config.num_attention_heads
        assert set(row["errors"]) == set(METHODS[1:])
        assert all(0 < error < 2 for error in row["errors"].values())


def test_a_clip_too_short_for_sparsity_says_that_attention_was_dense(
    run_job: Any, pipeline: SparseVideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = pipeline.attention_config().replace(min_tokens=10_000)
    monkeypatch.setattr(SparseVideoPipeline, "attention_config", lambda self: long)
    done = run_job(replace(SMALL, methods=("dense", "rectified")))
    assert done.status == "done", done.error
    assert done.result["inside"] is None
    assert "dense throughout" in views.maps_grid(None)
    assert "attention calls of a sparse clip were dense" in views.caption(done.result)
    assert "identical" in views.fidelity_table(done.result)


def test_without_dense_nothing_is_compared(run_job: Any) -> None:
    done = run_job(replace(SMALL, methods=("sparse", "rectified")))
    assert done.status == "done", done.error
    assert [row["psnr"] for row in done.result["rows"]] == [None, None]
    assert "Dense was not chosen" in views.verdict_cards(done.result, 2.0)
    assert "Choose dense too" in views.fidelity_table(done.result)
    assert plots.fidelity_figure(done.result) is None
    assert "–" in views.cost_table(done.result, 2.0)


def test_a_job_that_is_stopped_ends_within_a_step_and_leaves_no_files(
    pipeline: SparseVideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "pipeline", lambda: pipeline)
    steps: list[int] = []
    plain = SparseVideoPipeline.preview

    def preview(self: SparseVideoPipeline, *args: Any) -> Any:
        steps.append(1)
        default_store().stop(job_id)
        return plain(self, *args)

    monkeypatch.setattr(SparseVideoPipeline, "preview", preview)
    job_id = submit(replace(SMALL, steps=20))
    stopped = default_store().wait(job_id, 60)
    assert (stopped.status, stopped.artefacts, len(steps)) == ("stopped", (), 1)


def test_the_plugins_own_errors_are_shown_in_its_words(run_job: Any) -> None:
    failed = run_job(replace(SMALL, height=70))
    assert (failed.status, failed.artefacts) == ("failed", ())
    assert "multiples of 16" in failed.error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": " \n"}, "prompt is empty"),
        ({"methods": ()}, "Nothing is chosen"),
        ({"methods": ("dense", "magic")}, "'magic' is no kind of attention"),
        ({"steps": 101}, "limit 100"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_before_it_waits(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SMALL, **changes)


def test_what_a_visitor_typed_is_escaped_wherever_it_is_shown(job: Job, result: dict[str, Any]) -> None:
    pieces = (
        views.caption(result | {"warnings": [HOSTILE]}),
        views.verdict_cards(result, 1.0),
        views.maps_grid(result["inside"] | {"variant": HOSTILE}),
        note(HOSTILE),
        players(result, {path.name: path for path in job.artefacts}, lambda path: f'"><img {path.name}'),
        live_tiles({"tiles": [{"method": "dense", "state": HOSTILE, "film": "x", "frames": 2, "ratio": 1.0}]}),
    )
    assert [piece for piece in pieces if "<img src=x" in piece or '"><img' in piece] == []


def test_faster_slower_and_equal_are_said_plainly(result: dict[str, Any]) -> None:
    assert "2.00 × as fast as dense" in views.verdict_cards(with_rows(result, denoise_ratio=2.0), 1.0)
    slower = views.verdict_cards(with_rows(result, denoise_ratio=0.8), 1.0)
    assert "Slower than dense: 0.80 ×" in slower
    assert "verdict-drop" in slower
    assert "As fast as dense" in views.verdict_cards(with_rows(result, denoise_ratio=1.0), 1.0)


def test_cost_is_seconds_per_minute_times_the_price(result: dict[str, Any]) -> None:
    rows = [row | {"seconds_per_minute": 360.0 if row["method"] == "dense" else 180.0} for row in result["rows"]]
    table = views.cost_table(result | {"rows": rows}, 10.0)
    assert table.count("$1.00") == 1
    assert table.count("$0.5000") == 3
    assert table.count("$30.00 (50 %)") == 3
    dearer = [row | {"seconds_per_minute": 360.0 if row["method"] == "dense" else 720.0} for row in result["rows"]]
    assert views.cost_table(result | {"rows": dearer}, 10.0).count("−$60.00 (−100 %)") == 3
    assert "Extra per hour of video" in views.verdict_cards(result | {"rows": dearer}, 10.0)


def test_without_a_price_no_dollars_are_shown(result: dict[str, Any]) -> None:
    assert "$" not in views.cost_table(result, None).replace("$ per minute", "")
    assert "Saved per hour" not in views.verdict_cards(result, None)


def test_every_plot_has_its_figures(result: dict[str, Any]) -> None:
    fidelity = plots.fidelity_figure(result)
    assert fidelity is not None
    assert len(plots.steps_figure(result).data) == 4
    assert len(fidelity.data) == 3
    assert len(plots.error_figure(result["inside"]).data) == 3


def test_clips_that_are_no_longer_kept_are_said_to_be_gone(result: dict[str, Any]) -> None:
    assert "no longer kept" in players(result, {}, str)


def test_a_film_strip_is_thinned_out_and_a_map_is_one_pixel_per_pair() -> None:
    film, count = film_strip(np.zeros((100, 300, 500, 3), np.uint8))
    assert film.startswith("data:image/webp;base64,")
    assert count == MOST_FRAMES
    assert block_picture(np.eye(5)).startswith("data:image/png;base64,")


def test_the_page_names_exactly_the_words_of_the_model() -> None:
    assert tuple(WORDS.values()) == (tuple(COLOURS), SHAPES, MOTIONS, tuple(BACKGROUNDS))
    known = set(words())
    assert [word for text in EXAMPLES for word in text.split() if word not in known] == []


def test_the_page_offers_the_size_that_the_model_was_made_for() -> None:
    own = tuple(DEFAULTS[f"default_{name}"] for name in ("num_frames", "height", "width"))
    assert own == (FRAMES, SIDE, SIDE)


def test_before_the_first_run_every_clip_has_its_place() -> None:
    assert all(NAMES[method] in empty_tiles(METHODS) for method in METHODS)


@pytest.mark.parametrize("prompt", [EXAMPLES[0], "a'); print('out", 'a"\n; rm -rf /', "--help"])
def test_the_snippet_cannot_be_broken_out_of(prompt: str) -> None:
    code = snippet(replace(SMALL, prompt=prompt))
    compile(code, "snippet", "exec")
    assert sum(line.startswith("#") for line in code.splitlines()) == 1
    command = shlex.split(code.splitlines()[-1].removeprefix("# "))
    assert command[:4] == ["python", "-m", "plugins.sparse_video", "compare"]
    assert command[-2:] == ["--", " ".join(prompt.split())]


def test_importing_the_page_imports_nothing_heavy() -> None:
    code = "import apps.sparse_video, sys; sys.exit('torch' in sys.modules or 'plugins.sparse_video' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0
