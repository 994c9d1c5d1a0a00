"""`python -m apps.sparse_video`: this page as an app of its own."""

from apps.shell import launch_page

launch_page("sparse-video")
