"""An extension for measuring with the latent world's checkpoint: link `benchmarks/latent/quick` into `extensions/`.

The WebUIs insist on wide networks, which compute what the thin ones that were trained compute (see checkpoint.py): here
the thin ones answer in their place. Images are the same within rounding; AUTOMATIC1111 is twice as quick so, the Forges
more than ten times. Only where the checkpoint of that name is loaded, and on a CPU alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from modules import script_callbacks
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from latent.layout import TEXT_WIDTH
from latent.sample import Model

NAME = "latent-world"


def quicken(model: Any) -> None:
    """Let the thin networks answer for a loaded checkpoint's wide ones."""
    if NAME not in model.sd_checkpoint_info.name:
        return
    thin = Model()
    objects = getattr(model, "forge_objects", None)
    vae = objects.vae.first_stage_model if objects is not None else model.first_stage_model
    vae.decode = lambda latents, *_, **__: thin.vae.decode(latents.float()).to(latents)
    if objects is None:  # AUTOMATIC1111's UNet is the thin one already
        return

    def forward(x: Tensor, timesteps: Tensor, context: Tensor, **_: Any) -> Tensor:
        # Of a wide text encoder each channel is there several times in a row.
        context = context[..., :: context.shape[-1] // TEXT_WIDTH]
        return thin.unet(x.float(), timesteps, context.float()).to(x)

    objects.unet.model.diffusion_model.forward = forward


script_callbacks.on_model_loaded(quicken)
