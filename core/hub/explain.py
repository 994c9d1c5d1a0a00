"""What went wrong at the Hub while publishing, in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from core.errors import InputError, QuartetError, UnavailableError

_AGAIN = "Nothing is half published: run the same command again."


@contextlib.contextmanager
def explained(repo_id: str, kind: str) -> Generator[None]:
    """Errors of the Hub and of the network within this block become errors of Quartet."""
    try:
        yield
    except QuartetError:
        raise
    except Exception as error:
        raise explain(error, repo_id, kind) from error


def explain(error: BaseException, repo_id: str, kind: str) -> BaseException:
    """The error in our words; one that is not the Hub's or the network's is given back as it is."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return _by_status(error, repo_id, kind)
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # an upload's, around what went wrong
        found = explain(error.__cause__, repo_id, kind)
        return error if found is error.__cause__ else found
    if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
        return UnavailableError(
            f"The connection to the Hub broke while {repo_id} was pushed ({type(error).__name__}).", _AGAIN
        )
    if isinstance(error, ValueError) and "README.md" in str(error):
        return InputError(f"The Hub refuses the card of {repo_id}: {' '.join(str(error).split())}")
    return error


def _by_status(error: BaseException, repo_id: str, kind: str) -> QuartetError:
    from huggingface_hub import errors

    assert isinstance(error, errors.HfHubHTTPError)
    status = error.response.status_code
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"The Hub has no {kind} {repo_id!r} that this token can see: check the name, and that the token may read "
            "and write there."
        )
    if status == 401:
        return UnavailableError(
            "The Hub does not know this token.", "Run 'hf auth login', or set HF_TOKEN to one that is valid."
        )
    if status == 403:
        return UnavailableError(
            f"This token may not write to {repo_id}.",
            "Use a token with the right to write there, or push to a name of your own.",
        )
    if status == 402:
        return UnavailableError(
            f"The Hub asks for a subscription for {repo_id}.", "See https://huggingface.co/pricing, or choose another."
        )
    if status == 409:
        return InputError(f"{repo_id} has that tag or name already: choose another.")
    if status == 412:
        return UnavailableError(f"Somebody else changed {repo_id} meanwhile.", "Look at it, then push again.")
    said = " ".join(str(error).split())[:300]
    return UnavailableError(f"The Hub answered {status} while {repo_id} was pushed ({said}).", _AGAIN)
