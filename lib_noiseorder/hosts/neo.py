"""Forge Neo: Forge with other models, whose latents may have five dimensions, of which the third is time."""

from __future__ import annotations

from .forge import ForgeHost


class NeoHost(ForgeHost):
    name = "Forge Neo"
    engines = ("StableDiffusion", "StableDiffusionXL", "Flux", "Flux2", "ZImage", "QwenImage", "Anima", "Wan")
