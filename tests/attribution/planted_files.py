"""Generated examples as files: parquet, as `datasets` writes images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd

from plugins.attribution.planted import MIXTURES, generate


def planted_rows(mixture: str, seed: int, count: int) -> list[dict[str, Any]]:
    """Rows with encoded images."""
    return [row | {"image": {"bytes": _png(row["image"])}} for row in generate(MIXTURES[mixture], seed, count).rows()]


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path, index=False)
    return path


def _png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
