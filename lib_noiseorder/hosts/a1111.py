"""AUTOMATIC1111 v1.10.1: ε- and v-models with k-diffusion's wrapper around them."""

from __future__ import annotations

import math
from typing import Any

import torch
from modules import prompt_parser, sd_samplers
from torch import Tensor

from ..core import Denoised, Level, Unsupported
from .base import WebUIHost


class A1111Host(WebUIHost):
    name = "AUTOMATIC1111"

    def __init__(self, p: Any, noise: Tensor, c: Any, uc: Any, latent: Tensor | None = None) -> None:
        super().__init__(p, noise, c, uc, latent)
        model = p.sd_model
        if getattr(model, "is_sd3", False):
            raise Unsupported("SD3 models are not supported on this WebUI; use Forge")
        key = getattr(model.model, "conditioning_key", None)
        self.image_conditioned = key in ("hybrid", "concat")
        if key not in ("crossattn", "hybrid", "concat", None) or getattr(model, "cond_stage_key", None) == "edit":
            raise Unsupported(f'models with "{key}" conditioning (pix2pix, unCLIP) are not supported')
        if self.image_conditioned and self.is_hires:
            raise Unsupported("the hires pass of inpainting models is not supported")
        # A sampler of our own, only for its wrapper x̂0(x, σ): it serves whatever sampler was chosen, DDIM and
        # UniPC too, and the sampler that will run keeps its state.
        self.wrapper = sd_samplers.create_sampler("Euler", model).model_wrap_cfg.inner_model

    @staticmethod
    def prediction(model: Any) -> str | None:
        if getattr(model, "is_sd3", False):
            return "flow"
        return {"eps": "eps", "v": "v"}.get(getattr(model, "parameterization", ""))

    def sigmas(self) -> Tensor:
        return self.wrapper.sigmas

    def place(self, noise: Tensor, level: Level) -> Tensor:
        """`x = z √(1 + σ²)`, the network itself then sees exactly z; around an image `x = x0 + σ z`."""
        if self.latent is not None:
            return self.latent + level.sigma * noise
        return noise * math.sqrt(1 + level.sigma**2)

    def ask_model(self, x: Tensor, sigma: Tensor, with_uncond: bool) -> Denoised:
        # The wrapped model and not CFGDenoiser at scale 1: exact, and no callback, preview or step counter moves.
        parts, cond = prompt_parser.reconstruct_multicond_batch(self.c, 0)
        rows = [image for image, part in enumerate(parts) for _ in part]
        concat = self.image_conditioning(x)
        found = self.wrapper(x[rows], sigma[rows], cond=conditioning(cond, concat[rows]))
        self.rows += len(rows)
        uncond = None
        if with_uncond:
            negative = prompt_parser.reconstruct_cond_batch(self.uc, 0)
            uncond = self.wrapper(x, sigma, cond=conditioning(negative, concat))
            self.rows += x.shape[0]
        return Denoised(torch.stack([compose(part, found, uncond, image) for image, part in enumerate(parts)]), uncond)

    def image_conditioning(self, x: Tensor) -> Tensor:
        """What the sampler will be given: (B, 5, 1, 1) zeros, and for inpainting models mask and masked image."""
        if not self.image_conditioned:
            return x.new_zeros(x.shape[0], 5, 1, 1)
        made = self.p.txt2img_image_conditioning(self.noise) if self.latent is None else self.p.image_conditioning
        return made.expand(x.shape[0], *made.shape[1:])


def conditioning(cond: Any, concat: Tensor) -> dict[str, Any]:
    """The prompt's part, a tensor for SD1 and SD2 and a dict for SDXL, and the image's part."""
    return {**cond, "c_concat": [concat]} if isinstance(cond, dict) else {"c_crossattn": [cond], "c_concat": [concat]}


def compose(part: list[tuple[int, float]], found: Tensor, uncond: Tensor | None, image: int) -> Tensor:
    """AND of one image: `u + Σ_j w_j (c_j − u)`, and without u the mean `Σ_j w_j c_j / Σ_j w_j`."""
    if len(part) == 1 and (part[0][1] == 1 or uncond is None):
        return found[part[0][0]]
    if uncond is not None:
        return uncond[image] + sum(weight * (found[row] - uncond[image]) for row, weight in part)
    total = sum(weight for _, weight in part)
    if abs(total) < 1e-3:
        raise Unsupported('the weights of the prompts joined by AND cancel out: use the direction "guidance"')
    return sum(weight * found[row] for row, weight in part) / total  # type: ignore[return-value]
