"""Write the latent world's trained checkpoint as a file that a WebUI loads.

    python benchmarks/latent/checkpoint.py FILE.safetensors            Forge, reForge, Forge Neo, ersatzForge
    python benchmarks/latent/checkpoint.py FILE.safetensors --thin     AUTOMATIC1111: 20 MB and quick

The first has the widths of SD1.5, which all but AUTOMATIC1111 insist on; it computes the same numbers as the thin
networks that were trained, with every channel several times. AUTOMATIC1111 takes the sizes from a .yaml, written beside
either. --clip FOLDER also writes tokenizer and sizes of the text encoder there, out of CLIP's list of merges (--merges,
or that of open_clip where it is installed), so that AUTOMATIC1111 needs no hub.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from latent import layout

WEIGHTS = Path(__file__).parent / "weights"
UNKNOWN_SEED = 5
"""Of the rows of the words that no prompt of the latent world has."""
GROUPS = 32
"""Of every normalisation in a WebUI."""
CLIP = "openai/clip-vit-large-patch14"


@dataclass(frozen=True)
class Widths:
    """How wide a checkpoint's networks are; the thin ones' widths are what was trained."""

    unet: int
    vae: int
    vae_multiples: tuple[int, ...]
    text: int
    text_layers: int
    text_heads: int
    blocks: int
    """Residual blocks per level of the VAE's encoder; its decoder has one more."""

    @property
    def head(self) -> int:
        """Channels of a head of the text encoder."""
        return self.text // self.text_heads


FULL = Widths(unet=320, vae=128, vae_multiples=(1, 2, 4, 4), text=768, text_layers=12, text_heads=12, blocks=2)
# A WebUI's normalisations have 32 groups, the thin VAE's 4: so its channels have to be there eight times.
THIN = Widths(
    unet=layout.WIDTH,
    vae=8 * layout.VAE_WIDTH,
    vae_multiples=layout.VAE_MULTIPLES,
    text=layout.TEXT_WIDTH,
    text_layers=layout.TEXT_LAYERS,
    text_heads=layout.TEXT_HEADS,
    blocks=1,
)
Channels = Callable[[int], Tensor]
"""From a number of thin channels to which of them each wide channel is."""


def repeated(times: int) -> Channels:
    """Every channel so many times in a row: groups of a normalisation grow, their number stays."""
    return lambda count: torch.arange(count).repeat_interleave(times)


def tiled(count: int, wide: int) -> Tensor:
    """The VAE's channels: all of them as often as its groups have to be there, each in a row as often as its group."""
    tiles = GROUPS // layout.VAE_GROUPS
    return torch.arange(count).repeat_interleave(wide // count // tiles).repeat(tiles)


def spread(value: Tensor, dim: int, channels: Tensor, share: bool) -> Tensor:
    """Channels along a dimension by their index; share: as inputs, of which each copy counts a part."""
    copies = len(channels) // value.shape[dim] if share else 1
    return value.index_select(dim, channels) / copies


def in_heads(value: Tensor, dim: int, heads: int, wide_heads: int, wide: int) -> Tensor:
    """Attention's inner channels along a dimension, set into wider heads; the rest is nought."""
    parts = value.movedim(dim, 0).unflatten(0, (heads, -1))
    out = parts.new_zeros(wide_heads, wide, *parts.shape[2:])
    out[:heads, : parts.shape[1]] = parts
    return out.flatten(0, 1).movedim(0, dim).contiguous()


def widen_vae(thin: dict[str, Tensor], widths: Widths) -> dict[str, Tensor]:
    """The VAE in these widths; blocks that the thin one has not do nothing."""
    depths = [widths.blocks] * len(widths.vae_multiples)
    with torch.device("meta"):
        sizes = (widths.vae, widths.vae_multiples, depths, [depth + 1 for depth in depths], GROUPS)
        shapes = layout.AutoencoderKL(*sizes).state_dict()
    state = {}
    for name, shape in shapes.items():
        value = thin.get(name)
        if name.endswith("nin_shortcut.weight") and value is None:
            # Thin, the level is as wide as the one before.
            width = layout.VAE_WIDTH * layout.VAE_MULTIPLES[int(name.split(".")[2])]
            value = torch.eye(width)[..., None, None]
        if value is None:
            state[name] = torch.full(shape.shape, float("norm" in name and name.endswith("weight")))
            continue
        for dim in range(min(value.ndim, 2)):
            if value.shape[dim] != shape.shape[dim]:
                value = spread(value, dim, tiled(value.shape[dim], shape.shape[dim]), share=dim == 1)
        if "attn_1.q." in name or "attn_1.k." in name:
            value = value * (len(value) / len(thin[name])) ** -0.25
        state[name] = value
    return state


def widen_unet(thin: dict[str, Tensor], widths: Widths) -> dict[str, Tensor]:
    """The UNet in these widths."""
    times = widths.unet // layout.WIDTH
    channels, context = repeated(times), repeated(widths.text // layout.TEXT_WIDTH)
    state = {}
    for name, value in thin.items():
        if name == "time_embed.0.weight":
            # Of a wider embedding's frequencies every fifth is one of the thin embedding's.
            value = spread(value, 0, channels(value.shape[0]), share=False)
            wide = value.new_zeros(value.shape[0], widths.unet)
            wide[:, ::times] = value
            state[name] = wide
            continue
        attention = ".attn1." in name or ".attn2." in name
        inner_out = attention and ".to_out." not in name
        inner_in = attention and name.endswith("to_out.0.weight")
        if inner_out:
            head = value.shape[0] // layout.HEADS
            value = in_heads(value, 0, layout.HEADS, layout.HEADS, times * head)
            value = value * times**0.5 if ".to_q." in name else value
        elif not name.startswith("out.2."):
            value = spread(value, 0, channels(value.shape[0]), share=False)
        if inner_in:
            value = in_heads(value, 1, layout.HEADS, layout.HEADS, times * value.shape[1] // layout.HEADS)
        elif value.ndim > 1 and name != "input_blocks.0.0.weight":
            of = context if ".attn2.to_k." in name or ".attn2.to_v." in name else channels
            value = spread(value, 1, of(value.shape[1]), share=True)
        state[name] = value
    return state


def widen_text(thin: dict[str, Tensor], widths: Widths) -> dict[str, Tensor]:
    """The text encoder in these widths, with rows for all of CLIP's words; further layers do nothing."""
    times = widths.text // layout.TEXT_WIDTH
    channels = repeated(times)
    with torch.device("meta"):
        sizes = (widths.text, widths.text_layers, widths.text_heads, layout.VOCABULARY)
        shapes = layout.TextModel(*sizes).state_dict()
    generator = torch.Generator().manual_seed(UNKNOWN_SEED)
    state = {"embeddings.position_ids": torch.arange(layout.LENGTH)[None]}
    for name, shape in shapes.items():
        value = thin.get(name)
        if value is None:
            state[name] = torch.full(shape.shape, float("norm" in name and name.endswith("weight")))
            continue
        if "token_embedding" in name:
            rows = value.std() * 3**0.5 * (2 * torch.rand(layout.VOCABULARY, value.shape[1], generator=generator) - 1)
            rows[layout.tokens_in_use()] = value
            value = rows
        inner = ".self_attn." in name
        heads = (layout.TEXT_HEADS, widths.text_heads, widths.head)
        if "embedding" in name:
            value = spread(value, 1, channels(value.shape[1]), share=False)
        elif inner and ".out_proj." not in name:
            value = in_heads(value, 0, *heads)
            if ".q_proj." in name:
                value = value * (widths.head / THIN.head) ** 0.5
            if value.ndim > 1:
                value = spread(value, 1, channels(value.shape[1]), share=True)
        else:
            value = spread(value, 0, channels(value.shape[0]), share=False)
            if inner and value.ndim > 1:
                value = in_heads(value, 1, *heads)
            elif value.ndim > 1:
                value = spread(value, 1, channels(value.shape[1]), share=True)
        state[name] = value
    return state


def thin_weights(folder: Path = WEIGHTS) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """The trained VAE, text encoder and UNet, in float32."""
    vae, rest = (
        {name: value.float() for name, value in load_file(folder / f"{part}.safetensors").items()}
        for part in ("vae", "unet")
    )
    text, unet = (
        {name.removeprefix(prefix): value for name, value in rest.items() if name.startswith(prefix)}
        for prefix in ("text.", "unet.")
    )
    return vae, text, unet


def checkpoint(widths: Widths, folder: Path = WEIGHTS) -> dict[str, Tensor]:
    """A whole checkpoint in fp16, by SD1.5's names."""
    vae, text, unet = thin_weights(folder)
    parts = {
        "first_stage_model.": widen_vae(vae, widths),
        "cond_stage_model.transformer.text_model.": widen_text(text, widths),
        "model.diffusion_model.": widen_unet(unet, widths),
    }
    state = {prefix + name: value for prefix, part in parts.items() for name, value in part.items()}
    return {name: (v.half() if v.is_floating_point() else v).contiguous() for name, v in state.items()}


def config(widths: Widths, clip: str = CLIP) -> dict[str, Any]:
    """The sizes as AUTOMATIC1111 reads them; clip: folder or hub's name of its tokenizer."""
    unet = {
        "image_size": 32,
        "in_channels": layout.LATENT_CHANNELS,
        "out_channels": layout.LATENT_CHANNELS,
        "model_channels": widths.unet,
        "attention_resolutions": [2**level for level in range(layout.ATTENTION_FROM, len(layout.MULTIPLES))],
        "num_res_blocks": layout.BLOCKS,
        "channel_mult": list(layout.MULTIPLES),
        "num_heads": layout.HEADS,
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": widths.text,
        "use_checkpoint": False,
        "legacy": False,
    }
    vae = {
        "double_z": True,
        "z_channels": layout.LATENT_CHANNELS,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": widths.vae,
        "ch_mult": list(widths.vae_multiples),
        "num_res_blocks": widths.blocks,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    params = {
        "linear_start": 0.00085,
        "linear_end": 0.0120,
        "num_timesteps_cond": 1,
        "log_every_t": 200,
        "timesteps": layout.TIMESTEPS,
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": 64,
        "channels": layout.LATENT_CHANNELS,
        "cond_stage_trainable": False,
        "conditioning_key": "crossattn",
        "monitor": "val/loss_simple_ema",
        "scale_factor": layout.SCALE,
        "use_ema": False,
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": unet},
        "first_stage_config": {
            "target": "ldm.models.autoencoder.AutoencoderKL",
            "params": {
                "embed_dim": layout.LATENT_CHANNELS,
                "monitor": "val/rec_loss",
                "ddconfig": vae,
                "lossconfig": {"target": "torch.nn.Identity"},
            },
        },
        "cond_stage_config": {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"version": clip},
        },
    }
    return {
        "model": {"base_learning_rate": 1e-4, "target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}
    }


def merges_of_open_clip() -> Path:
    """CLIP's list of merges, as open_clip brings it."""
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("--clip needs CLIP's list of merges: give --merges FILE, or use a Python that has open_clip")
    return Path(package.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"


def write_clip(folder: Path, widths: Widths, path: Path) -> None:
    """Tokenizer and configuration of the text encoder, in the form that transformers loads."""
    count = layout.VOCABULARY - 2 * 256 - 2
    merges = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : count + 1]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(byte) for byte in printable] + [chr(256 + k) for k in range(256 - len(printable))]
    vocabulary = [*characters, *(c + "</w>" for c in characters), *("".join(pair.split()) for pair in merges)]
    begin, end = "<|startoftext|>", "<|endoftext|>"
    special = {"bos_token": begin, "eos_token": end, "unk_token": end, "pad_token": end}
    sizes = {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "hidden_size": widths.text,
        "intermediate_size": 4 * widths.text,
        "num_hidden_layers": widths.text_layers,
        "num_attention_heads": widths.text_heads,
        "projection_dim": widths.text,
        "vocab_size": layout.VOCABULARY,
        "max_position_embeddings": layout.LENGTH,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    files = {
        "vocab.json": {token: index for index, token in enumerate([*vocabulary, begin, end])},
        "special_tokens_map.json": special,
        "tokenizer_config.json": {
            "tokenizer_class": "CLIPTokenizer",
            "do_lower_case": True,
            "model_max_length": layout.LENGTH,
            "add_prefix_space": False,
            "errors": "replace",
            **special,
        },
        "config.json": sizes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--thin", action="store_true", help="in the widths that were trained, for AUTOMATIC1111 only")
    parser.add_argument("--clip", type=Path, help="a folder to write tokenizer and sizes of the text encoder into")
    parser.add_argument("--merges", type=Path, help="bpe_simple_vocab_16e6.txt.gz of CLIP")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    widths = THIN if args.thin else FULL
    args.file.parent.mkdir(parents=True, exist_ok=True)
    save_file(checkpoint(widths, args.weights), args.file)
    clip = CLIP
    if args.clip:
        write_clip(args.clip, widths, args.merges or merges_of_open_clip())
        clip = str(args.clip.resolve())
    # JSON is YAML.
    args.file.with_suffix(".yaml").write_text(json.dumps(config(widths, clip), indent=1), encoding="utf-8")
    print(f"{args.file}: {args.file.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
