"""Small text-conditional networks, epsilon UNets and rectified-flow DiTs, each of its world, behind one denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ..presets import DISTILLED
from . import clutter, scenes
from .world import CHANNELS, SIZE, World

Kind = Literal["epsilon", "flow"]

WEIGHTS = Path(__file__).parent / "weights"
TIMESTEPS = 1000
_DATA_VARIANCE = 0.45
"""Roughly the variance of rendered scenes: it sets how the flow network's input and output are scaled."""


def sigma_table() -> Tensor:
    """Stable Diffusion's scaled-linear schedule as sigmas sqrt((1 - abar) / abar), (1000,) float64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    abar = torch.cumprod(1 - betas, 0)
    return ((1 - abar) / abar).sqrt()


_SIGMAS = sigma_table()


def timestep_to_sigma(timestep: Tensor) -> Tensor:
    """Sigma at timesteps in [0, 999]; log-linear between whole ones."""
    logs = _SIGMAS.log().to(timestep.device)
    low = timestep.double().clamp(0, TIMESTEPS - 1).floor().long().clamp(max=TIMESTEPS - 2)
    sigma = torch.lerp(logs[low], logs[low + 1], timestep.double().clamp(0, TIMESTEPS - 1) - low).exp()
    return sigma.to(timestep.dtype)


def sigma_to_timestep(sigma: Tensor) -> Tensor:
    """Fractional timestep in [0, 999] of a sigma, clamped at both ends; inverts `timestep_to_sigma`."""
    logs = _SIGMAS.log().to(sigma.device)
    log = sigma.double().log().clamp(logs[0], logs[-1])
    low = torch.searchsorted(logs, log, right=True).sub(1).clamp(0, TIMESTEPS - 2)
    return (low + (log - logs[low]) / (logs[low + 1] - logs[low])).to(sigma.dtype)


def append_dims(values: Tensor, rank: int) -> Tensor:
    """Append dimensions of size 1 until the tensor has `rank` dimensions."""
    return values.reshape(values.shape + (1,) * (rank - values.ndim))


class TimeEmbedding(nn.Module):
    """Sinusoids of a time in [0, 1000], (n,) -> (n, width), through a small MLP."""

    def __init__(self, width: int, features: int = 128) -> None:
        super().__init__()
        self.features = features
        self.mlp = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        half = self.features // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, device=time.device) / half)
        angles = time.float()[:, None] * frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], 1))


class Attention(nn.Module):
    """Multi-head attention of (n, a, width) on a context (n, b, context width), itself by default."""

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(context_width or width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # Written out: on a CPU the fused kernel's backward is several times slower at these sizes.
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1)
        return self.out((weights.to(value.dtype) @ value).transpose(1, 2).flatten(2))


def feed_forward(width: int, ratio: int) -> nn.Sequential:
    """Linear, SiLU, linear."""
    return nn.Sequential(nn.Linear(width, ratio * width), nn.SiLU(), nn.Linear(ratio * width, width))


def grid_embedding(side: int, width: int) -> Tensor:
    """Sines and cosines of row and column, (1, side * side, width), to start position parameters from."""
    frequencies = math.pi / side * 2.0 ** torch.linspace(0, math.log2(side), width // 4)
    angles = torch.arange(side)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = axis[:, None].expand(-1, side, -1), axis[None].expand(side, -1, -1)
    return torch.cat([rows, columns], 2).reshape(1, side**2, width)


class TextEncoder(nn.Module):
    """Tokens (n, k) -> one vector per token (n, k, width) and a pooled one (n, pooled width)."""

    def __init__(self, world: World, width: int, pooled: int) -> None:
        super().__init__()
        self.words = nn.Embedding(len(world.VOCABULARY), width)
        self.places = nn.Parameter(0.3 * torch.randn(1, world.TOKENS, width))
        nn.init.normal_(self.words.weight, std=0.3)
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads=4)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = feed_forward(width, 2)
        self.norm_out = nn.LayerNorm(width)
        self.pool = nn.Sequential(nn.Linear(world.TOKENS * width, pooled), nn.SiLU(), nn.Linear(pooled, pooled))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.words(tokens) + self.places
        x = x + self.attention(self.norm_attention(x))
        x = self.norm_out(x + self.feed(self.norm_feed(x)))
        return x, self.pool(x.flatten(1))


class ResBlock(nn.Module):
    """Two convolutions with the time and caption embedding as scale and shift between them."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(8, inputs)
        self.conv_in = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.norm_out = nn.GroupNorm(8, outputs)
        self.conv_out = zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = self.conv_out(F.silu(self.norm_out(h) * (1 + scale) + shift))
        return self.skip(x) + h


class CrossAttentionBlock(nn.Module):
    """Self-attention over the places of a feature map, cross-attention to the caption, feed-forward."""

    def __init__(self, width: int, context_width: int, side: int, heads: int = 4) -> None:
        super().__init__()
        self.places = nn.Parameter(0.2 * grid_embedding(side, width))
        self.norm_self = nn.LayerNorm(width)
        self.attend_self = Attention(width, heads)
        self.norm_text = nn.LayerNorm(width)
        self.attend_text = Attention(width, heads, context_width)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = feed_forward(width, 3)
        for layer in (self.attend_self.out, self.attend_text.out, self.feed[-1]):
            zero(layer)  # type: ignore[arg-type]

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        y = x.flatten(2).transpose(1, 2) + self.places
        y = y + self.attend_self(self.norm_self(y))
        y = y + self.attend_text(self.norm_text(y), context)
        y = y + self.feed(self.norm_feed(y))
        return y.transpose(1, 2).unflatten(2, x.shape[2:])


class UNet(nn.Module):
    """Epsilon-prediction UNet with cross-attention, on Stable Diffusion's schedule."""

    kind: Kind = "epsilon"

    def __init__(
        self, world: World = scenes, outer: int = 64, inner: int = 128, embedding: int = 160, text: int = 96
    ) -> None:
        super().__init__()
        self.text = TextEncoder(world, text, embedding)
        self.time = TimeEmbedding(embedding)
        side = SIZE // 2
        self.conv_in = nn.Conv2d(CHANNELS, outer, 3, padding=1)
        self.res_down = ResBlock(outer, outer, embedding)
        self.down = nn.Conv2d(outer, inner, 3, stride=2, padding=1)
        self.res_encode = ResBlock(inner, inner, embedding)
        self.attend_encode = CrossAttentionBlock(inner, text, side)
        self.res_middle = ResBlock(inner, inner, embedding)
        self.attend_middle = CrossAttentionBlock(inner, text, side)
        self.res_decode = ResBlock(2 * inner, inner, embedding)
        self.attend_decode = CrossAttentionBlock(inner, text, side)
        self.up = nn.Conv2d(inner, outer, 3, padding=1)
        self.res_up = ResBlock(2 * outer, outer, embedding)
        self.norm_out = nn.GroupNorm(8, outer)
        self.conv_out = zero(nn.Conv2d(outer, CHANNELS, 3, padding=1))

    def body(self, x: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        """What the layers put out: v = sqrt(abar) epsilon - sqrt(1 - abar) x0."""
        context, pooled = self.text(tokens)
        embedding = F.silu(self.time(timestep) + pooled)
        skip = self.res_down(self.conv_in(x), embedding)
        h = self.attend_encode(self.res_encode(self.down(skip), embedding), context)
        inner_skip = h
        h = self.attend_middle(self.res_middle(h, embedding), context)
        h = self.attend_decode(self.res_decode(torch.cat([h, inner_skip], 1), embedding), context)
        h = self.up(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        h = self.res_up(torch.cat([h, skip], 1), embedding)
        return self.conv_out(F.silu(self.norm_out(h)))

    def forward(self, x: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        """Epsilon for x = sqrt(abar) x0 + sqrt(1 - abar) epsilon at timesteps (n,) in [0, 999]."""
        # Near pure noise epsilon is x itself, whatever the layout: an epsilon loss is blind to it. The layers
        # therefore learn v.
        sigma = append_dims(timestep_to_sigma(timestep.to(x.dtype)), x.ndim)
        v = self.body(x, timestep, tokens).to(x.dtype)
        return (v + sigma * x) / (1 + sigma**2).sqrt()


class DiTBlock(nn.Module):
    """Joint attention over image patches and caption, modulated by time and caption (adaLN-zero)."""

    def __init__(self, width: int, heads: int, embedding: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.norm_feed = nn.LayerNorm(width, elementwise_affine=False)
        self.feed = feed_forward(width, 4)
        self.modulation = zero(nn.Linear(embedding, 6 * width))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale_a, shift_a, gate_a, scale_f, shift_f, gate_f = self.modulation(embedding)[:, None].chunk(6, -1)
        x = x + gate_a * self.attention(self.norm_attention(x) * (1 + scale_a) + shift_a)
        return x + gate_f * self.feed(self.norm_feed(x) * (1 + scale_f) + shift_f)


class DiT(nn.Module):
    """Rectified-flow diffusion transformer; the caption's tokens stand beside the image's patches."""

    kind: Kind = "flow"

    def __init__(
        self,
        world: World = scenes,
        width: int = 160,
        depth: int = 5,
        heads: int = 5,
        embedding: int = 160,
        text: int = 96,
        patch: int = 2,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.text = TextEncoder(world, text, embedding)
        self.time = TimeEmbedding(embedding)
        # A patch is read with its surroundings: sprites do not lie on the patch grid.
        self.patches_in = nn.Conv2d(CHANNELS, width, 3 * patch, stride=patch, padding=patch)
        self.text_in = nn.Linear(text, width)
        self.places = nn.Parameter(0.5 * grid_embedding(SIZE // patch, width))
        self.blocks = nn.ModuleList(DiTBlock(width, heads, embedding) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation_out = zero(nn.Linear(embedding, 2 * width))
        self.patches_out = zero(nn.Linear(width, CHANNELS * patch**2))

    def body(self, x: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        """What the layers put out, for an input scaled to unit variance: the residual of `forward`."""
        context, pooled = self.text(tokens)
        embedding = F.silu(self.time(1000 * time) + pooled)
        patches = self.patches_in(x).flatten(2).transpose(1, 2) + self.places
        count = patches.shape[1]
        h = torch.cat([patches, self.text_in(context)], 1)
        for block in self.blocks:
            h = block(h, embedding)
        scale, shift = self.modulation_out(embedding)[:, None].chunk(2, -1)
        out = self.patches_out(self.norm_out(h[:, :count]) * (1 + scale) + shift)
        side = SIZE // self.patch
        return F.pixel_shuffle(out.transpose(1, 2).unflatten(2, (side, side)), self.patch)

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        """Velocity epsilon - x0 for x = (1 - t) x0 + t epsilon, t in [0, 1]."""
        # The best guess linear in x is given; the layers put out the rest of the velocity at unit scale.
        t = append_dims(time.to(x.dtype), x.ndim)
        variance = (1 - t) ** 2 * _DATA_VARIANCE + t**2
        rest = self.body(x * variance.rsqrt(), time, tokens).to(x.dtype)
        return (t - (1 - t) * _DATA_VARIANCE) / variance * x + (_DATA_VARIANCE / variance).sqrt() * rest


def zero(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """The layer with all its parameters set to zero, so that a residual branch starts as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


@dataclass(frozen=True)
class Description:
    """A playground model in words, its world, its family (a key of presets.FAMILIES) and how its network is built."""

    words: str
    world: World
    family: str
    network: Callable[[], UNet | DiT]
    distilled: int | None = None
    """The number of steps it was distilled to, its guidance baked in; None for an ordinary model."""


MODELS: dict[str, Description] = {
    "unet": Description("UNet, ε-prediction", scenes, "eps", UNet),
    "dit": Description("DiT, rectified flow", scenes, "flow", DiT),
    "few": Description("DiT distilled to 4 steps", scenes, DISTILLED, DiT, distilled=4),
    "clutter-unet": Description(
        "UNet of the cluttered world, ε-prediction", clutter, "eps", partial(UNet, clutter, outer=56, inner=112)
    ),
    "clutter-dit": Description(
        "DiT of the cluttered world, rectified flow", clutter, "flow", partial(DiT, clutter, width=140, embedding=140)
    ),
}


class PlaygroundModel:
    """A trained network as a denoiser in k-diffusion's convention, with a deterministic sampler."""

    def __init__(self, name: str, network: UNet | DiT) -> None:
        self.name = name
        self.world = MODELS[name].world
        self.has_uncond = MODELS[name].distilled is None
        """Whether it can be asked without a prompt, as CFG does."""
        self.kind: Kind = network.kind
        self.network = network.eval().requires_grad_(False)
        self.evaluations = 0
        """Images evaluated by the network so far (a batch of n counts n, guidance counts twice)."""

    @classmethod
    def load(cls, name: str, path: Path | None = None, device: str | torch.device = "cpu") -> PlaygroundModel:
        """Load a model of MODELS in float32, by default the shipped weights; ValueError on any other name."""
        if name not in MODELS:
            raise ValueError(f"unknown playground model {name!r}; allowed: {', '.join(MODELS)}")
        network = MODELS[name].network()
        network.load_state_dict(load_file(path or WEIGHTS / f"{name}.safetensors"))
        return cls(name, network.float().to(device))

    def sigma_at(self, fraction: float) -> float:
        """Sigma at a position of the schedule, 1 = pure noise; raise ValueError outside [0, 1]."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction {fraction} is outside [0, 1]")
        if self.kind == "flow":
            return float(fraction)
        return _SIGMAS[round((TIMESTEPS - 1) * fraction)].item()

    def noise_scaling(self, noise: Tensor, sigma: float) -> Tensor:
        """The x at `sigma` for which the network's own input is the unit-variance `noise` itself."""
        return noise if self.kind == "flow" else noise * (1 + sigma**2) ** 0.5

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: float | Tensor, tokens: Tensor) -> Tensor:
        """Denoised x0 (n, 3, 16, 16) of x at sigma (one, or one per image) for tokens (n, k)."""
        self.evaluations += len(x)
        sigmas = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        scale = append_dims(sigmas, x.ndim)
        if self.kind == "flow":
            return x - scale * self.network(x, sigmas, tokens)
        return x - scale * self.network(x / (1 + scale**2).sqrt(), sigma_to_timestep(sigmas), tokens)

    def guide(self, x: Tensor, sigma: float, tokens: Tensor, uncond_tokens: Tensor | None, cfg_scale: float) -> Tensor:
        """Denoised x0 under CFG; conditional only (one evaluation per image) at scale 1."""
        if cfg_scale == 1:
            return self.denoise(x, sigma, tokens)
        if not self.has_uncond:
            raise ValueError(f"CFG scale {cfg_scale} with {self.name!r}, whose guidance is baked in; use CFG scale 1")
        if uncond_tokens is None:
            raise ValueError(f"CFG scale {cfg_scale} needs uncond_tokens; give them or use scale 1")
        cond, uncond = self.denoise(torch.cat([x, x]), sigma, torch.cat([tokens, uncond_tokens])).chunk(2)
        return uncond + cfg_scale * (cond - uncond)

    def sample(
        self,
        noise: Tensor,
        tokens: Tensor,
        uncond_tokens: Tensor | None,
        cfg_scale: float,
        steps: int,
        callback: Callable[[int, int, Tensor], Any] | None = None,
    ) -> Tensor:
        """Images from unit-variance noise (n, 3, 16, 16) by DDIM or Euler steps."""
        if steps < 1:
            raise ValueError(f"steps is {steps}; at least 1 is needed")
        sigmas = [self.sigma_at(1 - step / steps) for step in range(steps)] + [0.0]
        x = self.noise_scaling(noise, sigmas[0])
        for step in range(steps):
            denoised = self.guide(x, sigmas[step], tokens, uncond_tokens, cfg_scale)
            # Along the straight line to x0; for epsilon models this step is DDIM with eta 0.
            x = x + (x - denoised) / sigmas[step] * (sigmas[step + 1] - sigmas[step])
            if callback is not None:
                callback(step, steps, denoised)
        return x
