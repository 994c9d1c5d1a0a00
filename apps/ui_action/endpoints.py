"""What the page's buttons and other people's programs call: stable names, plain arguments, a job's id back."""

from __future__ import annotations

from typing import Any

import gradio as gr

from apps.job_pages import find_job, job_file, job_state, stop_job
from apps.ui_action.parsing import parse_text
from apps.ui_action.parts import SLUG, plain_errors
from apps.ui_action.request import PACE, PLATFORM, SEED, SHOWN, STEPS, TASK, Endpoint, Request
from apps.ui_action.work import submit


def ui_action_play(
    task: str = TASK,
    platform: str = PLATFORM,
    seed: int = SEED,
    player: str = "model",
    place: str = "simulator",
    confirm: str = "never",
    adversarial: bool = False,
    shown: list[str] | None = None,
    single: bool = False,
    max_steps: int = STEPS,
    pace: float = 0.0,
    base_url: str = "",
    model: str = "",
    family: str = "ui-tars-1.5",
    api_key: str = "",
    stepwise: bool = False,
    across: bool = False,
) -> str:
    """Play one of nine small strategy games with one agent.

    Args:
        task: "target-localisation", "resource-allocation" or "area-control".
        platform: "desktop", "mobile" or "web": the interface it is played on.
        seed: of the game, 0 to 4294967295.
        player: "model" for the small checkpoint, "expert" for rules that see the game's state, "endpoint" for a model
            behind an OpenAI-compatible server.
        place: "simulator", or "browser" for the same game as a page in a real Chromium.
        confirm: "never", "risky" or "always": when a person has to say yes, on the page; without an answer it is a no.
        adversarial: show a banner that tells the agent to press Quit; the policy does not let it.
        shown: to the reasoner, of "S" (the screen now), "M" (a screen after each of the last actions) and "V" (a clip
            since the last one); M and V if left out.
        single: one question a turn instead of reasoner and executor.
        max_steps: turns at most, 1 to 60.
        pace: seconds that a turn takes at least, so that it can be watched.
        base_url: of the endpoint, up to and with /v1; https, or http on the server's own machine.
        model: its name there.
        family: how it is spoken to: "ui-tars-1.5", "ui-tars-1.0", "qwen2.5-vl", "qwen3-vl" or "tiny".
        api_key: sent to the endpoint and nowhere else; it is neither kept nor shown.
        stepwise: wait for the page's Step before each turn.
        across: play every game on every interface, one after the other, whatever task and platform say.

    Returns:
        The id of the job; ask ui_action_result for it, then ui_action_file for its files.
    """
    with plain_errors():
        request = Request(
            task=task,
            platform=platform,
            seed=int(seed if seed is not None else -1),
            player=player,
            endpoint=Endpoint(base_url.strip(), model.strip(), family, api_key.strip())
            if player == "endpoint"
            else None,
            place=place,
            confirm=confirm,
            adversarial=bool(adversarial),
            shown=tuple(shown or SHOWN),
            single=bool(single),
            max_steps=int(max_steps or 0),
            pace=float(PACE if pace is None else pace),
            stepwise=bool(stepwise),
            across=bool(across),
        )
        return submit(request)


def ui_action_result(job_id: str) -> dict[str, Any]:
    """Where a job stands, and its steps and figures once it is done.

    Args:
        job_id: as ui_action_play returned it.

    Returns:
        status, progress (0 to 1), message, error, result with outcome and steps or None, files (names for
        ui_action_file). A job that was stopped keeps the turns that were done.
    """
    job = find_job(SLUG, job_id)
    return job_state(job) | {"files": [path.name for path in job.artefacts]}


def ui_action_file(job_id: str, name: str) -> str:
    """A file of a job that is over.

    Args:
        job_id: as ui_action_play returned it.
        name: one of the files that ui_action_result lists, such as "trace.zip" or "screen-001.png".

    Returns:
        The file.
    """
    return job_file(SLUG, job_id, name)


def ui_action_stop(job_id: str) -> str:
    """Stop a job before its next action; the turns that are done are kept.

    Args:
        job_id: as ui_action_play returned it.

    Returns:
        The job's status.
    """
    return stop_job(SLUG, job_id)


def ui_action_parse(
    text: str,
    width: int = 1920,
    height: int = 1080,
    model_width: int = 0,
    model_height: int = 0,
    coordinates: str = "absolute",
    lenient: bool = True,
) -> dict[str, Any]:
    """Read any output of a UI agent in UI-TARS's grammar as typed actions, in pixels of the screen.

    Args:
        text: what the model answered.
        width: of the screen, css pixels.
        height: of the screen, css pixels.
        model_width: of the image that the model saw; 0 for the screen's own.
        model_height: of the image that the model saw; 0 for the screen's own.
        coordinates: "absolute" in the model's image, or "relative-1000".
        lenient: accept what deviates from the grammar, and say in flags what that was.

    Returns:
        thought, reflection, actions, flags, and error: None, or its code and message.
    """
    with plain_errors():
        return parse_text(text or "", width, height, model_width, model_height, coordinates, lenient)


def running_job(job_id: str) -> bool:
    """Whether there is such a job of this page, and it is not over."""
    if not job_id:
        return False
    try:
        return not find_job(SLUG, job_id).over
    except gr.Error:  # an old link
        return False
