"""Errors of the sparse-video plugin."""


class SparseVideoInputError(ValueError):
    """Bad input; the message says what was wrong, what is allowed and what to do next."""
