"""DeMoE: the mixture of experts in the place of every block's feed-forward layer (SATA, section 3.2).

The two streams of a pair, RGB and the auxiliary map, come stacked on the batch axis and meet only here. A shared expert
(the block's own feed-forward layer, frozen) and common experts that both streams use (CpMoE) are joined by experts of
each modality (SaMoE).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional
from transformers import initialization as init

from .configuration_sata import SataConfig
from .modalities import RGB


@dataclass
class Routing:
    """What the blocks of one encoder pass are told, and what they report.

    Attributes:
        modality: int64 [pairs], the auxiliary map's place in `SataConfig.modalities`; None lets each block's
            cross-modal router decide.
        first: the same for the first stream; None where it is RGB throughout.
        paired: False when only one stream runs because both would be the same.
        modality_logits: per block, [pairs, modalities], what the cross-modal router makes of the auxiliary map.
        common: per block, [streams, h, w, c], the common features (H^G in the paper).
        prompts, specific: per block, [streams, h, w, c], outputs of common and of specific experts, kept apart.
        loads: per block, {"common": [experts], modality name: [experts]}, how often each expert was selected.
        balance: per block, the load-balancing terms.
    """

    modality: torch.Tensor | None
    paired: bool = True
    first: torch.Tensor | None = None
    modality_logits: list[torch.Tensor] = field(default_factory=list)
    common: list[torch.Tensor] = field(default_factory=list)
    prompts: list[torch.Tensor] = field(default_factory=list)
    specific: list[torch.Tensor] = field(default_factory=list)
    loads: list[dict[str, torch.Tensor]] = field(default_factory=list)
    balance: list[torch.Tensor] = field(default_factory=list)


class Experts(nn.Module):
    """A group of bottleneck experts (linear, GELU, linear), all of them as two matrix products.

    `forward(tokens [..., c], gates [..., experts])` is the gated sum [..., c]; an expert with gate zero adds nothing,
    so this equals sending each token to its experts alone.
    """

    def __init__(self, count: int, width: int, inner: int) -> None:
        super().__init__()
        self.count = count
        self.inner = nn.Linear(width, count * inner)
        self.outer = nn.Linear(count * inner, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(count, width))

    def forward(self, tokens: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        hidden = functional.gelu(self.inner(tokens)).unflatten(-1, (self.count, -1))
        return self.outer((hidden * gates[..., None]).flatten(-2)) + gates @ self.bias


class Router(nn.Module):
    """Scores experts per token and keeps the best: gates [..., experts], non-negative, k of them not zero, sum one."""

    def __init__(self, count: int, width: int, keep: int) -> None:
        super().__init__()
        self.keep = keep
        self.score = nn.Linear(width, count)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gates, and the probabilities over all experts that they were kept from."""
        logits = self.score(tokens)
        best = logits.topk(self.keep, dim=-1)
        gates = torch.zeros_like(logits).scatter(-1, best.indices, best.values.softmax(-1))
        return gates, logits.softmax(-1)


def balance_loss(gates: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    """Switch's load-balancing term (arXiv 2101.03961, eq. 4): 1 when every expert is used alike, more otherwise."""
    count = gates.shape[-1]
    selected = (gates > 0).flatten(0, -2).to(chances.dtype).mean(0)
    return count * (selected / selected.sum().clamp_min(1e-9) * chances.flatten(0, -2).mean(0)).sum()


class DeMoE(nn.Module):
    """The mixture of one block; takes the place of its feed-forward layer.

    Args:
        shared: that layer; the shared expert, frozen while `config.use_experts`.
        width: the block's width c.
    """

    def __init__(self, shared: nn.Module, width: int, config: SataConfig) -> None:
        super().__init__()
        self.config = config
        self.shared = shared
        inner = max(config.min_expert_size, width // config.expert_reduction)
        keep = config.experts_per_token
        self.common = Experts(config.num_common_experts, width, inner)
        self.common_router = Router(config.num_common_experts, width, keep)
        self.project = nn.Linear(width, width)
        count = config.num_specific_experts
        self.specific = nn.ModuleList(Experts(count, width, inner) for _ in config.modalities)
        self.specific_routers = nn.ModuleList(Router(count, width, keep) for _ in config.modalities)
        self.modality_router = nn.Linear(width, len(config.modalities))
        self.routing = Routing(None)

    def start_from_zero(self) -> None:
        """Make the experts add nothing, so that switching them on changes no output."""
        for name, value in self.named_parameters():
            last = name.startswith("specific.") and name.split(".", 2)[2] in ("outer.weight", "bias")
            if last or name.startswith("project.") or name == "common.bias":
                init.zeros_(value)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[streams, h, w, c] to the same; the block adds its residual itself."""
        if not self.config.use_experts:
            return self.shared(tokens)
        load: dict[str, torch.Tensor] = {}
        if torch.is_grad_enabled():
            self.shared.requires_grad_(False)  # here, because loading a checkpoint makes parameters trainable again
        common = self.shared(tokens)
        gates, chances = self.common_router(tokens)
        prompts = self.common(tokens, gates)
        common = common + self.common_prompt(prompts)
        load["common"] = (gates > 0).flatten(0, -2).sum(0)
        self.note_balance(gates, chances)
        specific = self.specific_features(tokens, load)
        self.routing.common.append(common)
        self.routing.prompts.append(prompts)
        self.routing.specific.append(specific)
        self.routing.loads.append(load)
        return common + specific

    def common_prompt(self, prompts: torch.Tensor) -> torch.Tensor:
        """P^G = proj(P^R) * proj(P^X), the same for both streams of a pair."""
        projected = self.project(prompts)
        rgb, other = projected.chunk(2) if self.routing.paired else (projected, projected)
        joined = (1 + rgb) * (1 + other) - 1 if self.config.residual_prompt else rgb * other
        return torch.cat([joined, joined]) if self.routing.paired else joined

    def specific_features(self, tokens: torch.Tensor, load: dict[str, torch.Tensor]) -> torch.Tensor:
        """H^S: each sample by the experts of its modality."""
        modality = self.stream_modalities(tokens)
        features = torch.zeros_like(tokens)
        for index in modality.unique().tolist():
            rows = (modality == index).nonzero()[:, 0]
            own = tokens[rows]
            gates, chances = self.specific_routers[index](own)
            features = features.index_copy(0, rows, self.specific[index](own, gates).to(features.dtype))
            load[self.config.modalities[index]] = (gates > 0).flatten(0, -2).sum(0)
            self.note_balance(gates, chances)
        return features

    def note_balance(self, gates: torch.Tensor, chances: torch.Tensor) -> None:
        """Keep the load-balancing term; nobody asks for it where nothing is learned."""
        if torch.is_grad_enabled():
            self.routing.balance.append(balance_loss(gates, chances))

    def stream_modalities(self, tokens: torch.Tensor) -> torch.Tensor:
        """Which modality each stream is: the first is RGB or given, the other is given or read by the router."""
        others = tokens.chunk(2)[1] if self.routing.paired else tokens
        logits = self.modality_router(others.mean((1, 2)))
        self.routing.modality_logits.append(logits)
        modality = logits.argmax(-1) if self.routing.modality is None else self.routing.modality
        if not self.routing.paired:
            return modality
        first = torch.full_like(modality, RGB) if self.routing.first is None else self.routing.first
        return torch.cat([first, modality])
