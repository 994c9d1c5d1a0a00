"""The UI action page: one agent, three games on three interfaces, watched turn by turn and kept within bounds."""

from __future__ import annotations

from typing import Any

import gradio as gr

from apps.address import ON_A_SPACE
from apps.components import QUIET, note
from apps.job_pages import linked_job, remember_job
from apps.ui_action.cells import BEGIN_WITH, CELLS_SCRIPT, cells, first_look
from apps.ui_action.controls import default_controls
from apps.ui_action.endpoints import (
    running_job,
    ui_action_file,
    ui_action_parse,
    ui_action_play,
    ui_action_result,
    ui_action_stop,
)
from apps.ui_action.parsing import COORDINATES, build_parser, show_parsed
from apps.ui_action.parts import SLUG, browser_missing, plain_errors
from apps.ui_action.player import STYLE
from apps.ui_action.replaying import build_replay
from apps.ui_action.request import (
    CONFIRM,
    FAMILIES,
    MEDIA,
    MOST_PACE,
    MOST_SEED,
    MOST_STEPS,
    PACE,
    PLACES,
    PLATFORM,
    PLATFORMS,
    PLAYERS,
    ROLES,
    SEED,
    SHOWN,
    STEPS,
    TASK,
    TASKS,
    read_cell,
)
from apps.ui_action.results import Results, progress

INTRO = """Does **one** agent work across different interfaces? Three small strategy games, each on a desktop, a mobile
and a web interface, are played by the same model: a **reasoner** looks at screens and says in a sentence what to do, an
**executor** turns the sentence into a click. What it may do is decided outside the model."""
MODEL = """A small model, trained for this page on these nine games; it knows nothing else. The games are the paper's
kinds of task, not its games, which are not public."""
KEY_INFO = "Sent to the endpoint and nowhere else; neither kept nor shown"
LIVE_SECONDS = 0.3


def build_page() -> gr.Blocks:
    """The page as blocks; nothing of the plugin is imported before a handler runs."""
    with gr.Blocks() as page:
        gr.HTML(f"<style>{STYLE}</style>", elem_id="ui-action-style")
        gr.Markdown(INTRO, elem_id="ui-action-intro")
        job_id = gr.Textbox(visible=False, label="Job")
        shown, question = gr.State(""), gr.State(0)
        timer = gr.Timer(LIVE_SECONDS, active=False)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                inputs = _Inputs()
            with gr.Column(scale=5, min_width=320):
                buttons = _Buttons()
                results = Results()
        with gr.Accordion("Parse any model output", open=False, elem_id="ui-action-parser"):
            parsed_from, parsed = build_parser()
        with gr.Accordion("Replay a trace", open=False, elem_id="ui-action-replayer"):
            build_replay()
        _connect(inputs, buttons, results, job_id, shown, question, timer)
        page.load(lambda: gr.HTML(games=cells()), None, inputs.cell, **QUIET)
        page.load(first_look, inputs.look, results.first, **QUIET)
        page.load(show_parsed, parsed_from, parsed, **QUIET)
        page.load(_browser_note, None, inputs.no_browser, **QUIET)
        page.load(linked_job(SLUG), None, job_id, **QUIET)
        _offer_endpoints()
    return page


class _Inputs:
    """The left column's components."""

    def __init__(self) -> None:
        self.cell = gr.HTML(
            BEGIN_WITH,
            html_template='<div class="cells" role="radiogroup" aria-label="Game and interface"></div>',
            js_on_load=CELLS_SCRIPT,
            elem_id="ui-action-cells",
            games=[],
        )
        self.player = gr.Radio(
            [(text, name) for name, text in PLAYERS.items()],
            value="model",
            label="Who plays",
            elem_id="ui-action-player-kind",
        )
        with gr.Column(visible=False, elem_id="ui-action-endpoint") as self.endpoint:
            self._endpoint()
        self.place = gr.Radio(
            [(text, name) for name, text in PLACES.items()], value="simulator", label="Where", elem_id="ui-action-place"
        )
        self.no_browser = gr.HTML("", visible=False, elem_id="ui-action-no-browser")
        with gr.Accordion("Seed, safety and what the model is shown", open=False, elem_id="ui-action-more"):
            self._more()
        gr.Markdown(MODEL, elem_classes="quiet")

    def _endpoint(self) -> None:
        allowed = "https" if ON_A_SPACE else "https anywhere, http only on this machine"
        self.base_url = gr.Textbox(
            "", label="Base URL", info=f"Up to and with /v1; {allowed}", placeholder="http://127.0.0.1:8000/v1"
        )
        self.model = gr.Textbox("", label="Model", info="The name by which the endpoint knows it")
        self.family = gr.Dropdown(list(FAMILIES), value=FAMILIES[0], label="Family", info="How the model is spoken to")
        self.api_key = gr.Textbox("", label="API key", info=KEY_INFO, type="password")

    def _more(self) -> None:
        with gr.Row():
            self.seed = gr.Number(SEED, label="Seed", precision=0, minimum=0, maximum=MOST_SEED, min_width=90)
            self.steps = gr.Number(
                STEPS, label="Steps at most", precision=0, minimum=1, maximum=MOST_STEPS, min_width=90
            )
        self.pace = gr.Slider(
            0, MOST_PACE, PACE, step=0.1, label="Seconds a turn", info="At least, so that it can be watched"
        )
        self.confirm = gr.Radio(
            [(text, name) for name, text in CONFIRM.items()],
            value="never",
            label="Ask me",
            info="No answer within two minutes is a no",
            elem_id="ui-action-confirm",
        )
        self.adversarial = gr.Checkbox(
            False,
            label="A banner on the screen that tells the agent to press Quit",
            info="The policy does not let it, whatever the model makes of it",
            elem_id="ui-action-adversarial",
        )
        self.media = gr.CheckboxGroup(
            [(text, name) for name, text in MEDIA.items()],
            value=list(SHOWN),
            label="What the reasoner is shown",
            elem_id="ui-action-media",
        )
        self.roles = gr.Radio(
            [(text, name) for name, text in ROLES.items()], value="two", label="Roles", elem_id="ui-action-roles"
        )

    @property
    def look(self) -> list[Any]:
        """What the first screen depends on."""
        return [self.cell, self.seed, self.adversarial]

    @property
    def given(self) -> list[Any]:
        """What a game is made of, in the order of `_play`."""
        return [
            self.cell,
            self.seed,
            self.player,
            self.place,
            self.confirm,
            self.adversarial,
            self.media,
            self.roles,
            self.steps,
            self.pace,
            self.base_url,
            self.model,
            self.family,
            self.api_key,
        ]


class _Buttons:
    """Over the screen, as those of a player."""

    def __init__(self) -> None:
        with gr.Row(elem_id="ui-action-buttons"):
            self.run = gr.Button("Run", variant="primary", min_width=80, elem_id="ui-action-run")
            self.step = gr.Button("Step", min_width=80, elem_id="ui-action-step")
            self.stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="ui-action-stop")
            self.across = gr.Button("Play all nine", min_width=120, elem_id="ui-action-across-run")


def _connect(
    inputs: _Inputs,
    buttons: _Buttons,
    results: Results,
    job_id: gr.Textbox,
    shown: gr.State,
    question: gr.State,
    timer: gr.Timer,
) -> None:
    for button, handler in ((buttons.run, _run), (buttons.step, _step), (buttons.across, _across)):
        button.click(handler, [job_id, *inputs.given], job_id, concurrency_id="accelerator", **QUIET)
    buttons.stop.click(_stop, job_id, None, queue=False, **QUIET)
    inputs.player.change(
        lambda player: gr.update(visible=player == "endpoint"), inputs.player, inputs.endpoint, **QUIET
    )
    # Another game: back from the result to its first screen.
    changes = [inputs.cell.change, inputs.seed.input, inputs.adversarial.input]
    back = [results.first, results.status, results.live, results.box]
    gr.on(changes, _look, inputs.look, back, trigger_mode="always_last", **QUIET)
    results.allow.click(_allow, [job_id, question], None, queue=False, **QUIET)
    results.refuse.click(_refuse, [job_id, question], None, queue=False, **QUIET)
    job_id.change(None, job_id, None, js=remember_job(SLUG), api_visibility="private")

    def poll(job: str, already: str) -> list[Any]:
        return progress(job, already, results)

    gr.on(
        [timer.tick, job_id.change],
        poll,
        [job_id, shown],
        [results.first, results.status, timer, shown, question, results.question, results.live, *results.components],
        concurrency_limit=8,  # it only looks; one visitor's poll need not wait for another's
        **QUIET,
    )


def _offer_endpoints() -> None:
    """What programs call."""
    gr.api(ui_action_result, api_name="ui_action_result", queue=False)
    gr.api(ui_action_stop, api_name="ui_action_stop", queue=False)
    hidden: dict[str, Any] = {"visible": False}
    parsed: list[Any] = [
        gr.Textbox(label="text", **hidden),
        gr.Number(1920, precision=0, label="width", **hidden),
        gr.Number(1080, precision=0, label="height", **hidden),
        gr.Number(0, precision=0, label="model_width", **hidden),
        gr.Number(0, precision=0, label="model_height", **hidden),
        gr.Radio(list(COORDINATES), value="absolute", label="coordinates", **hidden),
        gr.Checkbox(True, label="lenient", **hidden),
    ]
    gr.Button(**hidden).click(
        ui_action_parse, parsed, gr.JSON(label="parsed", **hidden), api_name="ui_action_parse", queue=False
    )
    # With components of its own, for only those hand files over.
    job_id, name = gr.Textbox(label="job_id", **hidden), gr.Textbox(label="name", **hidden)
    file = gr.File(label="File", **hidden)
    gr.Button(**hidden).click(ui_action_file, [job_id, name], file, api_name="ui_action_file", queue=False)
    arguments: list[Any] = [
        gr.Radio(list(TASKS), value=TASK, label="task", **hidden),
        gr.Radio(list(PLATFORMS), value=PLATFORM, label="platform", **hidden),
        gr.Number(SEED, precision=0, label="seed", **hidden),
        gr.Radio(list(PLAYERS), value="model", label="player", **hidden),
        gr.Radio(list(PLACES), value="simulator", label="place", **hidden),
        gr.Radio(list(CONFIRM), value="never", label="confirm", **hidden),
        gr.Checkbox(False, label="adversarial", **hidden),
        gr.CheckboxGroup(list(MEDIA), value=list(SHOWN), label="shown", **hidden),
        gr.Checkbox(False, label="single", **hidden),
        gr.Number(STEPS, precision=0, label="max_steps", **hidden),
        gr.Number(0, label="pace", **hidden),
        gr.Textbox("", label="base_url", **hidden),
        gr.Textbox("", label="model", **hidden),
        gr.Textbox(FAMILIES[0], label="family", **hidden),
        gr.Textbox("", label="api_key", type="password", **hidden),
        gr.Checkbox(False, label="stepwise", **hidden),
        gr.Checkbox(False, label="across", **hidden),
    ]
    gr.Button(**hidden).click(
        ui_action_play,
        arguments,
        gr.Textbox(label="job", **hidden),
        api_name="ui_action_play",
        concurrency_id="accelerator",
    )


def _run(job_id: str, *given: Any) -> str:
    """Go on with the game that waits, or begin one."""
    if running_job(job_id):
        default_controls().run(job_id)
        return job_id
    return _play(*given)


def _step(job_id: str, *given: Any) -> str:
    """One turn of the game that goes on, or the first one of a new game."""
    if running_job(job_id):
        default_controls().step(job_id)
        return job_id
    return _play(*given, stepwise=True)


def _across(job_id: str, *given: Any) -> str:
    """All nine games with this player."""
    if running_job(job_id):
        raise gr.Error("A game is going on: stop it first.", print_exception=False)
    return _play(*given, across=True)


def _play(
    cell: str,
    seed: float | None,
    player: str,
    place: str,
    confirm: str,
    adversarial: bool,
    media: list[str],
    roles: str,
    steps: float | None,
    pace: float,
    base_url: str,
    model: str,
    family: str,
    api_key: str,
    stepwise: bool = False,
    across: bool = False,
) -> str:
    """As the endpoint, with what is on the page."""
    with plain_errors():
        task, platform = read_cell(cell)
    if not media:
        raise gr.Error("Nothing is chosen for the reasoner to see: choose at least one.", print_exception=False)
    return ui_action_play(
        task=task,
        platform=platform,
        seed=int(seed if seed is not None else SEED),
        player=player,
        place=place,
        confirm=confirm,
        adversarial=adversarial,
        shown=media,
        single=roles == "single",
        max_steps=int(steps or 0),
        pace=pace,
        base_url=base_url or "",
        model=model or "",
        family=family,
        api_key=api_key or "",
        stepwise=stepwise,
        across=across,
    )


def _look(cell: str, seed: float | None, adversarial: bool) -> list[Any]:
    return [gr.HTML(value=first_look(cell, seed, adversarial), visible=True), "", "", gr.update(visible=False)]


def _stop(job_id: str) -> None:
    if job_id:
        ui_action_stop(job_id)


def _allow(job_id: str, question: int) -> None:
    if question and running_job(job_id):
        default_controls().answer(job_id, question, True)


def _refuse(job_id: str, question: int) -> None:
    if question and running_job(job_id):
        default_controls().answer(job_id, question, False)


def _browser_note() -> Any:
    missing = browser_missing()
    return gr.HTML(value=note(missing) if missing else "", visible=bool(missing))
