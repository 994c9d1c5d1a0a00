"""The words that the Hub accepts in cards; its own validator needs a network, these lists do not.

Sources: hub-docs (spaces-config-reference, repositories-licenses) and `packages/tasks` of huggingface.js. Hardware
comes from huggingface_hub itself.
"""

from __future__ import annotations

from functools import cache


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SDKS = ("gradio", "docker", "static")
HEADERS = ("mini", "default")
MAX_SHORT_DESCRIPTION = 60
SPACE_KEYS = _words(
    """title emoji colorFrom colorTo sdk sdk_version python_version app_file app_port base_path fullWidth header
    short_description license license_name license_link models datasets tags thumbnail pinned hf_oauth
    hf_oauth_expiration_minutes hf_oauth_scopes hf_oauth_authorized_org disable_embedding startup_duration_timeout
    custom_headers preload_from_hub suggested_hardware suggested_storage"""
)

LICENSES = _words(
    """apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl
    gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql
    ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma
    apple-amlr apple-ascl intel-research fair-noncommercial-research-license h-research open-mdw unknown other"""
)

TASKS = _words(
    """text-classification token-classification table-question-answering question-answering zero-shot-classification
    translation summarization feature-extraction text-generation fill-mask sentence-similarity text-to-speech
    text-to-audio automatic-speech-recognition audio-to-audio audio-classification audio-text-to-text
    voice-activity-detection depth-estimation image-classification object-detection image-segmentation text-to-image
    image-to-text image-to-image image-to-video unconditional-image-generation video-classification
    reinforcement-learning robotics tabular-classification tabular-regression text-ranking time-series-forecasting
    text-to-video image-text-to-text image-text-to-image image-text-to-video visual-question-answering
    document-question-answering zero-shot-image-classification graph-ml mask-generation zero-shot-object-detection
    text-to-3d image-to-3d image-feature-extraction video-text-to-text video-to-video keypoint-detection
    visual-document-retrieval any-to-any"""
)


@cache
def hardware_names() -> tuple[str, ...]:
    """The kinds of hardware that a Space can run on, as the installed huggingface_hub lists them."""
    from huggingface_hub import SpaceHardware

    return tuple(kind.value for kind in SpaceHardware)
