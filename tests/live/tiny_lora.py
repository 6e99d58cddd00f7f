"""A LoRA of a few kB for the first attention block of an SD1 UNet, in the key names both hosts read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

BLOCK = "input_blocks.1.1.transformer_blocks.0."
KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_"
RANK = 2


def write_lora(unet: Mapping[str, Tensor], data: Path) -> None:
    """Write DATA/models/Lora/tiny.safetensors, with an effect as large as the weights themselves.

    unet: the UNet's state, by the names it has inside the UNet.
    """
    generator = torch.Generator().manual_seed(7)
    state = {}
    for layer in ("attn1.to_q", "attn1.to_v", "attn2.to_q", "attn2.to_v"):
        rows, columns = unet[f"{BLOCK}{layer}.weight"].shape
        name = KOHYA + layer.replace(".", "_")
        state[f"{name}.lora_up.weight"] = torch.randn(rows, RANK, generator=generator)
        state[f"{name}.lora_down.weight"] = torch.randn(RANK, columns, generator=generator) * columns**-0.5
        state[f"{name}.alpha"] = torch.tensor(float(RANK))
    folder = data / "models" / "Lora"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "tiny.safetensors")
