"""reForge: A1111's samplers and ε- and v-models through a copy of ComfyUI's back end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

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
from .patcher import Entries, PatcherDenoiser


class ReForgeDenoiser(PatcherDenoiser):
    name = "reForge"
    negative_at_cfg_1 = (False, True)
    symbols: ClassVar[dict[str, int | None]] = {
        "ldm_patched.modules.conds.CONDRegular": 1,
        "ldm_patched.modules.samplers.calc_cond_batch": 5,
        "modules_forge.forge_sampler.cond_from_a1111_to_patched_ldm": 1,
        "modules_forge.forge_sampler.cond_from_a1111_to_patched_ldm_weighted": 2,
        "modules_forge.forge_sampler.sampling_cleanup": 1,
        "modules_forge.forge_sampler.sampling_prepare": 2,
    }
    tested: tuple[str, ...] = ("BaseModel", "SDXL")
    prepare = staticmethod(sampling_prepare)
    cleanup = staticmethod(sampling_cleanup)
    compile = staticmethod(cond_from_a1111_to_patched_ldm)
    compile_weighted = staticmethod(cond_from_a1111_to_patched_ldm_weighted)
    calculate = staticmethod(lambda model, conds, unconds, *rest: calc_cond_batch(model, [conds, unconds], *rest))

    def engine(self) -> str:
        return type(self.unet.model).__name__

    def check_model(self) -> None:
        kind = self.unet.model.model_type.name
        if kind not in ("EPS", "V_PREDICTION"):
            raise Unsupported(f'models that predict "{kind}" are not supported on this WebUI: set Inject to 0')
        if "model_sampling" in self.unet.object_patches:
            raise Unsupported('"Advanced Model Sampling" is not supported: switch it off')
        if hasattr(self.p.sd_model, "create_denoiser"):
            # Its flow modes leave their denoiser in the model, and the sampler goes on with that.
            raise Unsupported('"Advanced Model Sampling" has left its changes in the model: load the checkpoint again')
        super().check_model()

    @staticmethod
    def prediction(model: Any) -> str | None:
        objects = getattr(model, "forge_objects", None)
        kind = None if objects is None else getattr(objects.unet.model, "model_type", None)
        return {"EPS": "eps", "V_PREDICTION": "v"}.get(getattr(kind, "name", ""))

    concat: Tensor | None = None
    """What inpainting models take for mask and masked image."""

    @contextmanager
    def model_ready(self) -> Iterator[None]:
        if self.inpaints():
            # Before the UNet is loaded, which the VAE could push out again.
            self.concat = self.mask_and_image()
        with super().model_ready():
            yield

    @classmethod
    def table(cls, model: Any) -> Tensor:
        return model.forge_objects.unet.model.model_sampling.sigmas

    def complete(self, entries: Entries) -> None:
        super().complete(entries)
        if self.concat is not None:
            for entry in entries:
                entry["model_conds"]["c_concat"] = CONDRegular(self.concat)
