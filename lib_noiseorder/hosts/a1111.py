"""AUTOMATIC1111 v1.10.1: ε- and v-models with k-diffusion's wrapper around them, and SD3, a flow model."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from k_diffusion import external
from modules import devices, prompt_parser, shared
from torch import Tensor, nn

from ..core import Denoised, Level, Unsupported
from .base import WebUIDenoiser, is_out_of_memory


class A1111Denoiser(WebUIDenoiser):
    name = "AUTOMATIC1111"
    symbols: ClassVar[dict[str, int | None]] = {
        "k_diffusion.external.CompVisDenoiser": 1,
        "k_diffusion.external.CompVisVDenoiser": 1,
    }

    def __init__(self, p: Any, noise: Tensor, c: Any, uc: Any, latent: Tensor | None = None) -> None:
        super().__init__(p, noise, c, uc, latent)
        model = p.sd_model
        # The host's own test for flow: its sampler mixes noise and image by this method where the model has it.
        self.mix = getattr(model, "add_noise_to_latent", None)

    one_call = True
    """Whether there was memory for prompt and negative prompt together, in this batch."""

    @cached_property
    def image_conditioned(self) -> bool:
        return self.inpaints()

    @cached_property
    def wrapper(self) -> Any:
        """x̂0(x, σ) as k-diffusion's samplers have it; it serves whatever sampler was chosen, DDIM and UniPC too.

        Made here and not by `create_sampler`, which extensions with samplers of their own (Tiled Diffusion) replace.
        """
        return denoiser_of(self.p.sd_model)

    def sigmas(self) -> Tensor:
        return self.wrapper.sigmas

    @staticmethod
    def network_of(model: Any) -> nn.Module:
        return model.model.diffusion_model

    @staticmethod
    def prediction(model: Any) -> str | None:
        if getattr(model, "is_sd3", False):
            return "flow"
        return {"eps": "eps", "v": "v"}.get(getattr(model, "parameterization", ""))

    @classmethod
    def table(cls, model: Any) -> Tensor:
        return denoiser_of(model).sigmas

    def noise_scaling(self, noise: Tensor, level: Level, latent: Tensor | None = None) -> Tensor:
        """Flow: `x = z`; around an image `x = (1 − σ) x0 + σ z`."""
        latent = self.latent if latent is None else latent
        if self.mix is None:
            return super().noise_scaling(noise, level, latent)
        return noise if latent is None else self.mix(latent, noise, level.sigma)

    def evaluate_model(self, x: Tensor, sigma: Tensor, with_uncond: bool) -> Denoised:
        # The wrapped model and not CFGDenoiser at scale 1: exact, and no callback, preview or step counter moves.
        parts, cond = prompt_parser.reconstruct_multicond_batch(self.c, self.step)
        rows = [image for image, part in enumerate(parts) for _ in part]
        concat = self.image_conditioning(x)
        negative = prompt_parser.reconstruct_cond_batch(self.uc, self.step) if with_uncond else None
        denoised = uncond = None
        if negative is not None:
            denoised, uncond = self.evaluate_both(x, sigma, rows, cond, negative, concat)
        if denoised is None:
            denoised = self.wrapper(x[rows], sigma[rows], cond=conditioning(cond, concat[rows]))
            self.rows += len(rows)
            if negative is not None:
                uncond = self.wrapper(x, sigma, cond=conditioning(negative, concat))
                self.rows += x.shape[0]
        return Denoised(
            torch.stack([compose(part, denoised, uncond, image) for image, part in enumerate(parts)]), uncond
        )

    def evaluate_both(
        self, x: Tensor, sigma: Tensor, rows: list[int], cond: Any, negative: Any, concat: Tensor
    ) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Prompt and negative prompt in one call, as the sampler asks them; None where the host's setting or other
        lengths keep them apart, or the memory does not suffice."""
        text = join(cond, negative)
        if text is None or not self.one_call or not shared.opts.batch_cond_uncond:
            return None, None
        try:
            both = conditioning(text, torch.cat([concat[rows], concat]))
            answer = self.wrapper(torch.cat([x[rows], x]), torch.cat([sigma[rows], sigma]), cond=both)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.one_call = False
        else:
            self.rows += len(answer)
            return answer[: len(rows)], answer[len(rows) :]
        # Only now that the error is let go, which holds what the call had made.
        devices.torch_gc()
        return None, None

    def image_conditioning(self, x: Tensor) -> Tensor:
        """What the sampler will be given: (B, 5, 1, 1) zeros, and for inpainting models mask and masked image."""
        return self.mask_and_image() if self.image_conditioned else x.new_zeros(x.shape[0], 5, 1, 1)


def denoiser_of(model: Any) -> Any:
    """k-diffusion's wrapper of a model."""
    if hasattr(model, "create_denoiser"):  # SD3
        return model.create_denoiser()
    kind = external.CompVisVDenoiser if model.parameterization == "v" else external.CompVisDenoiser
    return kind(model, quantize=shared.opts.enable_quantization)


def conditioning(cond: Any, concat: Tensor) -> dict[str, Any]:
    """The prompt's part, a tensor for SD1 and SD2 and a dict for SDXL and SD3, and the image's part."""
    return {**cond, "c_concat": [concat]} if isinstance(cond, dict) else {"c_crossattn": [cond], "c_concat": [concat]}


def join(cond: Any, negative: Any) -> Any:
    """Both prompts' conditionings as one batch, None where they have other lengths or another form."""
    if isinstance(cond, dict) != isinstance(negative, dict):
        return None
    if isinstance(cond, dict):
        parts = {name: join(value, negative[name]) for name, value in cond.items()}
        return None if any(part is None for part in parts.values()) else parts
    return torch.cat([cond, negative]) if cond.shape[1:] == negative.shape[1:] else None


def compose(part: list[tuple[int, float]], denoised: Tensor, uncond: Tensor | None, image: int) -> Tensor:
    """AND of one image: `u + Σ_j w_j (c_j − u)`, and without u the mean `Σ_j w_j c_j / Σ_j w_j`."""
    if len(part) == 1 and (part[0][1] == 1 or uncond is None):
        return denoised[part[0][0]]
    if uncond is not None:
        return uncond[image] + sum(weight * (denoised[row] - uncond[image]) for row, weight in part)
    total = sum(weight for _, weight in part)
    if abs(total) < 1e-3:
        raise Unsupported('the weights of the prompts joined by AND cancel out: use the direction "guidance"')
    return sum(weight * denoised[row] for row, weight in part) / total  # type: ignore[return-value]
