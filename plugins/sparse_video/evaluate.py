"""Evaluation of the small checkpoint: prompt fidelity, and how far sparse attention is from dense.

Prompts come from scenes that training has never seen: seeds below TRAINING_SEEDS, and combinations of colour, shape and
motion that are held out. Attention is compared on the query, key and value of the model's own forward passes.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any

import numpy as np
import typer

from core.jsonfile import write_json
from core.runs import collect_versions
from core.seeds import seed_range

from .checker import Verdict, check_clip, summarise
from .compare import METHODS, RECTIFY, Variant, attention_errors
from .errors import SparseVideoInputError
from .evaluate_passes import BLOCK_SIZES, evaluate_passes
from .evaluate_passes import as_markdown as passes_as_markdown
from .metrics import psnr, ssim
from .scenes import Scene, describe, render, sample_scene
from .train import TRAINING_SEEDS

CHECKPOINT = "hub_cards/sparse-video-tiny"
ATTENTION_DENSITIES = (0.25, 0.125)


def evaluate_command(
    seeds: Annotated[str, typer.Option(help="Prompts and noise of seeds A to B - 1, as A:B.")] = "0:16",
    checkpoint: Annotated[str, typer.Option(help="Folder or Hub id.")] = CHECKPOINT,
    density: Annotated[float, typer.Option(help="Share of key blocks to keep in the sparse clips.")] = 0.25,
    methods: Annotated[
        str, typer.Option(help="Of dense, sparse, rectified, centroid; dense is always made.")
    ] = ",".join(METHODS),
    steps: Annotated[int | None, typer.Option(help="Denoising steps; none: the checkpoint's own.")] = None,
    captured: Annotated[int, typer.Option(help="Prompts on which every attention call is compared; 0: none.")] = 1,
    passes: Annotated[
        int, typer.Option(help="Prompts on which every pass is compared, by block size; minutes each.")
    ] = 0,
    json: Annotated[Path | None, typer.Option(help="Write the figures here too.")] = None,
) -> None:
    """Prompt fidelity, and error against dense, on prompts that training has never seen."""
    from .pipeline import SparseVideoPipeline

    chosen = ["dense", *(name.strip() for name in methods.split(",") if name.strip() not in ("", "dense"))]
    if unknown := [name for name in chosen[1:] if name not in METHODS]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(METHODS)}.", param_hint="--methods")
    numbers = seed_range(seeds, SparseVideoInputError, trained=range(TRAINING_SEEDS, sys.maxsize))
    pipeline = SparseVideoPipeline.from_pretrained(checkpoint)
    report: dict[str, Any] = {
        "checkpoint": checkpoint,
        "seeds": seeds,
        "density": density,
        "steps": steps or pipeline.default("num_inference_steps"),
        "date": date.today().isoformat(),
        "versions": collect_versions(),
    }

    def keep(part: dict[str, Any]) -> None:
        """Each part is written as it is done: the clips alone take a quarter of an hour."""
        report.update(part)
        if json is not None:
            write_json(json, report)

    keep(evaluate_clips(pipeline, numbers, chosen, density=density, steps=steps))
    if captured:
        keep({"attention": evaluate_attention(pipeline, numbers[:captured], steps=steps)})
    if passes:
        prompts = {seed: describe(held_out_scene(pipeline, seed)) for seed in numbers[:passes]}
        found = evaluate_passes(pipeline, prompts, density=density, steps=steps, block_sizes=BLOCK_SIZES)
        keep({"passes": found})
    typer.echo(as_markdown(report))


def held_out_scene(pipeline: Any, seed: int) -> Scene:
    """The scene of a seed, of combinations that training never saw, at the checkpoint's own size."""
    size = {
        "frames": pipeline.default("num_frames"),
        "height": pipeline.default("height"),
        "width": pipeline.default("width"),
    }
    return sample_scene(seed, **size, held_out=True, shapes=1 if seed % 2 == 0 else 2 + seed // 2 % 2)


def evaluate_clips(
    pipeline: Any, seeds: Sequence[int], methods: Sequence[str], *, density: float, steps: int | None
) -> dict[str, Any]:
    """Fidelity per method, and PSNR and SSIM of each method's clip against the dense one of the same seed."""
    verdicts: dict[str, list[Verdict]] = {name: [] for name in ("rendered", *methods)}
    distance: dict[str, list[dict[str, float]]] = {name: [] for name in methods if name != "dense"}
    clips = []
    for seed in seeds:
        scene = held_out_scene(pipeline, seed)
        prompt = describe(scene)
        frames: dict[str, np.ndarray] = {}
        for name in methods:
            typer.echo(f"seed {seed}, {name}: {prompt}", err=True)
            frames[name] = pipeline(
                prompt, seed=seed, num_inference_steps=steps, **_variant(name, density).arguments(pipeline)
            ).frames[0]
            verdicts[name] += check_clip(frames[name], prompt)
            if name != "dense":
                distance[name].append(
                    {"psnr": psnr(frames[name], frames["dense"]), "ssim": ssim(frames[name], frames["dense"])}
                )
        shape = {"frames": len(frames["dense"]), "height": frames["dense"].shape[1], "width": frames["dense"].shape[2]}
        verdicts["rendered"] += check_clip(render(scene, **shape), prompt)
        clips.append({"seed": seed, "prompt": prompt} | {name: rows[-1] for name, rows in distance.items()})
    report: dict[str, Any] = {
        "fidelity": {name: summarise(rows) for name, rows in verdicts.items()},
        "against_dense": {
            name: {measure: fmean(row[measure] for row in rows) for measure in ("psnr", "ssim")}
            | changed(verdicts["dense"], verdicts[name])
            for name, rows in distance.items()
        },
        "clips": clips,
    }
    if "sparse" in distance:
        for name in distance.keys() - {"sparse"}:
            better = [
                own["psnr"] > plain["psnr"] for own, plain in zip(distance[name], distance["sparse"], strict=True)
            ]
            report["against_dense"][name]["better_than_sparse"] = sum(better)
    return report


def changed(dense: Sequence[Verdict], own: Sequence[Verdict]) -> dict[str, int]:
    """Of the same shapes, how many are right (in colour, shape and motion) only with dense, and only without."""
    pairs = [(ours.right, theirs.right) for ours, theirs in zip(own, dense, strict=True)]
    return {"shapes_lost": pairs.count((False, True)), "shapes_gained": pairs.count((True, False))}


def _variant(method: str, density: float) -> Variant:
    return Variant(method) if method == "dense" else Variant(method, density)


@dataclass(frozen=True)
class AttentionError:
    """One attention call: relative L2 errors of the output against dense attention, on the same mask."""

    layer: int
    step: int
    density: float
    sparse: float
    rectified: float
    centroid: float


def evaluate_attention(pipeline: Any, seeds: Sequence[int], *, steps: int | None) -> dict[str, Any]:
    """Errors on the query, key and value of every attention call of a dense run, summed up per density."""
    errors: list[AttentionError] = []
    config = pipeline.attention_config()
    for seed in seeds:
        prompt = describe(held_out_scene(pipeline, seed))
        typer.echo(f"seed {seed}, every attention call: {prompt}", err=True)

        def compare(layer: int, step: int, query: Any, key: Any, value: Any, _: Any) -> None:
            grid = pipeline.geometry.grid(
                pipeline.default("num_frames"), pipeline.default("height"), pipeline.default("width")
            )
            for density in ATTENTION_DENSITIES:
                found = attention_errors(query, key, value, config.replace(density=density), grid)
                errors.append(AttentionError(layer, step, density, **found))

        pipeline(
            prompt,
            seed=seed,
            num_inference_steps=steps,
            attention="rectified",
            density=1.0,
            output_type="latent",
            on_handle=lambda handle, compare=compare: handle.on_attention(compare),
        )
    return {
        "per_density": [_summary(errors, density) for density in ATTENTION_DENSITIES],
        "calls": list(map(asdict, errors)),
    }


def _summary(errors: list[AttentionError], density: float) -> dict[str, float]:
    rows = [error for error in errors if error.density == density]
    pairs = [
        (
            fmean(row.rectified for row in group),
            fmean(row.sparse for row in group),
            fmean(row.centroid for row in group),
        )
        for _, group in _by_layer_and_step(rows)
    ]
    return {
        "density": density,
        "pairs": len(pairs),
        "rectified_below_sparse": fmean(rectified < sparse for rectified, sparse, _ in pairs),
        "centroid_below_sparse": fmean(centroid < sparse for _, sparse, centroid in pairs),
    } | {f"median_{name}": median(getattr(row, name) for row in rows) for name in RECTIFY}


def _by_layer_and_step(rows: list[AttentionError]) -> Iterator[tuple[tuple[int, int], list[AttentionError]]]:
    def place(row: AttentionError) -> tuple[int, int]:
        return row.layer, row.step

    for key, group in itertools.groupby(sorted(rows, key=place), place):
        yield key, list(group)


def as_markdown(report: dict[str, Any]) -> str:
    """The tables of the card."""
    count = len(report["clips"])
    lines = [
        f"Prompt fidelity over {count} held-out prompts ({report['steps']} steps, density {report['density']:g}):",
        "",
        "| clips | colour | shape | motion | direction | all three |",
        "|---|---|---|---|---|---|",
    ]
    names = {"rendered": "rendered truth (the checker's ceiling)"}
    for name, shares in report["fidelity"].items():
        cells = (shares[part] for part in ("colour", "shape", "motion", "direction", "fidelity"))
        lines.append(f"| {names.get(name, name)} | " + " | ".join(f"{100 * cell:.0f} %" for cell in cells) + " |")
    if report["against_dense"]:
        lines += [
            "",
            "| against dense | PSNR (dB) | SSIM | PSNR above plain sparse | shapes lost | gained |",
            "|---|---|---|---|---|---|",
        ]
        for name, row in report["against_dense"].items():
            wins = f"{row['better_than_sparse']} of {count}" if "better_than_sparse" in row else ""
            lines.append(
                f"| {name} | {row['psnr']:.1f} | {row['ssim']:.3f} | {wins} | "
                f"{row['shapes_lost']} | {row['shapes_gained']} |"
            )
    if "attention" in report:
        lines += [
            "",
            "| density | (layer, step) pairs | rectified below sparse | median error sparse | rectified | centroid |",
            "|---|---|---|---|---|---|",
        ]
        for row in report["attention"]["per_density"]:
            lines.append(
                f"| {row['density']:g} | {row['pairs']} | {100 * row['rectified_below_sparse']:.0f} % | "
                f"{row['median_sparse']:.3f} | {row['median_rectified']:.3f} | {row['median_centroid']:.3f} |"
            )
    if "passes" in report:
        lines += ["", passes_as_markdown(report["passes"])]
    return "\n".join(lines)
