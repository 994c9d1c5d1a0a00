"""Whether the server has finished starting: what `/readyz` answers, beside `/healthz`, which says that it is alive."""

from __future__ import annotations

import logging
import threading

from core.errors import QuartetError
from core.registry import default_cache

logger = logging.getLogger(__name__)


class Startup:
    """Makes the process's cache of pipelines, which loads every technique where QUARTET_LOAD_POLICY is "eager"."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._failure: str | None = None

    def run(self) -> None:
        """Load what has to be there before the first visitor; a failure is kept for `answer` and logged."""
        try:
            default_cache()
        except QuartetError as error:
            self._failure = str(error)
            logger.error("start-up failed: %s", error)
        except Exception as error:
            self._failure = f"{type(error).__name__}: the server's log has the details."
            logger.exception("start-up failed")
        finally:
            self._over.set()

    def run_beside(self) -> None:
        """The same on a thread of its own, so that pages open meanwhile."""
        threading.Thread(target=self.run, name="quartet-startup", daemon=True).start()

    def answer(self) -> tuple[int, dict[str, object]]:
        """HTTP status and body: 200 once start-up is over, 503 before and where it failed.

        `status` is "ready", "starting" or "failed", with the `reason`; `loaded` are the techniques in memory.
        """
        if not self._over.is_set():
            return 503, {"status": "starting", "loaded": []}
        if self._failure is not None:
            return 503, {"status": "failed", "reason": self._failure, "loaded": []}
        kept = default_cache()
        return 200, {"status": "ready", "policy": kept.policy, "loaded": list(kept.loaded())}
