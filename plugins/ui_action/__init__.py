"""Yanyun-3: one vision-language agent that plays across different interfaces."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .actions import Action
    from .agent import Agent
    from .errors import ParseError
    from .parser import parse_response
    from .pipeline_ui_action import UIActionPipeline
    from .policy import Policy
    from .screen import Screen
    from .strategy import Strategy

_EXPORTS = {
    "Action": "actions",
    "Agent": "agent",
    "ParseError": "errors",
    "Policy": "policy",
    "Screen": "screen",
    "Strategy": "strategy",
    "UIActionPipeline": "pipeline_ui_action",
    "parse_response": "parser",
}

__all__ = ["Action", "Agent", "ParseError", "Policy", "Screen", "Strategy", "UIActionPipeline", "parse_response"]


def __getattr__(name: str) -> object:
    """Import on first use, so that listing plugins costs no torch."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
