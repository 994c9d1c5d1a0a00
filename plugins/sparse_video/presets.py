"""Settings per family and checkpoint: those of the original's scripts, steps and layers as shares.

Source: the commands of the repository of Rectified SpaAttn (arXiv 2511.19835); density is 1 - `sa_drop_rate`, `top_p`
is the 0.3 that all of them use as `p_remain_rates`. A step under classifier-free guidance in two calls is one step.
Checkpoints that the paper did not run take over their next of kin; `source` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .config import RectifiedAttentionConfig

TOP_P = 0.3


@dataclass(frozen=True)
class Checkpoint:
    """What presets go by.

    Attributes:
        family: the adapter's.
        config: the transformer's configuration.
        experts: transformers in the pipeline: 2 with Wan 2.2 A14B, else 1.
    """

    family: str
    config: Mapping[str, Any]
    experts: int = 1

    def has(self, **settings: Any) -> bool:
        return all(self.config.get(name) == value for name, value in settings.items())

    @property
    def takes_image(self) -> bool:
        """Wan I2V: image tokens in the cross-attention (2.1), or an image in the latents' extra channels (2.2)."""
        return self.config.get("image_dim") is not None or self.config["in_channels"] > self.config["out_channels"]


@dataclass(frozen=True)
class Preset:
    """Settings for checkpoints that `matches` accepts, and where the numbers come from."""

    name: str
    matches: Callable[[Checkpoint], bool]
    config: RectifiedAttentionConfig
    source: str


def _settings(density: float, *, dense_layers: float = 0.0, dense_steps: float = 0.0) -> RectifiedAttentionConfig:
    return RectifiedAttentionConfig(
        density=density, top_p=TOP_P, dense_layers=dense_layers, dense_steps=dense_steps, rectify="paper"
    )


# The first that matches holds; the last of each family matches all of it.
PRESETS: tuple[Preset, ...] = (
    Preset(
        "Wan 2.2 TI2V-5B",
        lambda it: it.family == "wan" and it.has(num_layers=30, in_channels=48),
        _settings(0.25, dense_layers=2 / 30, dense_steps=5 / 50),
        "Wan2.2 TI2V-5B, 704x1280, 121 frames, 50 steps: drop 0.75, first 2 of 30 blocks and 5 steps dense",
    ),
    Preset(
        "Wan 2.2 I2V-A14B",
        lambda it: it.family == "wan" and it.takes_image and it.has(num_layers=40, image_dim=None),
        _settings(0.15, dense_layers=2 / 40),
        "Wan2.2 I2V-A14B, 720p, 81 frames, 40 steps: drop 0.85, first 2 of 40 blocks of each expert dense",
    ),
    Preset(
        "Wan 2.2 T2V-A14B",
        lambda it: it.family == "wan" and it.experts == 2 and it.has(num_layers=40),
        _settings(0.15, dense_layers=2 / 40, dense_steps=3 / 40),
        "Wan2.2 T2V-A14B, 720p, 81 frames, 40 steps: drop 0.85, first 2 of 40 blocks of each expert and 3 steps dense; "
        "the original also keeps the low-noise expert's first step dense, which a share of the run cannot say",
    ),
    Preset(
        "Wan 2.1 I2V-14B",
        lambda it: it.family == "wan" and it.takes_image and it.has(num_layers=40),
        _settings(0.25, dense_layers=2 / 40),
        "Wan2.1 I2V-14B, 720p, 81 frames, 50 steps: drop 0.75, first 2 of 40 blocks dense",
    ),
    Preset(
        "Wan 2.1 T2V-14B",
        lambda it: it.family == "wan" and it.has(num_layers=40),
        _settings(0.25, dense_layers=2 / 40, dense_steps=5 / 50),
        "Wan2.1 T2V-14B, 720p, 81 frames, 50 steps: drop 0.75, first 2 of 40 blocks and 5 steps dense; one expert of "
        "T2V-A14B without its pipeline looks the same and gets this too",
    ),
    Preset(
        "Wan 2.1 T2V-1.3B",
        lambda it: it.family == "wan" and it.has(num_layers=30),
        _settings(0.25, dense_layers=2 / 30, dense_steps=5 / 50),
        "not among the paper's models: T2V-14B's settings, 2 of 30 blocks",
    ),
    Preset(
        "Wan",
        lambda it: it.family == "wan",
        _settings(0.25, dense_layers=2 / 40, dense_steps=5 / 50),
        "not among the paper's models: T2V-14B's settings",
    ),
    Preset(
        "HunyuanVideo",
        lambda it: it.family == "hunyuan-video",
        _settings(0.2),
        "HunyuanVideo, 720x1280, 128 frames, 50 steps: drop 0.8, no dense blocks or steps",
    ),
)


def find_preset(checkpoint: Checkpoint) -> Preset:
    """The preset of this checkpoint. Raises LookupError for a family without one."""
    for preset in PRESETS:
        if preset.matches(checkpoint):
            return preset
    raise LookupError(f"no preset for the family {checkpoint.family!r}")
