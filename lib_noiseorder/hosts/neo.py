"""Forge Neo: Forge with other models, whose latents may have five dimensions, of which the third is time."""

from __future__ import annotations

from typing import ClassVar

from .forge import ForgeHost


class NeoHost(ForgeHost):
    name = "Forge Neo"
    tried = ("StableDiffusion", "StableDiffusionXL", "Flux", "Flux2", "Chroma", "ZImage", "QwenImage", "Anima", "Wan")
    unfit: ClassVar[dict[str, str]] = {"PiD": "work on the pixels of a finished picture, in windows of their own"}
