"""`python -m apps.tracking`: this page as an app of its own."""

from apps.shell import launch_page

launch_page("tracking")
