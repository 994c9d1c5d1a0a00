import pickle

from core.errors import InputError, LimitError, QuartetError, UnavailableError


def test_bad_input_can_be_caught_as_a_value_error_and_as_ours():
    assert issubclass(InputError, ValueError)
    assert issubclass(LimitError, InputError)
    assert issubclass(LimitError, QuartetError)


def test_unavailable_says_why_and_what_to_do():
    error = UnavailableError("xformers is not installed.", "pip install xformers")
    assert str(error) == "xformers is not installed. pip install xformers"


def test_unavailable_survives_the_way_back_from_another_process():
    error = pickle.loads(pickle.dumps(UnavailableError("Gone.", "Bring it back.")))  # noqa: S301
    assert (str(error), error.reason, error.how_to_fix) == ("Gone. Bring it back.", "Gone.", "Bring it back.")
