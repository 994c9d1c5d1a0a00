"""Errors of the tracking plugin."""


class TrackingError(ValueError):
    """Bad input; the message says what was wrong, what is allowed and what to do next."""
