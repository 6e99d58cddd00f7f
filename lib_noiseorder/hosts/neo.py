"""Forge Neo: Forge with other models, whose latents may have five dimensions, of which the third is time."""

from __future__ import annotations

from typing import Any, ClassVar

from .forge import ForgeDenoiser


class NeoDenoiser(ForgeDenoiser):
    name = "Forge Neo"
    hires_calls = 1
    tested = (
        *("StableDiffusion", "StableDiffusionXL", "Flux", "Flux2", "Chroma", "ZImage", "QwenImage", "Anima", "Wan"),
        *("Lumina2", "Krea2", "ErnieImage", "Mugen"),
    )
    unfit: ClassVar[dict[str, str]] = {"PiD": "work on the pixels of a finished picture, in windows of their own"}
    step_caches = ("fbcache",)  # First Block Cache of trees newer than 2.26

    @staticmethod
    def hires_infotext(p: Any) -> dict[str, Any]:
        keys = {
            "Hires Distilled CFG Scale": getattr(p.sd_model, "use_distilled_cfg_scale", False) and p.hr_distilled_cfg,
            "Hires Shift": getattr(p.sd_model, "use_shift", False) and p.hr_distilled_cfg,
            "Hires sampler": p.hr_sampler_name if p.hr_sampler_name != p.sampler_name else None,
            "Hires schedule type": p.hr_scheduler if p.hr_scheduler != p.scheduler else None,
            "Hires upscaler": p.hr_upscaler,
            "Hires steps": p.hr_second_pass_steps or None,
            "Denoising strength": p.denoising_strength,
            "Hires CFG Scale": p.hr_cfg,
            "Hires prompt": p.get_hr_prompt,
            "Hires negative prompt": p.get_hr_negative_prompt,
        }
        return {key: value for key, value in keys.items() if value is not None and value is not False}
