"""ersatzForge: Forge in everything but the step at which the sampler begins around an image."""

from __future__ import annotations

from .forge import ForgeDenoiser


class ErsatzDenoiser(ForgeDenoiser):
    name = "ersatzForge"
    tested = (
        *("StableDiffusion", "StableDiffusionXL", "Flux", "Chroma", "Zimage", "Lumina2", "Krea2", "Flux2"),
        *("ERNIE", "Anima", "StableDiffusion3"),
    )
    extra_steps = 0
    hires_calls = 1
