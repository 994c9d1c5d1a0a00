"""The benchmark's report as a table and as a plot, for people and for the model card."""

from __future__ import annotations

from html import escape
from typing import Any

HEAD = (
    "tokens x heads x dim",
    "attention",
    "density",
    "ms",
    "speed-up [range]",
    "of ideal",
    "beside the kernel",
    "peak memory",
    "error",
    "rounds",
)
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2")
WIDTH, HEIGHT, MARGIN = 640, 400, 56


def to_markdown(report: dict[str, Any]) -> str:
    """Machine, table, what is judged."""
    machine = report["machine"]
    lines = [
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, {report['dtype']}, "
        f"matrix product {report['matrix_gflops']:.0f} GFLOP/s, load {machine['load']}, {machine['date']}",
        "",
        f"Executor: {report['executor']['name']} ({report['executor']['reason']})",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * 2 + "---:|" * (len(HEAD) - 2),
        *("| " + " | ".join(_cells(row)) + " |" for row in report["rows"]),
        "",
        "Speed-up: over dense attention in the same round, median and range of the rounds. Of ideal: speed-up times "
        "density. Beside the kernel: share of the call spent on reordering, selection and correction. Peak memory: "
        "over that of dense attention, on a CPU with process and inputs. Error: relative L2 against dense attention.",
        "",
    ]
    lines += [f"- {note}" for note in report["notes"]]
    lines += [f"- {'met' if bar['met'] else 'MISSED'}: {bar['text']}" for bar in report["bars"]]
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    memory = row["memory_ratio"]
    return (
        row["case"],
        row["method"],
        number(row["density"], ".3f"),
        number(1e3 * row["seconds"], ".1f"),
        f"{row['speed_up']:.2f} [{row['speed_up_low']:.2f}, {row['speed_up_high']:.2f}]",
        number(row["ideal_share"], ".0%"),
        number(row["overhead"], ".1%"),
        "" if memory is None else f"{memory:.2f}x",
        number(row["error"], ".4f"),
        str(row["rounds"]),
    )


def to_svg(report: dict[str, Any], tokens: int) -> str:
    """Speed-up over density at one length, a line per method and head size, and the ideal 1 / density."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in report["rows"]:
        if row["tokens"] == tokens and row["in_plot"]:
            name = f"{row['method']}, head size {row['head_dim']}"
            series.setdefault(name, []).append((row["density"], row["speed_up"]))
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    top = max([speed for _, speed in points] + [1 / density for density, _ in points]) * 1.1
    left = min(density for density, _ in points) * 0.9
    ideal = [(x / 100, 100 / x) for x in range(max(1, int(100 * max(left, 1 / top)) + 1), 101)]

    def place(density: float, speed: float) -> tuple[float, float]:
        x = MARGIN + (density - left) / (1 - left) * (WIDTH - 2 * MARGIN)
        return x, HEIGHT - MARGIN - speed / top * (HEIGHT - 2 * MARGIN)

    body = [_line([place(*point) for point in ideal], "#6b7280", dashed=True), *_axes(place, left, top)]
    names = [("1 / density", "#6b7280")]
    for (name, line), colour in zip(series.items(), COLOURS * 9, strict=False):
        where = [place(*point) for point in sorted(line)]
        body += [
            _line(where, colour),
            *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in where),
        ]
        names.append((name, colour))
    for place_, (name, colour) in enumerate(names):
        y = MARGIN + 18 * place_
        body.append(f'<text x="{WIDTH - MARGIN}" y="{y}" fill="{colour}" text-anchor="end">{escape(name)}</text>')
    title = f"Speed-up over dense attention, {tokens:,} tokens, {report['machine']['device']}"
    body.append(f'<text x="{WIDTH / 2}" y="24" text-anchor="middle" font-weight="bold">{escape(title)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{escape(title)}"><rect width="100%" height="100%" fill="white"/>'
        + "".join(body)
        + "</svg>\n"
    )


def _line(points: list[tuple[float, float]], colour: str, *, dashed: bool = False) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'


def _axes(place: Any, left: float, top: float) -> list[str]:
    step = max(1, round(top / 6))
    ticks = []
    for speed in range(0, int(top) + 1, step):
        x, y = place(left, speed)
        ticks.append(f'<line x1="{x}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        ticks.append(f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{speed}x</text>')
    for density in (0.125, 0.25, 0.5, 0.75, 1.0):
        if density >= left:
            x, y = place(density, 0)
            ticks.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{density:g}</text>')
    ticks.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">share of key blocks really computed</text>'
    )
    return ticks
