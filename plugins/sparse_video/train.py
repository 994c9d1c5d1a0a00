"""Training of the small checkpoint, from nothing to a folder that `from_pretrained` loads.

Stages, each resumable: the text encoder (a minute), the video VAE, then the transformer on ever more tokens: pictures
for content, close-ups for shapes and how they move, full length last. `--minutes` is shared out between what is still
to be done.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from transformers import AutoTokenizer, UMT5EncoderModel

from core.runs import collect_versions
from core.training import TrainingLog

from . import small_model
from .latents import ClipSize, ExampleSource
from .scenes import render, sample_scene
from .train_text import encode_text, train_text_encoder
from .train_transformer import TransformerTrainer, train_for
from .train_vae import to_model as clips_to_model
from .train_vae import train_decoder, train_vae

DEFAULT_FOLDER = Path(".cache/sparse-video-tiny")
VAE_SHARE, DECODER_SHARE = 0.2, 0.1
TRAINING_SEEDS = 10_000_000  # evaluation draws its scenes below this


@dataclass(frozen=True)
class Part:
    """Whose turn it is in a stage: clips of a size, so many at once, at so many of their steps in time (None: all)."""

    size: ClipSize
    batch: int
    moments: int | None = None


@dataclass(frozen=True)
class Stage:
    """A part of the transformer's training: its share of the time, what is learned from, first and last rate.

    `guidance` is that of `TransformerTrainer`.
    """

    name: str
    share: float
    parts: tuple[Part, ...]
    rates: tuple[float, float]
    guidance: float = 0.0

    def rate(self, done: float) -> float:
        """Linear from the first to the second, after a short warm-up."""
        first, last = self.rates
        return (first + (last - first) * done) * min(1.0, 0.05 + done / 0.02)


PICTURE = ClipSize(1, small_model.HEIGHT, small_model.WIDTH)  # 144 tokens
FULL = ClipSize(small_model.FRAMES, small_model.HEIGHT, small_model.WIDTH)  # 4,176 tokens, 29 steps in time

STAGES = (
    Stage("content", 0.1, (Part(PICTURE, 48),), (2e-3, 1.5e-3)),
    Stage("moments", 0.7, (Part(FULL, 64, moments=1), Part(FULL, 10, moments=8)), (1.5e-3, 5e-4)),
    Stage("length", 0.2, (Part(FULL, 8, moments=8), Part(FULL, 1)), (5e-4, 2e-5)),
)


def train_command(
    minutes: Annotated[float, typer.Option(help="Wall time for everything that is still to be trained.")] = 60,
    out: Annotated[Path, typer.Option(help="Where states, logs and the checkpoint go.")] = DEFAULT_FOLDER,
    device: Annotated[str, typer.Option(help="cpu or cuda, for the transformer.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Torch threads; one is faster when the machine is busy.")] = 0,
    compiled: Annotated[
        bool, typer.Option(help="Compile the blocks (needs a C++ compiler; minutes to start).")
    ] = False,
    resume: Annotated[bool, typer.Option(help="Go on from what is in the folder.")] = True,
    start: Annotated[
        Path | None, typer.Option(help="Begin from this checkpoint: train its transformer on, keep the rest.")
    ] = None,
    seed: int = 0,
) -> None:
    """Train the small model on videos that this generates; run it again to go on."""
    if minutes <= 0:
        raise typer.BadParameter(f"{minutes} is not above 0: give minutes of wall time.", param_hint="--minutes")
    if start is not None and not (start / "model_index.json").exists():
        raise typer.BadParameter(
            f"{start} is no checkpoint: give a folder with model_index.json.", param_hint="--start"
        )
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    if not resume and any(out.iterdir()):
        raise typer.BadParameter(
            f"{out} is not empty: give another folder, or leave --no-resume out.", param_hint="--out"
        )
    began = time.monotonic()
    log = TrainingLog(out / "log.jsonl")
    if start is not None:
        copy_parts(start, out)
    tokenizer, text_encoder = text_part(out, log)
    vae = vae_part(out, log, deadline=began + 60 * minutes * VAE_SHARE)
    left = 60 * minutes - (time.monotonic() - began)
    decoder_share = 0.0 if start is not None else DECODER_SHARE
    transformer = transformer_part(
        out,
        vae,
        text_encoder,
        tokenizer,
        seconds=left * (1 - decoder_share),
        device=device,
        compiled=compiled,
        log=log,
        start=start,
    )
    if start is None:
        vae = decoder_part(out, vae, log, deadline=began + 60 * minutes)
    curve = earlier_curve(start) + learning_curve(out / "log.jsonl")
    save_checkpoint(out / "checkpoint", tokenizer, text_encoder, vae, transformer, curve)
    typer.echo(f"wrote {out / 'checkpoint'}")


def copy_parts(start: Path, out: Path) -> None:
    """Put a checkpoint's tokenizer, text encoder and VAE where the parts of the training look for their own."""
    for name in ("tokenizer", "text_encoder", "vae"):
        if not (out / name).exists():
            shutil.copytree(start / name, out / name)


def text_part(out: Path, log: TrainingLog, steps: int = 400) -> tuple[Any, UMT5EncoderModel]:
    """The tokenizer and the trained text encoder, from the folder if they are there."""
    if not (out / "text_encoder" / "model.safetensors").exists():
        tokenizer = small_model.new_tokenizer()
        encoder = train_text_encoder(
            small_model.new_text_encoder(tokenizer), tokenizer, steps=steps, log=log.of("text")
        )
        tokenizer.save_pretrained(out / "tokenizer")
        encoder.save_pretrained(out / "text_encoder")
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")
    return tokenizer, UMT5EncoderModel.from_pretrained(out / "text_encoder").eval()


def vae_part(out: Path, log: TrainingLog, *, deadline: float, steps: int = 2000) -> AutoencoderKLWan:
    """The trained VAE with the statistics of its latents, from the folder if it is there."""
    if not (out / "vae" / "config.json").exists():
        vae = train_vae(
            small_model.new_vae(), steps=steps, state_file=out / "vae.state.pt", log=log.of("vae"), deadline=deadline
        )
        set_statistics(vae)
        vae.save_pretrained(out / "vae")
    return AutoencoderKLWan.from_pretrained(out / "vae").eval()


def decoder_part(
    out: Path, vae: AutoencoderKLWan, log: TrainingLog, *, deadline: float, steps: int = 2000
) -> AutoencoderKLWan:
    """The VAE with its decoder trained further on latents as the transformer makes them; the encoder stays."""
    vae = train_decoder(vae, steps=steps, state_file=out / "decoder.state.pt", log=log.of("decoder"), deadline=deadline)
    vae.save_pretrained(out / "vae_decoder")
    return vae


@torch.no_grad()
def set_statistics(vae: AutoencoderKLWan, clips: int = 24) -> None:
    """Put the latents' mean and standard deviation per channel into the configuration, as Wan's VAE has them."""
    shape: dict[str, Any] = {"frames": 17, "height": 96, "width": 96}
    scenes = [sample_scene(TRAINING_SEEDS + index, **shape) for index in range(clips)]
    latents = torch.cat([vae.encode(clips_to_model(render(scene, **shape)[None])).latent_dist.mean for scene in scenes])
    vae.register_to_config(
        latents_mean=latents.mean((0, 2, 3, 4)).tolist(), latents_std=latents.std((0, 2, 3, 4)).tolist()
    )


def transformer_part(
    out: Path,
    vae: AutoencoderKLWan,
    text_encoder: UMT5EncoderModel,
    tokenizer: Any,
    *,
    seconds: float,
    device: str,
    compiled: bool,
    log: TrainingLog,
    start: Path | None = None,
) -> WanTransformer3DModel:
    """Train through the stages that are not yet done; the time left is shared out between those.

    Args:
        start: a checkpoint whose transformer is trained on; it knows content already, so the first stage is left out.
    """
    with torch.no_grad():
        null_text = encode_text(text_encoder, tokenizer, [""])[0]
    model, stages = small_model.new_transformer(), STAGES
    if start is not None:
        model = WanTransformer3DModel.from_pretrained(start / "transformer", torch_dtype=torch.float32)
    strength = small_model.DEFAULTS["noise_strength"]
    trainer = TransformerTrainer(model, null_text, noise_strength=strength, device=device, compiled=compiled)
    file, done = out / "transformer.state.pt", int(start is not None)
    if file.exists():
        done = trainer.load(file).get("stages_done", 0)
    shares = sum(stage.share for stage in stages[done:])
    for index, stage in enumerate(stages):
        if index < done:
            continue
        first = TRAINING_SEEDS * (10 * (index + 1)) + trainer.samples
        sources = {
            size: ExampleSource(vae, text_encoder, tokenizer, size, seed=first + TRAINING_SEEDS * place)
            for place, size in enumerate(dict.fromkeys(part.size for part in stage.parts))
        }
        trainer.guidance = stage.guidance
        train_for(
            trainer,
            [(sources[part.size], part.batch, part.moments) for part in stage.parts],
            seconds=seconds * stage.share / shares,
            rate=stage.rate,
            log=log.of(stage.name),
            save=lambda index=index: trainer.save(file, stages_done=index),
        )
        trainer.save(file, stages_done=index + 1)
    model = small_model.new_transformer()
    model.load_state_dict({name: value.cpu() for name, value in trainer.average.items()})
    return model.eval()


def earlier_curve(start: Path | None) -> list[dict[str, Any]]:
    """The curve of the training that a checkpoint already had."""
    file = None if start is None else start / "training.json"
    return json.loads(file.read_text(encoding="utf-8"))["curve"] if file is not None and file.exists() else []


def learning_curve(log_file: Path, rows_per_stage: int = 12) -> list[dict[str, Any]]:
    """The log, thinned: the first and last row of each stage and some between."""
    lines = log_file.read_text(encoding="utf-8").splitlines() if log_file.exists() else []
    rows = [json.loads(line) for line in lines]
    thinned = []
    for stage in dict.fromkeys(row["stage"] for row in rows):
        own = [row for row in rows if row["stage"] == stage]
        step = max(1, -(-len(own) // rows_per_stage))
        thinned += own[:-1:step] + own[-1:]
    return thinned


def save_checkpoint(
    folder: Path, tokenizer: Any, text_encoder: Any, vae: Any, transformer: Any, curve: list[dict[str, Any]]
) -> None:
    """Write the pipeline as the Hub gets it: bfloat16 transformer in files under 10 MB, the rest as it is."""
    from .pipeline import SparseVideoPipeline

    pipeline = SparseVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        transformer=transformer.to(torch.bfloat16),
        scheduler=small_model.new_scheduler(),
        **small_model.DEFAULTS,
    )
    pipeline.save_pretrained(folder, max_shard_size="9MB")
    for file in folder.glob("*/config.json"):  # where a part was loaded from is no business of the Hub's
        config = json.loads(file.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    record = {"versions": collect_versions(), "saved": datetime.now(UTC).isoformat(timespec="seconds"), "curve": curve}
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(train_command)
