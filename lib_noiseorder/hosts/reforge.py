"""reForge: A1111's samplers and ε- and v-models through a copy of ComfyUI's back end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ldm_patched.modules.conds import CONDRegular
from ldm_patched.modules.samplers import calc_cond_batch
from modules_forge.forge_sampler import (
    cond_from_a1111_to_patched_ldm,
    cond_from_a1111_to_patched_ldm_weighted,
    sampling_cleanup,
    sampling_prepare,
)
from torch import Tensor

from ..core import Unsupported
from .patcher import Entries, PatcherHost


class ReForgeHost(PatcherHost):
    name = "reForge"
    prepare = staticmethod(sampling_prepare)
    cleanup = staticmethod(sampling_cleanup)
    compile = staticmethod(cond_from_a1111_to_patched_ldm)
    compile_weighted = staticmethod(cond_from_a1111_to_patched_ldm_weighted)
    calculate = staticmethod(lambda model, conds, unconds, *rest: calc_cond_batch(model, [conds, unconds], *rest))

    def __init__(self, p: Any, noise: Tensor, c: Any, uc: Any, latent: Tensor | None = None) -> None:
        super().__init__(p, noise, c, uc, latent)
        kind = self.unet.model.model_type.name
        if kind not in ("EPS", "V_PREDICTION"):
            raise Unsupported(f'models that predict "{kind}" are not supported on this WebUI')
        if "model_sampling" in self.unet.object_patches:
            raise Unsupported('"Advanced Model Sampling" is not supported: switch it off')
        if hasattr(p.sd_model, "create_denoiser"):
            # Its flow modes leave their denoiser in the model, and the sampler goes on with that.
            raise Unsupported('"Advanced Model Sampling" has left its changes in the model: load the checkpoint again')
        self.concat: Tensor | None = None
        self.image_conditioned = self.inpaints()

    @staticmethod
    def prediction(model: Any) -> str | None:
        objects = getattr(model, "forge_objects", None)
        kind = None if objects is None else getattr(objects.unet.model, "model_type", None)
        return {"EPS": "eps", "V_PREDICTION": "v"}.get(getattr(kind, "name", ""))

    @contextmanager
    def model_ready(self) -> Iterator[None]:
        if self.image_conditioned:
            # Before the UNet is loaded, which the VAE could push out again.
            self.concat = self.mask_and_image()
        with super().model_ready():
            yield

    @staticmethod
    def table(model: Any) -> Tensor:
        return model.forge_objects.unet.model.model_sampling.sigmas

    def sigmas(self) -> Tensor:
        return self.unet.model.model_sampling.sigmas

    def complete(self, entries: Entries) -> None:
        super().complete(entries)
        if self.concat is not None:
            for entry in entries:
                entry["model_conds"]["c_concat"] = CONDRegular(self.concat)
