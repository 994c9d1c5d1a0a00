"""How much of what a stream says is left after quantising."""

from __future__ import annotations

from .estimation import Estimates
from .fitting import Fitted
from .probes import CrossFit
from .report import StreamReading

KEPT_TOO_LITTLE = 0.7  # of what the probe reads


def readings_of(fitted: Fitted, estimates: Estimates) -> tuple[StreamReading, StreamReading]:
    """What each stream's probe reads, beside what its codes keep."""
    first, second = (
        _reading(kind, probe, quantiser.symbols, estimates.quantities[f"information_{i + 1}"].value)
        for i, (kind, probe, quantiser) in enumerate(
            zip(fitted.kinds, fitted.probes, fitted.discretiser.quantisers, strict=True)
        )
    )
    return first, second


def quantiser_warnings(names: tuple[str, str], readings: tuple[StreamReading, ...]) -> tuple[str, ...]:
    """A sentence for each stream whose codes keep too little."""
    return tuple(
        f"the {reading.quantiser} codes of {name} keep {max(reading.retained, 0):.0%} of what a linear probe reads "
        f"({reading.usable_information:.3f} bits): choose the posterior quantiser"
        for name, reading in zip(names, readings, strict=False)
        if reading.retained is not None and reading.retained < KEPT_TOO_LITTLE
    )


def _reading(kind: str, probe: CrossFit, symbols: int, binned: float) -> StreamReading:
    readable = probe.usable_information > max(0.02, 2 * probe.standard_error)
    return StreamReading(
        quantiser=kind,
        symbols=symbols,
        usable_information=probe.usable_information,
        standard_error=probe.standard_error,
        binned_information=binned,
        retained=binned / probe.usable_information if readable else None,
        accuracy=probe.accuracy,
    )
