"""The attribution page."""

from apps.attribution.page import build_page

__all__ = ["build_page"]
