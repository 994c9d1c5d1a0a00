"""Executors of block-sparse attention, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

from ..errors import SparseVideoInputError
from .base import Executor


def _reference() -> Executor:
    from .reference import ReferenceExecutor

    return ReferenceExecutor()


def _gather() -> Executor:
    from .gather import GatherExecutor

    return GatherExecutor()


def _flex() -> Executor:
    from .flex import FlexExecutor

    return FlexExecutor()


def _xformers() -> Executor:
    from .xformers_paged import XformersExecutor

    return XformersExecutor()


# A kernel of our own (Triton) is one more line here and one more module beside these.
_BUILDERS: dict[str, Callable[[], Executor]] = {
    "reference": _reference,
    "gather": _gather,
    "flex": _flex,
    "xformers": _xformers,
}


@cache
def get_executor(name: str) -> Executor:
    """The executor of this name; its module is imported only now.

    Raises:
        SparseVideoInputError: there is no executor of this name.
    """
    if name not in _BUILDERS:
        allowed = ", ".join(map(repr, ("auto", *_BUILDERS)))
        raise SparseVideoInputError(f"executor is {name!r}; it is one of {allowed}")
    return _BUILDERS[name]()


class _LazyExecutors(Mapping[str, Executor]):
    """All executors by name; each is built when it is first looked up."""

    def __getitem__(self, name: str) -> Executor:
        if name not in _BUILDERS:
            raise KeyError(name)
        return get_executor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_BUILDERS)

    def __len__(self) -> int:
        return len(_BUILDERS)


EXECUTORS: Mapping[str, Executor] = _LazyExecutors()

__all__ = ["EXECUTORS", "Executor", "get_executor"]
