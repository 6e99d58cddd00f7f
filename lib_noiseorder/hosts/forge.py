"""Forge: ε-, v- and flow models through its backend."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from backend.sampling.condition import compile_conditions, compile_weighted_conditions
from backend.sampling.sampling_function import calc_cond_uncond_batch, sampling_cleanup, sampling_prepare
from torch import Tensor

from ..core import Level, Unsupported
from .patcher import PatcherDenoiser


class ForgeDenoiser(PatcherDenoiser):
    name = "Forge"
    negative_at_cfg_1 = (False, False)
    hires_calls = 2  # with the same noise, the first time with the patches of the first pass still on
    symbols: ClassVar[dict[str, int | None]] = {
        "backend.sampling.condition.compile_conditions": 1,
        "backend.sampling.condition.compile_weighted_conditions": 2,
        "backend.sampling.sampling_function.calc_cond_uncond_batch": 6,
        "backend.sampling.sampling_function.sampling_cleanup": 1,
        "backend.sampling.sampling_function.sampling_prepare": 2,
    }
    tested: tuple[str, ...] = ("StableDiffusion", "StableDiffusionXL", "StableDiffusion3", "Flux", "Chroma")
    prepare = staticmethod(sampling_prepare)
    cleanup = staticmethod(sampling_cleanup)
    compile = staticmethod(compile_conditions)
    compile_weighted = staticmethod(compile_weighted_conditions)
    calculate = staticmethod(calc_cond_uncond_batch)

    def __init__(self, p: Any, noise: Tensor, c: Any, uc: Any, latent: Tensor | None = None) -> None:
        if noise.ndim == 5 and noise.shape[2] != 1:
            # Neo's Wan: the batch size is the number of frames, all of them of one seed.
            raise Unsupported("videos are not supported, only single images: set the batch size to 1")
        if noise.ndim not in (4, 5):
            raise Unsupported(f"latents of {noise.ndim} dimensions are not supported: switch Noise Order off")
        super().__init__(p, noise, c, uc, latent)

    @property
    def predictor(self) -> Any:
        return self.unet.model.predictor

    def check_model(self) -> None:
        if self.p.sd_model.is_inpaint:
            raise Unsupported("inpainting models are not supported: set Inject to 0")
        kind = self.predictor.prediction_type
        if kind not in ("epsilon", "v_prediction", "const"):
            raise Unsupported(f'models that predict "{kind}" are not supported: set Inject to 0')
        super().check_model()
        if not self.mixes_as_known():
            raise Unsupported(
                f'the model mixes noise and image in a way that is not known of "{kind}": set Inject to 0'
            )

    def mixes_as_known(self) -> bool:
        """Whether the network is given z where sampling begins, and an image and its noise as models of its type are.

        By what the predictor does with numbers: Cosmos (ersatzForge) says ε, and its network takes x / (σ + 1).
        """
        sigma = torch.full((1, 1, 1, 1), 0.75)
        none, one = torch.zeros_like(sigma), torch.ones_like(sigma)
        is_flow = self.predictor.prediction_type == "const"
        mixtures = (
            self.predictor.calculate_input(sigma, one if is_flow else one * 1.25),  # √(1 + 0.75²)
            self.predictor.noise_scaling(sigma, one, none),
            self.predictor.noise_scaling(sigma, none, one),
        )
        return torch.allclose(torch.stack(mixtures).flatten(), torch.tensor([1, 0.75, 0.25 if is_flow else 1]))

    @staticmethod
    def prediction(model: Any) -> str | None:
        # Before the first generation a placeholder without any of these stands for the model.
        objects = getattr(model, "forge_objects", None)
        predictor = None if objects is None else getattr(objects.unet.model, "predictor", None)
        kinds = {"epsilon": "eps", "v_prediction": "v", "const": "flow"}
        return kinds.get(getattr(predictor, "prediction_type", ""))

    @classmethod
    def table(cls, model: Any) -> Tensor:
        return model.forge_objects.unet.model.predictor.sigmas

    def noise_scaling(self, noise: Tensor, level: Level, latent: Tensor | None = None) -> Tensor:
        """ε and v: `x = z √(1 + σ²)`, the network then sees z; flow: `x = z`. With an image the host's mixture."""
        latent = self.latent if latent is None else latent
        if latent is not None:
            return self.predictor.noise_scaling(torch.as_tensor(level.sigma), noise, latent)
        return noise if self.predictor.prediction_type == "const" else noise * math.sqrt(1 + level.sigma**2)
