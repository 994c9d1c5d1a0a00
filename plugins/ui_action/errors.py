"""Errors of the UI action plugin."""


class UIActionInputError(ValueError):
    """Bad input; the message says what was wrong, what is allowed and what to do next."""


class ParseError(UIActionInputError):
    """A model's output that is no action; nothing of it is carried out.

    Attributes:
        code: what is wrong, one of `CODES`.
    """

    CODES = (
        "no_action",
        "unknown_action",
        "missing_argument",
        "bad_argument",
        "bad_coordinates",
        "out_of_bounds",
        "too_many_keys",
        "bad_syntax",
    )

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConfigError(UIActionInputError):
    """Two parts disagree on the size or space of coordinates: going on would click the wrong place."""
