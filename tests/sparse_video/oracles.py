"""What the tests of rectified attention are held against: the definition, written out token by token, slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from plugins.sparse_video.config import RectifiedAttentionConfig
from plugins.sparse_video.executors import EXECUTORS
from plugins.sparse_video.order import block_adjacency, token_order

# How far an executor may lie from the fp64 oracle, relative to the oracle's norm.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def available_executors(device: str, dtype: torch.dtype) -> list[str]:
    """Names of the executors that run on this device with this dtype."""
    return [name for name in EXECUTORS if EXECUTORS[name].unavailable(torch.device(device), dtype) is None]


def devices() -> list[str]:
    """The kinds of device that this machine has."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def relative_error(output: Tensor, expected: Tensor) -> float:
    """Norm of the difference, relative to the norm of what was expected."""
    expected = expected.double().cpu()
    return float((output.double().cpu() - expected).norm() / expected.norm().clamp(min=1e-30))


def random_qkv(
    tokens: int, *, batch: int = 1, heads: int = 2, dim: int = 16, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Independent normal queries, keys and values, [batch, heads, tokens, dim] on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, batch, heads, tokens, dim, generator=generator, dtype=torch.float64).unbind()
    return q.to(dtype), k.to(dtype), v.to(dtype)


def smooth_qkv(
    grid: tuple[int, int, int], *, heads: int = 4, dim: int = 64, strength: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Smooth fields over a grid under white noise, [1, heads, tokens, dim] in fp32; strength is that of q and k."""
    generator = np.random.default_rng(seed)
    fields = []
    for _ in range(3):
        field = gaussian_filter(generator.normal(size=(heads * dim, *grid)), sigma=(0, 1.5, 1.5, 1.5), mode="nearest")
        field = field / field.std() + 0.3 * generator.normal(size=field.shape)
        fields.append(torch.tensor(field.reshape(1, heads, dim, -1), dtype=torch.float32).transpose(2, 3).contiguous())
    return fields[0] * strength, fields[1] * strength, fields[2]


def masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention under a bool mask, broadcastable to [batch, heads, queries, keys]; 0 where all is masked."""
    logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    weights = logits.masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num(0.0)
    return weights @ value


@dataclass(frozen=True)
class Written:
    """The definition's answer: the output, and what led to it in block order, [batch, heads, N(, N)]."""

    output: Tensor
    chosen: Tensor
    attention: Tensor
    text_attention: Tensor
    factor: Tensor


def written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    config: RectifiedAttentionConfig,
    *,
    grid: tuple[int, int, int] | None = None,
    text_tokens: int = 0,
    text_first: bool = False,
    key_mask: Tensor | None = None,
) -> Written:
    """Rectified SpaAttn (arXiv 2511.19835) from its formulas, one head and one query block at a time, in fp64."""
    query, key, value = query.double(), key.double(), value.double()
    batch, heads, total, _ = query.shape
    tokens = total - text_tokens
    places = torch.arange(total)
    text = places[:text_tokens] if text_first else places[tokens:]
    visual = places[text_tokens:] if text_first else places[:tokens]
    if grid is None:
        adjacent = torch.from_numpy(block_adjacency((np.arange(tokens) // config.block_size).reshape(tokens, 1, 1)))
    else:
        order = token_order(grid, config.order, config.block_size)
        visual, adjacent = visual[order.permutation], order.adjacency
    if not config.neighbors:
        adjacent = torch.zeros_like(adjacent)
    blocks = list(visual.split(config.block_size))
    number = len(blocks)
    valid = torch.ones(batch, total, dtype=torch.bool) if key_mask is None else key_mask
    result = Written(
        torch.zeros_like(query),
        torch.zeros(batch, heads, number, number, dtype=torch.bool),
        torch.zeros(batch, heads, number, number, dtype=torch.float64),
        torch.zeros(batch, heads, number, dtype=torch.float64),
        torch.zeros(batch, heads, number, dtype=torch.float64),
    )
    for b in range(batch):
        for h in range(heads):
            head = _Head(
                query[b, h],
                key[b, h],
                value[b, h],
                [block[valid[b, block]] for block in blocks],
                [[part[valid[b, part]] for part in block.split(config.tokens_per_centroid)] for block in blocks],
                text[valid[b, text]],
                config,
            )
            for i in range(number):
                on, pooled, p, p_text = head.decide(i, adjacent[i].tolist())
                result.chosen[b, h, i, on] = True
                result.attention[b, h, i] = torch.tensor(p)
                result.text_attention[b, h, i] = p_text
                result.factor[b, h, i] = 1 - sum(p[j] for j in pooled)
                result.output[b, h, blocks[i]] = head.attend(i, blocks[i], on, pooled, p)
    if text_tokens:
        mask = valid[:, None, None, :]
        result.output[:, :, text] = masked_attention(query[:, :, text], key, value, mask)
    return result


class _Head:
    """One head of one sample: q, k, v [tokens, d]; the valid tokens of each block, of its parts, of the text."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        blocks: list[Tensor],
        parts: list[list[Tensor]],
        text: Tensor,
        config: RectifiedAttentionConfig,
    ) -> None:
        self.q, self.k, self.v, self.blocks, self.parts = q, k, v, blocks, parts
        self.text, self.config = text, config
        self.scale = q.shape[1] ** -0.5
        self.q_mean, self.k_mean, self.v_mean = ([_mean(x[block]) for block in blocks] for x in (q, k, v))
        self.q_spread = [_mean((q[i] - mean).abs()) for i, mean in zip(blocks, self.q_mean, strict=True)]
        self.k_spread = [_mean((k[j] - mean).abs()) for j, mean in zip(blocks, self.k_mean, strict=True)]
        self.offset = _mean(k[torch.cat(blocks)]) if config.gate == "centered" else torch.zeros(q.shape[1])

    def decide(self, i: int, adjacent: list[bool]) -> tuple[list[int], list[int], list[float], float]:
        """Blocks computed, blocks added back, P on the blocks, P on the text."""
        number = range(len(self.blocks))
        full = [j for j in number if len(self.blocks[j])]
        mass = {j: len(self.blocks[j]) * math.exp(float(self.q_mean[i] @ self.k_mean[j]) * self.scale) for j in full}
        of_text = sum(math.exp(float(self.q_mean[i] @ self.k[t]) * self.scale) for t in self.text)
        whole = sum(mass.values()) + of_text
        p = [mass[j] / whole if j in mass else 0.0 for j in number]
        ranking = sorted(full, key=lambda j: (-mass[j], j))
        on = set(ranking[: max(1, round(self.config.density * len(number)))])
        if self.config.top_p is not None:
            held = 0.0
            for j in ranking:
                if held > self.config.top_p:
                    break
                on.add(j)
                held += mass[j] / sum(mass.values())
        on |= {j for j in full if adjacent[j]}
        pooled = [j for j in full if j not in on and self._opens(i, j)]
        return sorted(on), pooled, p, of_text / whole if whole else 0.0

    def _opens(self, i: int, j: int) -> bool:
        """GAPR: is there more gain than error in block j's mean?"""
        if self.config.rectify != "paper":
            return self.config.rectify == "centroid"
        k_mean = self.k_mean[j] - self.offset
        error = abs(float(self.q_spread[i] @ k_mean)) + abs(float(self.q_mean[i] @ self.k_spread[j]))
        return abs(float(self.q_mean[i] @ k_mean)) > error

    def attend(self, i: int, rows: Tensor, on: list[int], pooled: list[int], p: list[float]) -> Tensor:
        """Output of these queries, from the attention that each of them really pays to each single token."""
        exact = torch.cat([*[self.blocks[j] for j in on], self.text])
        weights = torch.zeros(len(rows), len(self.q), dtype=torch.float64)
        logits = self.q[rows] @ self.k.T * self.scale
        if self.config.rectify == "centroid":
            for part in (part for j in pooled for part in self.parts[j] if len(part)):
                # Every token of a part with the logit of its mean key, and in all the weight they have for the mean
                # query of block i.
                mean = self.k[part].mean(0)
                blur = (self.k[part] - mean) @ self.q_mean[i] * self.scale
                logits[:, part] = (self.q[rows] @ mean * self.scale + blur.exp().mean().log()).unsqueeze(-1)
            seen = torch.cat([exact, *[self.blocks[j] for j in pooled]])
            weights[:, seen] = logits[:, seen].softmax(-1)
            return weights @ self.v
        weights[:, exact] = logits[:, exact].softmax(-1) * (1 - sum(p[j] for j in pooled))
        for j in pooled:
            weights[:, self.blocks[j]] = p[j] / len(self.blocks[j])
        return weights @ self.v


def _mean(rows: Tensor) -> Tensor:
    return rows.mean(0) if len(rows) else rows.new_zeros(rows.shape[1])
