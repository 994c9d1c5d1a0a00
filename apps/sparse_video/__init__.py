"""The sparse video page."""

from apps.sparse_video.page import build_page

__all__ = ["build_page"]
