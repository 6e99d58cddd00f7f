"""Stable Diffusion 1.5's three networks, thin, under the names its checkpoints have.

A thin network stands for a wide one of SD1.5's own widths that computes the same numbers: every channel is there
several times, in such an order that each group of a normalisation holds whole copies. `checkpoint.py` writes that one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENT_CHANNELS, FACTOR = 4, 8
SCALE = 0.18215
"""What every WebUI multiplies the encoded image by."""
TIMESTEPS = 1000
LENGTH = 77
VAE_WIDTH, VAE_MULTIPLES, VAE_GROUPS = 16, (1, 1, 4, 4), 4
"""Four channels in a group at the full size, as in SD1.5: of fewer the last normalisation leaves no tone of grey."""
ENCODER_DEPTHS, DECODER_DEPTHS = (0, 1, 1, 1), (0, 1, 2, 2)
"""Residual blocks per level, from the full size down; those that SD1.5 has beyond them do nothing."""
WIDTH, MULTIPLES, BLOCKS = 64, (1, 2), 1
"""The UNet's channels, their multiples per level, and the residual blocks of a level."""
ATTENTION_FROM = 1
"""The first level with attention: at the full size it would cost more than all else."""
GROUPS, HEADS = 32, 8
TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS = 64, 2, 4

WORDS: dict[str, int] = {
    ",": 267,
    "a": 320,
    "above": 4348,
    "and": 537,
    "background": 5994,
    "below": 3788,
    "blue": 1746,
    "checked": 10387,
    "checks": 13737,
    "circle": 7117,
    "dots": 19019,
    "dotted": 47950,
    "drawing": 3610,
    "green": 1901,
    "left": 1823,
    "of": 539,
    "on": 525,
    "over": 962,
    "plain": 10709,
    "purple": 5496,
    "red": 736,
    "right": 1155,
    "ring": 2540,
    "square": 3999,
    "star": 1565,
    "striped": 22192,
    "stripes": 14239,
    "the": 518,
    "to": 531,
    "triangle": 14615,
    "under": 1798,
    "wall": 2569,
    "yellow": 4481,
}
"""CLIP's token of each word that prompts of the latent world have."""
BEGIN, END = 49406, 49407
VOCABULARY = 49408


def alphas_cumprod() -> Tensor:
    """Stable Diffusion's scaled-linear schedule, (1000,) float32."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention (n, heads, places, size); on few places of small heads this is quicker than PyTorch's own."""
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return (weights if mask is None else weights + mask).softmax(-1) @ v


class ResnetBlock(nn.Module):
    """The VAE's residual block."""

    def __init__(self, width: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width, eps=1e-6)
        self.conv1 = nn.Conv2d(width, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out, eps=1e-6)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        if out != width:
            self.nin_shortcut = nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class Shortcut(nn.Module):
    """A residual block of which only the way past it is there."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.nin_shortcut = nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.nin_shortcut(x)


class AttnBlock(nn.Module):
    """The VAE's attention over all places, one head."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2)[:, None] for layer in (self.q, self.k, self.v))
        h = attend(q, k, v)[:, 0]
        return x + self.proj_out(h.transpose(1, 2).unflatten(2, x.shape[2:]))


class Middle(nn.Module):
    """Block, attention, block."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(width, width, groups)
        self.attn_1 = AttnBlock(width, groups)
        self.block_2 = ResnetBlock(width, width, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Downsample(nn.Module):
    """Half the size; the VAE pads at the right and below only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The residual blocks of one size of the VAE, and the way to the next size."""

    def __init__(self, width: int, out: int, depth: int, groups: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(out if k else width, out, groups) for k in range(depth))
        if not depth and out != width:
            self.block.append(Shortcut(width, out))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        for name in ("downsample", "upsample"):
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return x


class Encoder(nn.Module):
    """Image (n, 3, h, w) to mean and log variance (n, 8, h/8, w/8)."""

    def __init__(self, width: int, multiples: Sequence[int], depths: Sequence[int], groups: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        widths = [width, *(multiple * width for multiple in multiples)]
        self.down = nn.ModuleList(Level(a, b, d, groups) for a, b, d in zip(widths, widths[1:], depths, strict=False))
        for level, out in zip(self.down[:-1], widths[1:], strict=False):
            level.downsample = Downsample(out)  # type: ignore[assignment]
        self.mid = Middle(widths[-1], groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * LATENT_CHANNELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """Latent (n, 4, h, w) to image (n, 3, 8h, 8w)."""

    def __init__(self, width: int, multiples: Sequence[int], depths: Sequence[int], groups: int) -> None:
        super().__init__()
        widths = [*(multiple * width for multiple in multiples), multiples[-1] * width]
        self.conv_in = nn.Conv2d(LATENT_CHANNELS, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], groups)
        self.up = nn.ModuleList(Level(a, b, d, groups) for a, b, d in zip(widths[1:], widths, depths, strict=False))
        for level, out in zip(self.up[1:], widths[1:], strict=False):
            level.upsample = Upsample(out)  # type: ignore[assignment]
        self.norm_out = nn.GroupNorm(groups, width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class AutoencoderKL(nn.Module):
    """The VAE; its latents times SCALE have unit variance once `train.py` has folded that in."""

    def __init__(
        self,
        width: int = VAE_WIDTH,
        multiples: Sequence[int] = VAE_MULTIPLES,
        encoder: Sequence[int] = ENCODER_DEPTHS,
        decoder: Sequence[int] = DECODER_DEPTHS,
        groups: int = VAE_GROUPS,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(width, multiples, encoder, groups)
        self.decoder = Decoder(width, multiples, decoder, groups)
        self.quant_conv = nn.Conv2d(2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1)
        self.post_quant_conv = nn.Conv2d(LATENT_CHANNELS, LATENT_CHANNELS, 1)

    def encode(self, images: Tensor) -> Tensor:
        """Mean of the latent, (n, 4, h/8, w/8), of images in [-1, 1]."""
        return self.quant_conv(self.encoder(images))[:, :LATENT_CHANNELS]

    def decode(self, latents: Tensor) -> Tensor:
        """Images near [-1, 1]."""
        return self.decoder(self.post_quant_conv(latents))


class CrossAttention(nn.Module):
    """Attention of places to themselves or to the prompt."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k, self.to_v = (nn.Linear(context, width, bias=False) for _ in range(2))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        parts = (self.to_q(x), self.to_k(context), self.to_v(context))
        q, k, v = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in parts)
        return self.to_out[0](attend(q, k, v).transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    """A gated linear layer."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Four times as wide in between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    """Self-attention, attention to the prompt, feed-forward."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1, self.attn2 = CrossAttention(width, width), CrossAttention(width, context)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer block over the places of a feature map."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, context)])
        self.proj_out = zero(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        h = self.transformer_blocks[0](h, context)
        return x + self.proj_out(h.transpose(1, 2).unflatten(2, x.shape[2:]))


class ResBlock(nn.Module):
    """The UNet's residual block, told the time."""

    def __init__(self, width: int, out: int, embedding: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, out), nn.SiLU(), nn.Identity(), zero(nn.Conv2d(out, out, 3, padding=1))
        )
        self.skip_connection = nn.Conv2d(width, out, 1) if out != width else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(embedding)[..., None, None]
        return self.skip_connection(x) + self.out_layers(h)


class UNetDownsample(nn.Module):
    """Half the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class UNetModel(nn.Module):
    """Epsilon-prediction UNet: latents (n, 4, h, w), timesteps (n,), prompt (n, 77, context)."""

    def __init__(
        self,
        width: int = WIDTH,
        multiples: Sequence[int] = MULTIPLES,
        blocks: int = BLOCKS,
        context: int = TEXT_WIDTH,
    ) -> None:
        super().__init__()
        self.width = width
        embedding = 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(LATENT_CHANNELS, width, 3, padding=1)])])
        skips, here = [width], width
        for level, multiple in enumerate(multiples):
            for _ in range(blocks):
                out = multiple * width
                layers: list[nn.Module] = [ResBlock(here, out, embedding)]
                if level >= ATTENTION_FROM:
                    layers.append(SpatialTransformer(out, context))
                self.input_blocks.append(nn.ModuleList(layers))
                here = out
                skips.append(here)
            if level < len(multiples) - 1:
                self.input_blocks.append(nn.ModuleList([UNetDownsample(here)]))
                skips.append(here)
        self.middle_block = nn.ModuleList(
            [ResBlock(here, here, embedding), SpatialTransformer(here, context), ResBlock(here, here, embedding)]
        )
        self.output_blocks = nn.ModuleList()
        for level, multiple in reversed(list(enumerate(multiples))):
            for k in range(blocks + 1):
                out = multiple * width
                layers = [ResBlock(here + skips.pop(), out, embedding)]
                here = out
                if level >= ATTENTION_FROM:
                    layers.append(SpatialTransformer(out, context))
                if level and k == blocks:
                    layers.append(Upsample(out))
                self.output_blocks.append(nn.ModuleList(layers))
        self.out = nn.Sequential(
            nn.GroupNorm(GROUPS, here), nn.SiLU(), zero(nn.Conv2d(here, LATENT_CHANNELS, 3, padding=1))
        )

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """Epsilon, (n, 4, h, w)."""
        embedding = self.time_embed(timestep_embedding(timesteps, self.width))
        h, skips = x, []
        for layers in self.input_blocks:
            h = _run(layers, h, embedding, context)
            skips.append(h)
        h = _run(self.middle_block, h, embedding, context)
        for layers in self.output_blocks:
            h = _run(layers, torch.cat([h, skips.pop()], 1), embedding, context)
        return self.out(h)


def _run(layers: nn.Module, h: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
    for layer in layers:  # type: ignore[attr-defined]
        if isinstance(layer, ResBlock):
            h = layer(h, embedding)
        elif isinstance(layer, SpatialTransformer):
            h = layer(h, context)
        else:
            h = layer(h)
    return h


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Cosines and sines of the timesteps, (n, width)."""
    rates = torch.exp(-math.log(10000) * torch.arange(width // 2, device=timesteps.device) / (width // 2))
    angles = timesteps.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], -1)


def zero(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all its parameters set to zero, so that a residual branch starts as nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class ClipAttention(nn.Module):
    """Attention of each token to those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        parts = (layer(x) for layer in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        length = x.shape[1]
        mask = torch.full((length, length), -torch.inf, dtype=q.dtype, device=x.device).triu(1)
        return self.out_proj(attend(q, k, v, mask).transpose(1, 2).flatten(2))


class ClipMlp(nn.Module):
    """CLIP's feed-forward."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc1(x)
        return self.fc2(h * torch.sigmoid(1.702 * h))


class ClipLayer(nn.Module):
    """A layer of the text encoder."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn, self.mlp = ClipAttention(width, heads), ClipMlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextModel(nn.Module):
    """CLIP's text encoder: tokens (n, 77) to (n, 77, width).

    Thin, it has rows for the tokens of WORDS, BEGIN and END only, and is asked with their indices.
    """

    def __init__(
        self,
        width: int = TEXT_WIDTH,
        layers: int = TEXT_LAYERS,
        heads: int = TEXT_HEADS,
        vocabulary: int | None = None,
    ) -> None:
        super().__init__()
        vocabulary = vocabulary or len(tokens_in_use())
        self.embeddings = nn.ModuleDict(
            {"token_embedding": nn.Embedding(vocabulary, width), "position_embedding": nn.Embedding(LENGTH, width)}
        )
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(ClipLayer(width, heads) for _ in range(layers))})
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = self.embeddings["position_embedding"].weight[: tokens.shape[1]]
        x = self.embeddings["token_embedding"](tokens) + positions
        for layer in self.encoder["layers"]:  # type: ignore[union-attr]
            x = layer(x)
        return self.final_layer_norm(x)


def tokens_in_use() -> list[int]:
    """The tokens that the thin encoder has rows for, in their order there."""
    return [*sorted(set(WORDS.values())), BEGIN, END]


def tokenize(prompts: Sequence[str]) -> Tensor:
    """Tokens of prompts as every WebUI makes them, (n, 77) int64; ValueError on a word that is not in WORDS."""
    rows = []
    for prompt in prompts:
        words = prompt.lower().replace(",", " , ").split()
        unknown = next((word for word in words if word not in WORDS), None)
        if unknown:
            raise ValueError(f"{unknown!r} is no word of the latent world; allowed: {', '.join(WORDS)}")
        row = [BEGIN, *(WORDS[word] for word in words)]
        rows.append(row + [END] * (LENGTH - len(row)))
    return torch.tensor(rows, dtype=torch.int64).view(-1, LENGTH)


def thin_tokens(tokens: Tensor) -> Tensor:
    """CLIP's tokens as indices of the thin encoder's rows."""
    table = torch.full((VOCABULARY,), -1, dtype=torch.int64)
    table[tokens_in_use()] = torch.arange(len(tokens_in_use()))
    return table[tokens]
