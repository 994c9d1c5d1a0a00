"""Tracking as the suite sees it."""

from core.registry import PluginSpec

SPEC = PluginSpec(
    slug="tracking",
    title="Tracking",
    task="multimodal-video-tracking",
    summary=(
        "Tracks and segments objects in RGB, thermal, depth and event video with one model, and goes on when a sensor "
        "fails."
    ),
    question="What do I lose when one model replaces the zoo of per-modality, per-task specialists?",
    paper="2511.19475",
    pipeline="plugins.tracking.pipeline_sata:SataPipeline",
    page="apps.tracking:build_page",
    checkpoint="hub_cards/sata-tiny",
    min_memory_gb=1.0,
    published=(
        "errors.py",
        "modalities.py",
        "configuration_sata.py",
        "boxes.py",
        "experts.py",
        "encoder.py",
        "neck.py",
        "detection.py",
        "prompts.py",
        "memory.py",
        "decoder.py",
        "matching.py",
        "modeling_sata.py",
        "views.py",
        "image_processing_sata.py",
        "processing_sata.py",
        "results.py",
        "tracklets.py",
        "candidates.py",
        "session_prompts.py",
        "session.py",
        "video_files.py",
        "videos.py",
        "loading.py",
        "pipeline_sata.py",
    ),
)
