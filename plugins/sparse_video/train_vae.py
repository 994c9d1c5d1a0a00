"""Training of the small causal video VAE on crops of generated clips."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import nn

from core.training import save_state

from .scenes import render, sample_scene

KL_WEIGHT = 3e-4
CROP = 48
CROP_FRAMES = 9


def crop_batch(seed: int, size: int) -> torch.Tensor:
    """Random crops, most of them with a shape in them: float [size, 3, 9, 48, 48] in -1..1."""
    rng = np.random.default_rng(seed)
    clips = []
    for index in range(size):
        side = int(rng.choice([64, 96, 128]))
        frames = CROP_FRAMES if index % 2 else CROP_FRAMES + 12  # also the later, larger growing shapes
        scene = sample_scene(seed * size + index, frames=frames, height=side, width=side)
        shape = scene.shapes[rng.integers(len(scene.shapes))]
        centre = np.array([shape.y, shape.x]) * side + rng.normal(0, 14, 2)
        top, left = np.clip(np.round(centre - CROP / 2), 0, side - CROP).astype(int)
        clip = render(scene, frames=frames, height=side, width=side)[-CROP_FRAMES:]
        clips.append(clip[:, top : top + CROP, left : left + CROP])
    return to_model(np.stack(clips))


def to_model(clips: np.ndarray) -> torch.Tensor:
    """uint8 [batch, frames, height, width, 3] to float [batch, 3, frames, height, width] in -1..1."""
    return torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1)


def reconstruction_loss(decoded: torch.Tensor, clip: torch.Tensor) -> torch.Tensor:
    """L1 of the pixels and of their differences along height, width and time: edges are few, and matter."""
    loss = (decoded - clip).abs().mean()
    for axis in (2, 3, 4):
        loss = loss + 0.5 * (decoded.diff(dim=axis) - clip.diff(dim=axis)).abs().mean()
    return loss


class ConvolutionOptimiser:
    """Muon for the kernels, each seen as a matrix [out, in * kernel], and AdamW for the rest."""

    def __init__(self, model: nn.Module, rate: float) -> None:
        self.model = model
        trained = [value for value in model.parameters() if value.requires_grad]
        kernels = [value for value in trained if value.ndim > 3 and value[0].numel() > 1 and len(value) > 1]
        self.matrices = [(value, nn.Parameter(value.data.view(len(value), -1))) for value in kernels]  # same memory
        chosen = {id(value) for value in kernels}
        rest = [value for value in trained if id(value) not in chosen]
        self.parts = (
            torch.optim.Muon([matrix for _, matrix in self.matrices], lr=rate, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0),
        )

    def set_rate(self, rate: float) -> None:
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate

    def step(self) -> None:
        """Step both and clear the gradients."""
        for value, matrix in self.matrices:
            matrix.grad = None if value.grad is None else value.grad.view_as(matrix)
        for part in self.parts:
            part.step()
        self.model.zero_grad(set_to_none=True)

    def state_dict(self) -> dict:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict) -> None:
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)


def train_vae(
    vae: AutoencoderKLWan,
    *,
    steps: int,
    batch: int = 8,
    rate: float = 2e-3,
    state_file: Path,
    log: Callable[[dict[str, float]], None],
    deadline: float | None = None,
) -> AutoencoderKLWan:
    """Train until `steps` (or the deadline, `time.monotonic` seconds); resumes from `state_file`."""
    optimiser = ConvolutionOptimiser(vae, rate)
    average = {name: value.clone() for name, value in vae.state_dict().items()}
    first = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        vae.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average, first = state["average"], state["step"]
    vae.train()
    for step in range(first, steps):
        progress = step / steps
        optimiser.set_rate(rate * min(1.0, (step + 1) / 30) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))))
        clip = crop_batch(step, batch)
        posterior = vae.encode(clip).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        loss = reconstruction_loss(decoded, clip)
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        (loss + KL_WEIGHT * kl).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        decay = min(0.98, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in vae.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        last = step + 1 == steps or (deadline is not None and time.monotonic() > deadline)
        if step % 25 == 0 or last:
            mse = (decoded.detach() - clip).square().mean().item() / 4
            log({"step": step, "loss": loss.item(), "kl": kl.item(), "psnr": -10 * math.log10(mse)})
        if step % 200 == 199 or last:
            state = {"model": vae.state_dict(), "optimiser": optimiser.state_dict(), "average": average}
            save_state(state_file, state | {"step": step + 1})
        if last:
            break
    vae.load_state_dict(average)
    return vae.eval()


def train_decoder(vae: AutoencoderKLWan, **options: Any) -> AutoencoderKLWan:
    """Train the decoder alone, so that the latents stay what they are; options as for `train_vae`."""
    encoder = [*vae.encoder.parameters(), *vae.quant_conv.parameters()]
    for value in encoder:
        value.requires_grad_(False)
    vae = train_vae(vae, **options)
    for value in encoder:
        value.requires_grad_(True)
    return vae
