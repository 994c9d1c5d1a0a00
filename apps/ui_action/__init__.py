"""The UI action page."""

from apps.ui_action.page import build_page

__all__ = ["build_page"]
