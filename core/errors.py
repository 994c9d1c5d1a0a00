"""The errors that Quartet raises on purpose: what was wrong, what is allowed, what to do next."""


class QuartetError(Exception):
    """Any error whose message is written for the person at the page or the command line."""


class InputError(QuartetError, ValueError):
    """The input is not usable as it is."""


class LimitError(InputError):
    """The input, or the queue, is larger than this server allows."""


class UnavailableError(QuartetError):
    """Something is not installed here, or a plugin failed to import.

    `reason` says what is missing, `how_to_fix` what to do about it; the message is both.
    """

    def __init__(self, reason: str, how_to_fix: str = "") -> None:
        super().__init__(f"{reason} {how_to_fix}".strip())
        self.reason = reason
        self.how_to_fix = how_to_fix
