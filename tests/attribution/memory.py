"""A bound on what a block of code may allocate."""

from __future__ import annotations

import tracemalloc
from collections.abc import Generator
from contextlib import contextmanager

import pyarrow as pa

MEGABYTE = 2**20


@contextmanager
def memory_under(megabytes: int) -> Generator[None]:
    """What the block allocates, in Python, numpy and Arrow, stays under this."""
    pool = pa.default_memory_pool()
    before = pool.max_memory()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * MEGABYTE
        assert pool.max_memory() - before < megabytes * MEGABYTE
    finally:
        tracemalloc.stop()
