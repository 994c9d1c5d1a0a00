"""`python -m plugins.ui_action`."""

from .cli import app

if __name__ == "__main__":
    app(prog_name="python -m plugins.ui_action")
