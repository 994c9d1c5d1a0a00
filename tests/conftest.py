"""What every test runs under: sleeping OpenMP threads, and no deadline on a shared machine."""

from __future__ import annotations

import os
import tempfile

from hypothesis import settings

# Before any test imports torch, which reads it once.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Jobs of the tests are kept apart from those of the person who runs them, and go with the session.
_data = tempfile.TemporaryDirectory(prefix="quartet-tests-", ignore_cleanup_errors=True)
os.environ["QUARTET_DATA_DIR"] = _data.name

# Hypothesis' deadline is wall time for one example; two busy cores break it without a defect.
settings.register_profile("quartet", deadline=None, print_blob=True)
settings.load_profile("quartet")
