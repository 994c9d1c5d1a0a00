"""Sparse video as the suite sees it."""

from core.registry import PluginSpec

SPEC = PluginSpec(
    slug="sparse-video",
    title="Sparse video",
    task="text-to-video",
    summary=(
        "Makes videos with block-sparse attention that is corrected against full attention, and measures what that "
        "saves and what it costs."
    ),
    question=(
        "What does sparse attention save me, in seconds and dollars per minute of video, and what does it cost in "
        "fidelity?"
    ),
    paper="2511.19835",
    pipeline="plugins.sparse_video.pipeline:SparseVideoPipeline",
    page="apps.sparse_video:build_page",
    checkpoint="hub_cards/sparse-video-tiny",
    min_memory_gb=2.0,
    published=(
        "errors.py",
        "config.py",
        "order.py",
        "blocks.py",
        "centroids.py",
        "rectify.py",
        "stats.py",
        "executors/__init__.py",
        "executors/base.py",
        "executors/choose.py",
        "executors/reference.py",
        "executors/gather.py",
        "executors/flex.py",
        "executors/xformers_paged.py",
        "attention.py",
        "adapters/__init__.py",
        "adapters/base.py",
        "adapters/wan.py",
        "adapters/hunyuan.py",
        "schedule.py",
        "presets.py",
        "handle.py",
        "enable.py",
        "families.py",
        "repositories.py",
        "placement.py",
        "dense.py",
        "checks.py",
        "request.py",
        "meter.py",
        "noise.py",
        "preview.py",
        "output.py",
        "generation.py",
        "pipeline.py",
    ),
)
