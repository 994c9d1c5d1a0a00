"""`python -m apps.ui_action`: this page as an app of its own."""

from apps.shell import launch_page

launch_page("ui-action")
