"""`python -m core.hub`."""

from core.hub.cli import app

if __name__ == "__main__":
    app(prog_name="python -m core.hub")
