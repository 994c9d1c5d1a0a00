"""What a comparison looks like: cards, tables and maps. Every value in HTML is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from apps.components import note, readout, table
from apps.sparse_video.player import NAMES
from core.cost import SavedCost, cost_of

FASTER, SLOWER = 1.03, 0.97  # ratios between these are noise
MOST_LAYERS = 8  # whose maps are drawn
MINUTES_PER_HOUR = 60
Row = Mapping[str, Any]


def words_table(words: Mapping[str, Sequence[str]]) -> str:
    """The model's vocabulary."""
    rows = "".join(
        f"<div><dt>{escape(kind)}</dt><dd>{escape(', '.join(known))}</dd></div>" for kind, known in words.items()
    )
    return f'<dl class="words" aria-label="Words that the small model knows">{rows}</dl>'


def verdict_cards(result: Mapping[str, Any], price: float | None) -> str:
    """One card for each sparse kind of attention: faster or not, how close, what it saves."""
    rows = result["rows"]
    dense = _dense(rows)
    cards = [_card(row, dense, rows, price) for row in rows if row is not dense]
    return f'<div class="verdicts">{"".join(cards)}</div>'


def _card(row: Row, dense: Row | None, rows: Sequence[Row], price: float | None) -> str:
    tone, title = _decision(row)
    facts = {"Seconds per step": _against(row, dense, "seconds_per_step", "{:.2f}")}
    if dense is not None:
        facts["PSNR against dense"] = _psnr(row)
        facts["SSIM"] = f"{row['ssim']:.3f}"
    facts["Blocks computed"] = _blocks(row)
    if dense is not None and price is not None:
        saved = _saved(row, dense, price).over(MINUTES_PER_HOUR)
        facts["Saved per hour of video" if saved >= 0 else "Extra per hour of video"] = _dollars(abs(saved))
    return (
        f'<article class="verdict verdict-{tone}"><h3>{escape(_name(row))}</h3>'
        f'<p class="decision">{escape(title)}</p><p>{escape(_reason(row, dense, rows))}</p>'
        f"{readout(facts, label=f'Figures of {_name(row)}')}</article>"
    )


def _decision(row: Row) -> tuple[str, str]:
    ratio = row["denoise_ratio"]
    if ratio is None:
        return "open", f"{row['denoise_seconds']:.1f} s"
    if ratio >= FASTER:
        return "good", f"{ratio:.2f} × as fast as dense"
    if ratio > SLOWER:
        return "spare", "As fast as dense"
    return "drop", f"Slower than dense: {ratio:.2f} ×"


def _reason(row: Row, dense: Row | None, rows: Sequence[Row]) -> str:
    if dense is None:
        return "Dense was not chosen, so there is nothing to measure speed and fidelity against."
    times = f"Denoising took {row['denoise_seconds']:.1f} s, dense {dense['denoise_seconds']:.1f} s, in the same run."
    if row["denoise_ratio"] <= SLOWER:
        times += " A clip this small leaves attention little to save; it pays with more tokens."
    plain = next((other for other in rows if other["method"] == "sparse"), None)
    if row["method"] in ("rectified", "centroid") and plain and None not in (plain["psnr"], row["psnr"]):
        gain = row["psnr"] - plain["psnr"]
        side = "closer to" if gain > 0 else "further from"
        close = f"{abs(gain):.1f} dB {side} dense than" if abs(gain) >= 0.05 else "as close to dense as"
        times += f" It is {close} plain sparse."
    if row["method"] == "centroid":
        times += " Beyond the paper."
    return times


def cost_table(result: Mapping[str, Any], price: float | None) -> str:
    """Seconds and dollars per minute of video, and what an hour of it would save."""
    rows, dense = result["rows"], _dense(result["rows"])
    cells = []
    for row in rows:
        seconds = row["seconds_per_minute"]
        dollars = "–" if price is None else _dollars(cost_of(seconds, price))
        saved = "–"
        if price is not None and dense is not None and row is not dense:
            amount = _saved(row, dense, price)
            saved = f"{_signed_dollars(amount.over(MINUTES_PER_HOUR))} ({100 * (amount.fraction or 0):.0f} %)".replace(
                "(-", "(−"
            )
        cells.append((_name(row), f"{seconds:,.0f}", _ratio(row["ratio"]), dollars, saved))
    headings = (
        "Attention",
        "Seconds per minute of video",
        "Dense over this",
        "$ per minute of video",
        "Saved per hour",
    )
    return table(headings, cells, label="Cost per minute of video") + (
        '<p class="quiet">From the whole call measured above: text, denoising and decoding of this clip, on this '
        "machine, scaled to a minute of video; loading, warming up and the live preview left out.</p>"
    )


def time_table(result: Mapping[str, Any]) -> str:
    """Time by stage, memory, and what computed it."""
    cells = []
    for row, clip in zip(result["rows"], result["clips"], strict=True):
        timings = clip["run"]["timings"]
        memory = row["peak_memory_bytes"]
        cells.append(
            (
                _name(row),
                f"{row['seconds_per_step']:.2f} s",
                f"{timings['denoise']:.2f} s",
                f"{timings['decode']:.2f} s",
                f"{row['seconds']:.2f} s",
                _ratio(row["denoise_ratio"]),
                "–" if memory is None else f"{memory / 2**20:,.0f} MB",
                _blocks(row),
                row["executor"],
            )
        )
    headings = ("Attention", "Per step", "Denoising", "Decoding", "Total", "Dense over this", "Peak memory")
    return table((*headings, "Blocks computed", "Executor"), cells, label="Time and memory") + _memory_note(result)


def _memory_note(result: Mapping[str, Any]) -> str:
    text = "Ratios are of denoising time."
    if not result["clips"][0]["run"]["device"].startswith("cuda"):
        text += " Peak memory is that of the whole process, this app and the model included."
    if any(row["density"] > row["density_asked"] + 0.02 for row in result["rows"]):
        text += " More blocks are computed than asked for: neighbours are always kept, or some calls were dense."
    return f'<p class="quiet">{text}</p>'


def fidelity_table(result: Mapping[str, Any]) -> str:
    """How far each clip is from the dense one of the same seed."""
    cells = []
    for row, clip in zip(result["rows"], result["clips"], strict=True):
        if clip["psnr_per_frame"] is None:
            continue
        known = [value for value in clip["psnr_per_frame"] if value is not None]
        worst = f"{min(known):.1f} dB" if known else "identical"
        cells.append((_name(row), _psnr(row), worst, f"{row['ssim']:.4f}"))
    if not cells:
        return '<p class="quiet">Choose dense too, and the other clips are measured against it.</p>'
    return table(("Attention", "PSNR", "Worst frame", "SSIM"), cells, label="Fidelity against dense")


def maps_grid(inside: Mapping[str, Any] | None) -> str:
    """Which key blocks each query block attends to: one small picture for each layer and head."""
    if inside is None:
        return '<p class="quiet">Attention was dense throughout, so there are no blocks to show.</p>'
    layers = _some(inside["layers"])
    heads = len(layers[0]["maps"])
    cells = ["<span></span>", *(f'<span class="column">Head {head + 1}</span>' for head in range(heads))]
    for row in layers:
        cells.append(f'<span class="row">Layer {row["layer"] + 1}</span>')
        for head, (picture, density, recall) in enumerate(
            zip(row["maps"], row["densities"], row["recall"], strict=True), start=1
        ):
            alt = f"Layer {row['layer'] + 1}, head {head}: {_percent(density)} of the blocks, recall {_percent(recall)}"
            cells.append(
                f'<figure><img src="{escape(picture)}" alt="{escape(alt)}">'
                f"<figcaption>{_percent(recall)}</figcaption></figure>"
            )
    shown = "" if len(layers) == len(inside["layers"]) else f" {len(layers)} of {len(inside['layers'])} layers."
    return (
        f'<div class="maps" style="grid-template-columns:auto repeat({heads}, minmax(0, 1fr))">{"".join(cells)}</div>'
        f'<p class="quiet">Step {inside["step"] + 1} of {inside["of"]}, {escape(inside["variant"])}, looked at after '
        "the timed runs. Rows are blocks of queries, columns blocks of keys, in the order of a curve through the "
        f"clip; coloured blocks are computed. Below each map: the attention mass that they hold, estimated.{shown}</p>"
    )


def recall_table(inside: Mapping[str, Any] | None) -> str:
    """The maps in figures."""
    if inside is None:
        return ""
    heads = len(inside["layers"][0]["recall"])
    headings = ("Layer", "Blocks", *(f"Head {head + 1}" for head in range(heads)), "Factor R", "Added back")
    cells = [
        (
            str(row["layer"] + 1),
            _percent(row["density"]),
            *(f"{recall:.3f}" for recall in row["recall"]),
            f"{row['rectification_factor']:.3f}",
            _percent(row["compensated_share"]),
        )
        for row in inside["layers"]
    ]
    return table(headings, cells, label="Recall per layer and head") + (
        '<p class="quiet">Per head: recall, the attention mass on the blocks kept, estimated. Factor R: weight of the '
        "exactly computed part after correction. Added back: attention mass returned in pooled form.</p>"
    )


def error_table(inside: Mapping[str, Any] | None) -> str:
    """Relative error of the attention's output, layer by layer."""
    if inside is None:
        return ""
    methods = list(inside["layers"][0]["errors"])
    cells = [
        (str(row["layer"] + 1), *(f"{100 * row['errors'][method]:.2f} %" for method in methods))
        for row in inside["layers"]
    ]
    return table(("Layer", *(NAMES[method] for method in methods)), cells, label="Error of the attention") + (
        '<p class="quiet">|sparse − dense| / |dense| of one attention call, the same queries, keys, values and blocks '
        f"for each, at step {inside['step'] + 1} of {inside['of']}. Centroid is beyond the paper. {_closer(inside)}</p>"
    )


def _closer(inside: Mapping[str, Any]) -> str:
    better = sum(row["errors"]["rectified"] < row["errors"]["sparse"] for row in inside["layers"])
    return f"Rectified is closer to dense than plain sparse in {better} of {len(inside['layers'])} layers."


def caption(result: Mapping[str, Any]) -> str:
    """The figures without which no other should be read."""
    runs = [clip["run"] for clip in result["clips"]]
    first, asked = runs[0], runs[0]["params"]
    sparse = next((run for run in runs if run["executor"]), None)
    values = {
        "Clip": f"{asked['num_frames']} frames of {asked['height']} × {asked['width']} at {first['fps']:g} fps",
        "Tokens": f"{first['tokens']:,} ({' × '.join(map(str, first['grid']))})",
        "Steps": str(asked["num_inference_steps"]),
        "Seed": str(first["seed"]),
        "Device": f"{first['device']}, {first['dtype']}",
        "Dense attention": f"{first['attention']['backend']}: {first['attention']['reason']}",
    }
    if sparse is not None:
        values["Sparse attention"] = f"{sparse['executor']['name']}: {sparse['executor']['reason']}"
    notes = "".join(note(warning) for warning in result["warnings"])
    return notes + _fallbacks(runs) + readout(values, label="How this was measured")


def _fallbacks(runs: Sequence[Mapping[str, Any]]) -> str:
    """Why some or all of a sparse run was dense, in the plugin's own words."""
    found: dict[str, int] = {}
    for run in runs:
        for reason, count in (run["attention_stats"] or {}).get("fallbacks", {}).items():
            found[reason] = max(found.get(reason, 0), count)
    return "".join(note(f"{count} attention calls of a sparse clip were dense: {why}") for why, count in found.items())


def _dense(rows: Sequence[Row]) -> Row | None:
    return rows[0] if rows[0]["method"] == "dense" else None


def _name(row: Row) -> str:
    return NAMES[row["method"]]


def _saved(row: Row, dense: Row, price: float) -> SavedCost:
    return SavedCost(*(cost_of(each["seconds_per_minute"], price) for each in (dense, row)))


def _against(row: Row, dense: Row | None, field: str, form: str) -> str:
    own = form.format(row[field])
    return own if dense is None else f"{own}, dense {form.format(dense[field])}"


def _psnr(row: Row) -> str:
    return "identical" if row["psnr"] is None else f"{row['psnr']:.1f} dB"


def _blocks(row: Row) -> str:
    if row["method"] == "dense":
        return "all"
    return f"{_percent(row['density'])} (asked {_percent(row['density_asked'])})"


def _ratio(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f} ×"


def _percent(share: float) -> str:
    text = f"{100 * share:.1f}".removesuffix(".0")
    return f"{text} %"


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.4f}"


def _signed_dollars(amount: float) -> str:
    return ("−" if amount < 0 else "") + _dollars(abs(amount))


def _some(layers: Sequence[Any]) -> list[Any]:
    """At most MOST_LAYERS of them, spread evenly."""
    if len(layers) <= MOST_LAYERS:
        return list(layers)
    return [layers[round(place * (len(layers) - 1) / (MOST_LAYERS - 1))] for place in range(MOST_LAYERS)]
