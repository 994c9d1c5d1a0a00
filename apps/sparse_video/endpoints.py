"""What the page's button and other people's programs call: stable names, plain arguments, a job's id back."""

from __future__ import annotations

from typing import Any, Literal

from apps.job_pages import find_job, job_file, job_state, shown_errors, stop_job
from apps.sparse_video.work import SLUG, Request, submit

Method = Literal["dense", "sparse", "rectified", "centroid"]


def sparse_video_compare(
    prompt: str,
    methods: list[Method] | None = None,
    density: float = 0.25,
    seed: int = 0,
    steps: int = 0,
    frames: int = 0,
    height: int = 0,
    width: int = 0,
) -> str:
    """Make the same clip with several kinds of attention and measure them against dense.

    Args:
        prompt: what the clip shows.
        methods: of "dense", "sparse", "rectified" and "centroid"; "dense" and "rectified" if left out.
        density: share of key blocks to keep, above 0 and at most 1.
        seed: of the noise, the same for every clip.
        steps: sampling steps, 0 for the model's own.
        frames: 2k + 1, 0 for the model's own.
        height: pixels, a multiple of 16, 0 for the model's own.
        width: pixels, a multiple of 16, 0 for the model's own.

    Returns:
        The id of the job; ask sparse_video_result for it.
    """
    chosen = tuple(Request.methods if methods is None else methods)
    return _submit(prompt, chosen, density, seed, steps, frames, height, width)


def sparse_video_generate(
    prompt: str,
    attention: Method = "rectified",
    density: float = 0.25,
    seed: int = 0,
    steps: int = 0,
    frames: int = 0,
    height: int = 0,
    width: int = 0,
) -> str:
    """Make one clip.

    Args:
        prompt: what the clip shows.
        attention: "rectified", "sparse", "centroid" or "dense".
        density: share of key blocks to keep, above 0 and at most 1; without effect on dense.
        seed: of the noise.
        steps: sampling steps, 0 for the model's own.
        frames: 2k + 1, 0 for the model's own.
        height: pixels, a multiple of 16, 0 for the model's own.
        width: pixels, a multiple of 16, 0 for the model's own.

    Returns:
        The id of the job; ask sparse_video_result for it, then sparse_video_file for the mp4, named after attention.
    """
    return _submit(prompt, (attention,), density, seed, steps, frames, height, width)


def sparse_video_result(job_id: str) -> dict[str, Any]:
    """Where a job stands, and its figures once it is done.

    Args:
        job_id: as sparse_video_compare or sparse_video_generate returned it.

    Returns:
        status, progress (0 to 1), message, error, result with the figures or None, files (names for sparse_video_file).
    """
    job = find_job(SLUG, job_id)
    return job_state(job) | {"files": [path.name for path in job.artefacts]}


def sparse_video_file(job_id: str, name: str) -> str:
    """A file of a job that is done.

    Args:
        job_id: as sparse_video_compare or sparse_video_generate returned it.
        name: one of the files that sparse_video_result lists, such as "rectified.mp4".

    Returns:
        The file.
    """
    return job_file(SLUG, job_id, name)


def sparse_video_stop(job_id: str) -> str:
    """Stop a job; it ends within a step.

    Args:
        job_id: as sparse_video_compare or sparse_video_generate returned it.

    Returns:
        The job's status.
    """
    return stop_job(SLUG, job_id)


def _submit(prompt: str, methods: tuple[str, ...], density: float, seed: int | None, *sizes: float | None) -> str:
    steps, frames, height, width = (int(size) if size else None for size in sizes)
    with shown_errors():
        return submit(Request(prompt or "", methods, float(density), int(seed or 0), steps, frames, height, width))
