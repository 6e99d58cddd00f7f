"""What Forge and reForge share: the model in a patcher, and conditionings as lists of entries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

from modules import prompt_parser
from torch import Tensor, nn

from .. import log
from ..core import Denoised, Level, Unsupported
from ..core.statistics import rms
from .base import WebUIDenoiser
from .isolation import require_model

Entries = list[dict[str, Any]]


class PatcherDenoiser(WebUIDenoiser):
    name: str
    # The host's own functions.
    prepare: staticmethod[[Any, Tensor], None]
    cleanup: staticmethod[[Any], None]
    compile: staticmethod[[Any], Entries]
    compile_weighted: staticmethod[[Any, list[list[tuple[int, float]]]], Entries]
    calculate: staticmethod[[Any, Entries, Entries | None, Tensor, Tensor, Any], tuple[Tensor, Tensor]]
    """x̂0 of both lists; without a second list the second x̂0 has no meaning."""
    tested: tuple[str, ...] = ()
    """Its classes of models that were run; of another it is told once, and its answer is looked at."""
    unfit: ClassVar[dict[str, str]] = {}
    """Its classes of models that are known not to work, and what they do otherwise."""
    step_caches: tuple[str, ...] = ()
    """The host's own caches of what its network made in an earlier step: their keys in the transformer's options."""

    def __init__(self, p: Any, noise: Tensor, c: Any, uc: Any, latent: Tensor | None = None) -> None:
        super().__init__(p, noise, c, uc, latent)
        if self.is_hires:
            self.cfg_scale = float(p.hr_cfg)

    @cached_property
    def unet(self) -> Any:
        """The patcher object the sampler will use: LoRA, ControlNet and the patches of other scripts hang on it.

        A clone would be another model to the host's memory management and be loaded again.
        """
        return self.p.sd_model.forge_objects.unet

    @staticmethod
    def network_of(model: Any) -> nn.Module:
        return model.forge_objects.unet.model.diffusion_model

    @staticmethod
    def options_of(model: Any) -> Any:
        return model.forge_objects.unet.model_options

    def engine(self) -> str:
        """The class of the loaded model, by the host's name of it."""
        return type(self.p.sd_model).__name__

    def check_model(self) -> None:
        engine = self.engine()
        if engine in self.unfit:
            raise Unsupported(
                f'models of the class "{engine}" are not supported, which {self.unfit[engine]}: set Inject to 0'
            )
        if getattr(self.unet, "extra_concat_condition", None) is not None:
            raise Unsupported("an image condition set by another extension is not supported: set Inject to 0")
        if engine not in self.tested and engine not in self.untried.reported:
            self.untried.reported.add(engine)
            log.warn(
                f'not tried by us on {self.name}: models of the class "{engine}". Its first answer is '
                "checked: it has to differ with the prompt"
            )

    def denoise(self, x: Tensor, level: Level, with_uncond: bool) -> Denoised:
        """Of a model not tested, the first answer has to differ with the prompt."""
        engine = self.engine()
        if engine in self.tested or engine in self.untried.responsive or not self.has_uncond:
            return super().denoise(x, level, with_uncond)
        denoised, negative = super().denoise(x, level, True)
        assert negative is not None
        # Beyond rounding; NaN is refused for what it is.
        if bool((rms(denoised - negative) <= 1e-6 * rms(denoised)).all()):
            raise Unsupported(
                f'models of the class "{engine}" were not tried by us, and this one answers the same to the prompt and '
                "to the negative prompt: write another prompt, or set Inject to 0"
            )
        if bool(denoised.isfinite().all()) and bool(negative.isfinite().all()):
            self.untried.responsive.add(engine)
        return Denoised(denoised, negative if with_uncond else None)

    @contextmanager
    def model_ready(self) -> Iterator[None]:
        # The host's preparation merges LoRA and loads ControlNet, but appends to this list in place.
        patchers = self.unet.extra_model_patchers_during_sampling
        before = list(patchers)
        self.prepare(self.unet, self.noise)
        try:
            yield
        finally:
            self.cleanup(self.unet)
            patchers[:] = before

    def evaluate_model(self, x: Tensor, sigma: Tensor, with_uncond: bool) -> Denoised:
        # Not CFGDenoiser: at scale 1 it still multiplies AND and runs post-CFG patches, it may switch to the refiner,
        # and it raises a BaseException on interruption.
        parts, cond = prompt_parser.reconstruct_multicond_batch(self.c, self.step)
        conds = self.compile_weighted(cond, parts)
        unconds = self.compile(prompt_parser.reconstruct_cond_batch(self.uc, self.step)) if with_uncond else []
        self.complete(conds + unconds)
        weight = sum(entry["strength"] for entry in conds)
        if len(conds) > 1 and abs(weight) < 1e-3:
            raise Unsupported("the weights of the prompts joined by AND cancel out")
        model, options, seed = self.unet.model, self.without_caches(self.unet.model_options), self.seeds[0]
        # Revision's image prompt comes this way; it goes over both lists and takes no None.
        for modify in options.get("conditioning_modifiers", []):
            model, x, sigma, unconds, conds, _, options, seed = modify(
                model, x, sigma, unconds, conds, self.cfg_scale, options, seed
            )
        if "model_function_wrapper" in options:
            options = {**options, "model_function_wrapper": require_model(options["model_function_wrapper"])}
        denoised, negative = self.calculate(model, conds, unconds or None, x, sigma, options)
        self.rows += x.shape[0] * (len(conds) + len(unconds))
        if not with_uncond:
            return Denoised(denoised, None)
        # The hosts give the weighted mean of the prompts joined by AND, and guide by the sum of their weights.
        return Denoised(negative + weight * (denoised - negative) if weight != 1 else denoised, negative)

    def without_caches(self, options: dict[str, Any]) -> dict[str, Any]:
        """The model's options without the host's own step caches, of which a question is no step."""
        inner = options.get("transformer_options", {})
        if not any(name in inner for name in self.step_caches):
            return options
        kept = {name: value for name, value in inner.items() if name not in self.step_caches}
        return {**options, "transformer_options": kept}

    def complete(self, entries: Entries) -> None:
        """Add what the sampler adds to the entries of the prompts."""
        control = self.unet.controlnet_linked_list
        if control is not None:
            for entry in entries:
                entry["control"] = control
