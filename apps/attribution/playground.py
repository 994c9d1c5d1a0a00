"""Known truth: distributions whose atoms are known exactly, what each method makes of them, and of a sample."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from apps.attribution import views
from apps.components import QUIET, note, table
from core.registry import load_object

SLUG = "attribution"
NAMES = ("X1", "X2")
KINDS = {
    "XOR": "xor",
    "AND": "and",
    "Redundant copy": "redundant",
    "Unique (Y is X1)": "unique",
    "Both copied": "copy",
    "Mixture": "mixture",
}
METHODS = (
    ("BROJA, certified", "broja"),
    ("Paper's IPFP, 100 rounds", "ipfp"),
    ("I_min (Williams and Beer)", "imin"),
    ("Minimum mutual information", "mmi"),
)
ABOUT = """Choose a distribution whose answer is known and see what each method finds, exactly and from a sample.
The diamond is the truth; bars are estimates from the sample with 90 % intervals; the grey band is shuffled data."""
SHUFFLES, SPLITS = 30, 6  # fewer than an analysis uses: the page answers while a slider moves


def build_playground(tab: gr.Tab) -> None:
    """Controls, plot and tables of the playground, inside its tab."""
    gr.Markdown(ABOUT)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            kind = gr.Radio(list(KINDS), value="XOR", label="What Y is", elem_id="truth-kind")
            noise = gr.Slider(0, 1, 0, step=0.05, label="Noise: share of Y that is random", elem_id="truth-noise")
            samples = gr.Slider(50, 20000, 1000, step=50, label="Examples sampled", elem_id="truth-samples")
            seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            with gr.Column(visible=False) as weights_box:
                weights = [
                    gr.Slider(0, 1, value, step=0.05, label=f"Weight: {label.lower()}", elem_id=f"weight-{atom}")
                    for (atom, label), value in zip(
                        views.short_labels(NAMES).items(), (0.4, 0.3, 0.1, 0.2), strict=True
                    )
                ]
        with gr.Column(scale=5, min_width=320):
            gr.HTML(views.atoms_legend(truth=True))
            plot = gr.Plot(show_label=False, container=False, elem_id="truth-plot")
            exact = gr.HTML("", elem_id="truth-exact")
            sampled = gr.HTML("", elem_id="truth-sampled")
    controls = [kind, noise, samples, seed, *weights]
    answer = {"fn": _show, "inputs": controls, "outputs": [plot, exact, sampled, weights_box]}
    # The solver runs here and not in a job: what computes shares one queue with what else computes.
    quiet = {
        "concurrency_id": "accelerator",
        **QUIET,
        "trigger_mode": "always_last",
    }
    # Filled when somebody opens the tab, not when the app opens.
    gr.on([tab.select, *(control.change for control in controls)], **answer, **quiet)
    gr.api(attribution_known_truth, api_name="attribution_known_truth", concurrency_id="accelerator")


def attribution_known_truth(
    kind: str,
    noise: float = 0.0,
    samples: int = 1000,
    seed: int = 0,
    redundant: float = 0.4,
    unique_1: float = 0.3,
    unique_2: float = 0.1,
    synergy: float = 0.2,
) -> dict[str, Any]:
    """Decompose a distribution whose atoms are known, exactly and from a sample.

    Args:
        kind: "xor", "and", "redundant", "unique", "copy" or "mixture".
        noise: share of Y that is replaced by a random value, 0 to 1.
        samples: examples to draw, 50 to 20,000.
        seed: of the draw.
        redundant: weight in a mixture.
        unique_1: weight in a mixture.
        unique_2: weight in a mixture.
        synergy: weight in a mixture.

    Returns:
        truth (bits, or None without a closed form), methods (atoms and gap of each) and sampled (estimates).
    """
    weights = (redundant, unique_1, unique_2, synergy)
    table_, truth, methods, estimates = _solve(kind, noise, samples, seed, weights)
    return {
        "truth": truth,
        "methods": {name: {**_atoms(result), "gap": float(result.gap)} for name, result in methods.items()},
        "sampled": {name: e.to_dict() for name, e in estimates.quantities.items()},
        "cells": int(np.prod(table_.shape)),
    }


def _show(kind: str, noise: float, samples: float, seed: float | None, *weights: float) -> list[Any]:
    """Plot, exact table, sampled table, and whether the weights are shown."""
    mixture = gr.update(visible=KINDS[kind] == "mixture")
    try:
        _, truth, methods, estimates = _solve(KINDS[kind], noise, int(samples), int(seed or 0), weights)
    except load_object("plugins.attribution.errors:AttributionInputError") as error:
        return [gr.skip(), note(str(error)), "", mixture]
    figure = views.atoms_figure(estimates.quantities, NAMES, truth or _atoms(methods["broja"]))
    return [figure, _exact_table(truth, methods), _sampled_table(truth, methods, estimates), mixture]


def _solve(kind: str, noise: float, samples: int, seed: int, weights: tuple[float, ...]) -> tuple[Any, ...]:
    """The table, its truth, each method's result and the estimates from a sample."""
    synthetic = "plugins.attribution.synthetic"
    joint, truth = load_object(f"{synthetic}:known")(kind, noise, weights)
    decompose = load_object("plugins.attribution.decomposition:decompose")
    reference = load_object("plugins.attribution.decomposition:conditional_independence_reference")
    methods = {name: decompose(joint, method=name) for _, name in METHODS}
    methods["reference"] = reference(joint)
    codes = load_object(f"{synthetic}:sample")(joint, min(max(samples, 50), 20000), np.random.default_rng(seed))
    counts = load_object("plugins.attribution.counts:JointCounts")(*joint.shape).update(*codes)
    estimate = load_object("plugins.attribution.estimation:estimate")
    return joint, truth, methods, estimate(counts, seed=seed, shuffles=SHUFFLES, half_splits=SPLITS)


def _atoms(result: Any) -> dict[str, float]:
    return {atom: float(getattr(result, atom)) for atom in views.ATOMS}


def _exact_table(truth: dict[str, float] | None, methods: dict[str, Any]) -> str:
    """Each method on the exact distribution, beside the closed form."""
    rows: list[tuple[str, ...]] = []
    if truth:
        rows.append(("Closed form", *(f"{truth[atom]:.4f}" for atom in views.ATOMS), ""))
    titles = [*METHODS, ("Conditional independence (one IPFP)", "reference")]
    for title, name in titles:
        result = methods[name]
        certified = "not a BROJA value" if name in ("imin", "mmi") else f"{float(result.gap):.0e}"
        values = (f"{value:.4f}".replace("-0.0000", "0.0000") for value in _atoms(result).values())
        rows.append((title, *values, certified))
    headings = ("On the exact distribution", *views.short_labels(NAMES).values(), "Certified gap")
    plain = '<p class="quiet">This one has no closed form: the diamond is BROJA, certified by its gap.</p>'
    return table(headings, rows, label="Methods on the exact distribution, bits") + ("" if truth else plain)


def _sampled_table(truth: dict[str, float] | None, methods: dict[str, Any], estimates: Any) -> str:
    """The estimate from the sample: before and after correction, with its interval."""
    exact = truth or _atoms(methods["broja"])
    rows = []
    for atom, label in views.short_labels(NAMES).items():
        e = estimates.quantities[atom]
        rows.append((label, f"{exact[atom]:.3f}", views.number(e.plug_in), views.number(e.value), views.interval(e)))
    headings = ("From the sample", "Truth", "Plug-in", "Corrected", "90 % interval")
    warnings = "".join(note(warning) for warning in estimates.warnings)
    return table(headings, rows, label="Estimates from the sample, bits") + warnings
