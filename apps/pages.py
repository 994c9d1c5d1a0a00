"""From catalogue entries to pages that can be shown: built blocks, or the reason why there are none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from core.registry import CatalogueEntry, PluginFailure, PluginSpec, describe_failure, load_object, strict

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """A tab to be: its built blocks, or the failure that stands in for them (exactly one is set)."""

    slug: str
    spec: PluginSpec | None
    blocks: gr.Blocks | None = None
    failure: PluginFailure | None = None

    @property
    def title(self) -> str:
        """The name on the tab; where the spec did not import, or there is none, the slug has to do."""
        return self.spec.title if self.spec else self.slug.replace("-", " ").capitalize()


def mount_page(entry: CatalogueEntry) -> Page:
    """Build one plugin's page; a failure is kept for its tab, or raised again in strict mode."""
    if entry.spec is None:
        return Page(entry.slug, None, failure=entry.failure)
    try:
        return Page(entry.slug, entry.spec, blocks=load_object(entry.spec.page)())
    except Exception as error:
        if strict():
            raise
        logger.exception("the page of plugin %s could not be built", entry.slug)
        return Page(entry.slug, entry.spec, failure=describe_failure(error, entry.spec.page))


def mount_pages(entries: Sequence[CatalogueEntry]) -> tuple[Page, ...]:
    """Build every page before the suite is opened, so that one that fails leaves nothing attached."""
    return tuple(mount_page(entry) for entry in entries)
