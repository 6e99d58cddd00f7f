"""Forge: ε-, v- and flow models through its backend."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from backend.sampling.condition import compile_conditions, compile_weighted_conditions
from backend.sampling.sampling_function import calc_cond_uncond_batch, sampling_cleanup, sampling_prepare
from modules import prompt_parser
from torch import Tensor

from ..core import Denoised, Level, Unsupported
from .base import WebUIHost


class ForgeHost(WebUIHost):
    name = "Forge"

    def __init__(self, p: Any, noise: Tensor, c: Any, uc: Any, latent: Tensor | None = None) -> None:
        super().__init__(p, noise, c, uc, latent)
        if self.is_hires:
            self.cfg_scale = float(p.hr_cfg)
        if getattr(p.sd_model, "is_inpaint", False):
            raise Unsupported("inpainting models are not supported")
        # The patcher object the sampler will use: LoRA, ControlNet and the patches of other scripts hang on it. A
        # clone would be another model to Forge's memory management and be loaded again.
        self.unet = p.sd_model.forge_objects.unet
        if getattr(self.unet, "extra_concat_condition", None) is not None:
            raise Unsupported("an image condition set by another extension is not supported")
        self.predictor = self.unet.model.predictor
        if self.predictor.prediction_type not in ("epsilon", "v_prediction", "const"):
            raise Unsupported(f'models that predict "{self.predictor.prediction_type}" are not supported')

    @staticmethod
    def prediction(model: Any) -> str | None:
        # Before the first generation a placeholder without any of these stands for the model.
        objects = getattr(model, "forge_objects", None)
        predictor = None if objects is None else getattr(objects.unet.model, "predictor", None)
        kinds = {"epsilon": "eps", "v_prediction": "v", "const": "flow"}
        return kinds.get(getattr(predictor, "prediction_type", ""))

    @contextmanager
    def model_ready(self) -> Iterator[None]:
        # sampling_prepare merges LoRA and loads ControlNet, but appends to this list in place (Forge main :377).
        loaded = self.unet.extra_model_patchers_during_sampling
        before = list(loaded)
        sampling_prepare(self.unet, self.noise)
        try:
            yield
        finally:
            sampling_cleanup(self.unet)
            loaded[:] = before

    def sigmas(self) -> Tensor:
        return self.predictor.sigmas

    def place(self, noise: Tensor, level: Level) -> Tensor:
        """ε and v: `x = z √(1 + σ²)`, the network then sees z; flow: `x = z`. With an image the host's mixture."""
        if self.latent is not None:
            return self.predictor.noise_scaling(torch.as_tensor(level.sigma), noise, self.latent)
        return noise if self.predictor.prediction_type == "const" else noise * math.sqrt(1 + level.sigma**2)

    def ask_model(self, x: Tensor, sigma: Tensor, with_uncond: bool) -> Denoised:
        # Not CFGDenoiser: at scale 1 it still multiplies AND and runs post-CFG patches, it may switch to the refiner,
        # and it raises a BaseException on interruption.
        parts, cond = prompt_parser.reconstruct_multicond_batch(self.c, 0)
        conds = compile_weighted_conditions(cond, parts)
        unconds = compile_conditions(prompt_parser.reconstruct_cond_batch(self.uc, 0)) if with_uncond else []
        control = self.unet.controlnet_linked_list
        if control is not None:
            for entry in conds + unconds:
                entry["control"] = control
        weight = sum(entry["strength"] for entry in conds)
        if len(conds) > 1 and abs(weight) < 1e-3:
            raise Unsupported("the weights of the prompts joined by AND cancel out")
        model, options, seed = self.unet.model, self.unet.model_options, self.seeds[0]
        # Revision's image prompt comes this way; it goes over both lists and takes no None.
        for modify in options.get("conditioning_modifiers", []):
            model, x, sigma, unconds, conds, _, options, seed = modify(
                model, x, sigma, unconds, conds, self.cfg_scale, options, seed
            )
        found, negative = calc_cond_uncond_batch(model, conds, unconds or None, x, sigma, options)
        self.rows += x.shape[0] * (len(conds) + len(unconds))
        if not with_uncond:
            return Denoised(found, None)
        # Forge gives the weighted mean of the prompts joined by AND, and guides by the sum of their weights.
        return Denoised(negative + weight * (found - negative) if weight != 1 else found, negative)
