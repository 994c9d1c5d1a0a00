"""The README of a Space: how it presents itself on the Hub, and what people read under "Files"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.registry import PluginSpec
from core.spaces.front_matter import SpaceCard


@dataclass(frozen=True, slots=True)
class Look:
    """How the Space of a single technique presents itself: an emoji, one line of at most 60 characters, tags."""

    emoji: str
    line: str
    tags: tuple[str, ...]


LOOKS = {
    "sparse-video": Look("🎞️", "Sparse attention for video: what it saves and costs", ("text-to-video", "diffusers")),
    "tracking": Look("🎯", "One tracker for RGB, thermal, depth and event video", ("object-tracking", "segmentation")),
    "attribution": Look("⚖️", "Does this modality earn its cost?", ("modality-attribution", "interpretability")),
    "ui-action": Look("🕹️", "One agent, three interfaces, three strategy games", ("gui-agent", "image-text-to-text")),
}


def suite_card(own: SpaceCard, hardware: str, models: Sequence[str]) -> SpaceCard:
    """The repository's own card for other hardware."""
    return replace(own, suggested_hardware=hardware, models=tuple(models), app_file="app.py")


def single_card(own: SpaceCard, spec: PluginSpec, hardware: str, models: Sequence[str]) -> SpaceCard:
    """The card of a Space that shows one technique, with the versions and colours of the repository's own."""
    look = LOOKS.get(spec.slug, Look(own.emoji, f"{spec.title} (arXiv {spec.paper})", (spec.task,)))
    return SpaceCard(
        title=spec.title,
        emoji=look.emoji,
        color_from=own.color_from,
        color_to=own.color_to,
        sdk_version=own.sdk_version,
        python_version=own.python_version,
        short_description=look.line,
        license=own.license,
        suggested_hardware=hardware,
        models=tuple(models),
        tags=(*look.tags, "quartet", f"arxiv:{spec.paper}"),
    )


def readme_body(title: str, specs: Sequence[PluginSpec]) -> str:
    """What stands under the front matter: the techniques, their papers and how programs use the Space."""
    rows = "\n".join(
        f"| {spec.title} | {spec.question or spec.summary} | [arXiv {spec.paper}](https://arxiv.org/abs/{spec.paper}) |"
        for spec in specs
    )
    return f"""# {title}

| Technique | The question it answers | Paper |
|---|---|---|
{rows}

The first example of every page runs on small checkpoints that are part of this Space; they are labelled as small.

Every button is an endpoint too:

```python
from gradio_client import Client

client = Client("owner/name")  # this Space's own id
client.view_api()
```

`/healthz` says what is available, `/readyz` whether the Space has finished starting.
"""
