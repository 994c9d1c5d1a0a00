"""What a call may ask for: every limit is checked before any work, and every refusal names the limit."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import psutil
import torch

from .config import RectifiedAttentionConfig
from .errors import SparseVideoInputError

Mode = Literal["rectified", "sparse", "dense"]
OutputType = Literal["np", "pt", "pil", "latent"]
MAX_SEED = 2**32 - 1
_DIFFUSERS_SIDE = 16  # diffusers' pipelines refuse sides that are no multiple of this


@dataclass(frozen=True)
class Geometry:
    """How a model divides a clip into tokens.

    Attributes:
        temporal: frames per latent frame, after the first frame, which has one of its own.
        spatial: pixels per latent position.
        patch: latent positions per token: time, height, width.
    """

    temporal: int
    spatial: int
    patch: tuple[int, int, int]

    @classmethod
    def of(cls, delegate: Any) -> Geometry:
        """Read from diffusers' pipeline."""
        config = delegate.transformer.config
        patch = config.patch_size
        if isinstance(patch, int):
            patch = (config.get("patch_size_t", 1), patch, patch)
        first, second, third = patch
        return cls(delegate.vae_scale_factor_temporal, delegate.vae_scale_factor_spatial, (first, second, third))

    @property
    def side_steps(self) -> tuple[int, int]:
        """Height and width are multiples of these, pixels."""
        return tuple(math.lcm(_DIFFUSERS_SIDE, self.spatial * patch) for patch in self.patch[1:])  # ty: ignore

    def grid(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """The grid of tokens: time, height, width.

        Raises:
            SparseVideoInputError: a size is off the model's grid; names the nearest that is on it.
        """
        self._check_frames(num_frames)
        for name, value, step in zip(("height", "width"), (height, width), self.side_steps, strict=True):
            check_whole(name, value)
            if value % step:
                nearest = step * max(1, round(value / step))
                raise SparseVideoInputError(
                    f"{name} is {value}; this model takes multiples of {step} pixels: {nearest} is the nearest"
                )
        time, rows, columns = self.patch
        latent_frames = (num_frames - 1) // self.temporal + 1
        return latent_frames // time, height // (self.spatial * rows), width // (self.spatial * columns)

    def _check_frames(self, num_frames: int) -> None:
        check_whole("num_frames", num_frames)
        if (num_frames - 1) % self.temporal:
            nearest = self.temporal * round((num_frames - 1) / self.temporal) + 1
            raise SparseVideoInputError(
                f"num_frames is {num_frames}; this model takes {self.temporal}k + 1 frames: {nearest} is the nearest"
            )
        latent_frames = (num_frames - 1) // self.temporal + 1
        if latent_frames % self.patch[0]:
            latent = self.patch[0] * max(1, round(latent_frames / self.patch[0]))
            raise SparseVideoInputError(
                f"num_frames is {num_frames}, which makes {latent_frames} latent frames; this model takes multiples "
                f"of {self.patch[0]}: {self.temporal * (latent - 1) + 1} frames is the nearest"
            )


def check_whole(name: str, value: object, *, at_most: int | None = None) -> None:
    """A whole number from 1."""
    wrong = isinstance(value, bool) or not isinstance(value, int) or value < 1
    if wrong or (at_most is not None and value > at_most):
        allowed = "1 or more" if at_most is None else f"1 to {at_most}"
        raise SparseVideoInputError(f"{name} is {value!r}; it is a whole number, {allowed}")


def check_guidance(name: str, value: object) -> None:
    """A finite number from 0."""
    wrong = isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    if wrong or value < 0:
        raise SparseVideoInputError(f"{name} is {value!r}; it is a number, 0 or above (1 or below turns guidance off)")


def check_choice(name: str, value: object, allowed: Any) -> None:
    """One of the members of a Literal."""
    if value not in get_args(allowed):
        raise SparseVideoInputError(f"{name} is {value!r}; it is one of {', '.join(map(repr, get_args(allowed)))}")


def as_prompts(prompt: object, negative: object) -> tuple[list[str], list[str] | None]:
    """Prompts and negative prompts as lists of one length; a single negative prompt serves every prompt."""
    prompts = _texts("prompt", prompt)
    if negative is None:
        return prompts, None
    negatives = _texts("negative_prompt", negative)
    if isinstance(negative, str):
        negatives *= len(prompts)
    if len(negatives) != len(prompts):
        raise SparseVideoInputError(
            f"there are {len(prompts)} prompts and {len(negatives)} negative prompts; give one negative prompt, or "
            "one for each prompt"
        )
    return prompts, negatives


def _texts(name: str, value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
        raise SparseVideoInputError(f"{name} is {_shown(value)}; give a text, or a list of one or more texts")
    return list(texts)


def check_text_lengths(name: str, counts: Sequence[int], limit: int) -> None:
    """No text is longer than the encoder reads; nothing is ever cut off silently."""
    longest = max(counts)
    if longest > limit:
        raise SparseVideoInputError(f"{name} is {longest} tokens long and this model reads at most {limit}: shorten it")


def choose_seeds(seed: object, generator: object, clips: int) -> tuple[int | None, list[torch.Generator]]:
    """The seed (drawn where none is given; None with a generator) and one generator per clip.

    Clip i of a batch has the seed `seed + i`, so that it is the clip that a call of its own would give.
    """
    if generator is not None:
        if seed is not None:
            raise SparseVideoInputError("seed and generator were both given; give one of them")
        given = list(generator) if isinstance(generator, list | tuple) else [generator]
        if not given or not all(isinstance(one, torch.Generator) for one in given):
            raise SparseVideoInputError("generator is not a torch.Generator, nor a list of them; or give a seed")
        if len(given) not in (1, clips):
            raise SparseVideoInputError(
                f"there are {clips} clips and {len(given)} generators; give one, or one per clip"
            )
        return None, given
    if seed is None:
        seed = random.SystemRandom().randint(0, MAX_SEED)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise SparseVideoInputError(f"seed is {seed!r}; it is a whole number from 0 to {MAX_SEED}")
    # On the CPU whatever the device, so that a seed means the same noise everywhere.
    return seed, [torch.Generator().manual_seed(seed + clip) for clip in range(clips)]


def choose_config(
    mode: str, density: float | None, config: object, base: RectifiedAttentionConfig | None
) -> RectifiedAttentionConfig | None:
    """Settings of the sparse attention; None for dense attention.

    Args:
        base: what holds when the call gives no `config`.
    """
    check_choice("attention", mode, Mode)
    if config is not None and not isinstance(config, RectifiedAttentionConfig):
        raise SparseVideoInputError(f"config is a {type(config).__name__}; give a RectifiedAttentionConfig")
    if mode == "dense":
        if config is not None or density not in (None, 1, 1.0):
            raise SparseVideoInputError("attention is 'dense', which has no density and no config: leave them out")
        return None
    chosen = config or base or RectifiedAttentionConfig()
    changes: dict[str, Any] = {} if density is None else {"density": density}
    if mode == "sparse":
        changes["rectify"] = "none"
    elif chosen.rectify == "none":
        changes["rectify"] = "paper"
    return chosen.replace(**changes)


def check_tokens(grid: tuple[int, int, int], config: RectifiedAttentionConfig | None, max_tokens: int | None) -> int:
    """The number of visual tokens; at least a block where attention is sparse, and within the model's limit."""
    tokens = math.prod(grid)
    if max_tokens is not None and tokens > max_tokens:
        raise SparseVideoInputError(
            f"this clip has {tokens:,} tokens ({grid[0]} x {grid[1]} x {grid[2]}) and this model takes at most "
            f"{max_tokens:,}: lower num_frames, height or width"
        )
    if config is not None and config.density < 1 and tokens < config.block_size:
        raise SparseVideoInputError(
            f"this clip has {tokens} tokens, fewer than one block of {config.block_size}: raise num_frames, height or "
            "width, lower block_size, or use attention='dense'"
        )
    return tokens


def check_memory(delegate: Any, clips: int, tokens: int, pixels: int, device: torch.device) -> None:
    """Refuse what cannot fit, from a lower bound: it leaves out weights, attention and the decoder's inside.

    Args:
        pixels: frames x height x width of one clip.
    """
    model = delegate.transformer
    width = model.config.num_attention_heads * model.config.attention_head_dim
    # Hidden states, query, key, value and the attention's output; then the frames as decoded and as given back.
    denoising = clips * tokens * width * 5 * torch.finfo(model.dtype).bits // 8
    decoding = clips * pixels * 3 * 8
    needed = max(denoising, decoding)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[1]
    elif device.type == "cpu":
        free = psutil.virtual_memory().total
    else:
        return
    if needed > free:
        raise SparseVideoInputError(
            f"this needs {needed / 2**30:.1f} GiB or more and {device.type} has {free / 2**30:.1f} GiB: lower "
            "num_frames, height, width or the number of prompts"
        )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
