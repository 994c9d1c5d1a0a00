"""The tracking page."""

from apps.tracking.page import build_page

__all__ = ["build_page"]
