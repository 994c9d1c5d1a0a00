"""Attribution as the suite sees it."""

from core.registry import PluginSpec

SPEC = PluginSpec(
    slug="attribution",
    title="Attribution",
    task="modality-attribution",
    summary=(
        "Splits what two data streams tell about a target into what each brings alone, what both bring, "
        "and what only appears when they are read together."
    ),
    question="Does this modality (sensor, data stream) earn its cost? What does the analysis itself cost?",
    paper="2511.19470",
    pipeline="plugins.attribution.pipeline:PIDAttributionPipeline",
    page="apps.attribution:build_page",
    checkpoint=None,
    min_memory_gb=0.5,
    published=(
        "errors.py",
        "tables.py",
        "certificate.py",
        "newton_system.py",
        "newton.py",
        "alternating.py",
        "redundancy.py",
        "decomposition.py",
        "counts.py",
        "estimation.py",
        "files.py",
        "inputs.py",
        "probes.py",
        "joint_probe.py",
        "quantisers.py",
        "discretiser.py",
        "verdicts.py",
        "report.py",
        "pipeline.py",
    ),
)
