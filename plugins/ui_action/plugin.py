"""UI action as the suite sees it."""

from core.registry import PluginSpec

SPEC = PluginSpec(
    slug="ui-action",
    title="UI action",
    task="ui-action",
    summary=(
        "Plays strategy games on a desktop, a mobile and a web interface with one vision-language model, which says "
        "what to do next and does it."
    ),
    question="Does one agent work across different interfaces, and how should I organise my image/video data?",
    paper="2511.12937",
    pipeline="plugins.ui_action.pipeline_ui_action:UIActionPipeline",
    page="apps.ui_action:build_page",
    checkpoint="hub_cards/ui-action-tiny",
    min_memory_gb=1.0,
    published=(
        "errors.py",
        "actions.py",
        "screen.py",
        "coordinates.py",
        "patches.py",
        "keys.py",
        "hotkeys.py",
        "scanning.py",
        "envelope.py",
        "parser.py",
        "processing.py",
        "loading.py",
        "backends/__init__.py",
        "backends/base.py",
        "backends/prompts.py",
        "backends/local.py",
        "pipeline_ui_action.py",
    ),
)
