"""Errors of the attribution plugin."""


class AttributionInputError(ValueError):
    """Bad input; the message says what was wrong, what is allowed and what to do next."""
