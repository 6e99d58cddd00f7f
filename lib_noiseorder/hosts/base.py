"""What the WebUI adapters share. Imports `modules`: only a WebUI can import this."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from modules import call_queue, devices, prompt_parser, rng, script_callbacks, sd_models, sd_samplers_common, shared
from PIL import Image
from torch import Tensor, nn

from ..core import Denoised, Interrupted, Level, Unsupported
from ..core.schedule import sketch_steps
from ..core.streams import keep_generators
from ..job import Job, Plan
from ..presets import DISTILLED
from . import isolation
from .schedule import Planned, Schedule, planned, schedule

WAITS, WAIT = 20, 0.01
"""How often an estimate looks again whether the host is idle, and after how many seconds."""
FEW_STEPS = re.compile(r"turbo|lightning|schnell|(?<![a-z])(?:lcm|hyper)(?![a-z])", re.IGNORECASE)
"""In the name of a checkpoint that is made for few steps at CFG 1: nothing in the model itself says so."""


@dataclass
class Untried:
    """What outlives the batches, of the classes of models that were not tested: those reported in the console, and
    those that have answered as they should, otherwise to another prompt."""

    reported: set[str] = field(default_factory=set)
    responsive: set[str] = field(default_factory=set)


class WebUIDenoiser:
    """One batch of a WebUI's generation: its noise source, its model, its conditionings.

    p: the host's processing object; noise: (B, C, H, W) or (B, C, 1, H, W), unit variance; c, uc: the hook's
    conditionings, which the host caches across requests and which are therefore only read. latent: the image that
    img2img and the hires pass start from, shaped as noise but for the batch of Neo's Qwen-Image, which is 1; only read
    as well; None in txt2img.
    """

    symbols: ClassVar[dict[str, int | None]] = {}
    """What this adapter uses of its WebUI beyond `detect.SYMBOLS`, in the same form."""
    extra_steps = 1
    """Steps that run around an image beyond what `setup_img2img_steps` says: one on all but ersatzForge."""
    hires_calls = 1
    """How often the hires pass calls the hook; the last call is the one with the right model. Checked at load."""
    negative_at_cfg_1: ClassVar[tuple[bool, bool]] = (True, True)
    """Whether the negative prompt is asked at CFG 1: by the sampler, and by us."""

    def __init__(self, p: Any, noise: Tensor, c: Any, uc: Any, latent: Tensor | None = None) -> None:
        self.p, self.noise, self.c, self.uc, self.latent = p, noise, c, uc, latent
        self.untried = Untried()
        self.is_hires = bool(getattr(p, "is_hr_pass", False))
        self.stage = "hires" if self.is_hires else ""
        # The hosts multiply the noise of img2img before the hook; the fresh draws have to be of its size.
        multiplier = getattr(p, "initial_noise_multiplier", None) if latent is not None and not self.is_hires else None
        self.noise_scale = 1.0 if multiplier is None else float(multiplier)
        # 1 where the image is repainted; without a batch dimension, (C, H, W), on A1111 and Forge main.
        self.mask: Tensor | None = None if latent is None or self.is_hires else getattr(p, "nmask", None)
        self.seeds: Sequence[int] = list(p.seeds)
        self.cfg_scale = float(p.cfg_scale)
        self.rows = self.predictions = self.total_predictions = 0
        self.step = 0
        batch = noise.shape[0]
        for name, count in (
            ("seeds", len(self.seeds)),
            ("prompts", len(c.batch)),
            ("negative prompts", batch if uc is None else len(uc)),
        ):
            if count != batch:
                raise Unsupported(f"{count} {name} for a batch of {batch} images: give one for every image")

    @classmethod
    def table(cls, model: Any) -> Tensor:
        """The loaded model's table of sigmas, (N,), ascending."""
        raise NotImplementedError

    @classmethod
    def estimate(cls, job: Job, depth: float, sketches: bool = True) -> Plan | None:
        """The plan of the page's settings; None if unknown, or while something is generated."""
        # Held a few milliseconds: what finds out about a sampler must not meet one that is running. Both tabs ask at
        # once when a page is opened, so each waits a little; AUTOMATIC1111's lock knows no timeout.
        for _ in range(WAITS):
            if call_queue.queue_lock.acquire(blocking=False):
                try:
                    return cls.plan(job, depth, sketches)
                finally:
                    call_queue.queue_lock.release()
            time.sleep(WAIT)
        return None

    @classmethod
    def plan(cls, job: Job, depth: float, sketches: bool = True) -> Plan | None:
        """Plan where previews end: in a sketch where that is cheaper and leads to the same image; None if unknown.

        sketches: whether they are wanted. The caller holds the host's queue lock. The schedule of a few models depends
        on what they last made.
        """
        try:
            model = sd_models.model_data.sd_model
            if cls.prediction(model) is None:
                return None
            distilled = cls.family() == DISTILLED

            def planned_with(steps: int) -> Planned:
                strength = job.strength if job.strength < 1 else None
                size, sampler = (job.width, job.height), (job.sampler, job.scheduler, steps)
                return planned(cls.table(model), model, *sampler, size, strength, cls.extra_steps)

            def plan_of(run: Planned, sketch: int = 0) -> Plan:
                preview = run.schedule.preview_steps(depth, distilled, bool(sketch))
                return Plan(preview, image.schedule.told, run.trace.calls, image.trace.total, sketch)

            image = planned_with(job.steps)
            plan = plan_of(image)
            coarse = sketch_steps(job.strength)
            if not sketches or image.trace.draws or coarse >= job.steps:
                return plan
            sketch = plan_of(planned_with(coarse), coarse)
        except Exception:  # of a sampler without such a schedule, or while a model is being loaded
            return None
        return sketch if sketch.preview_cost < plan.preview_cost else plan

    @classmethod
    def family(cls) -> str | None:
        """The family of the loaded model, a key of presets.FAMILIES; None where none is loaded or known."""
        # Not shared.sd_model: on A1111 that loads one.
        model = sd_models.model_data.sd_model
        prediction = cls.prediction(model)
        if prediction is None:
            return None
        name = getattr(getattr(model, "sd_checkpoint_info", None), "name", "")
        # Flux dev has Forge's distilled CFG scale, and no negative prompt at CFG 1.
        distilled = getattr(model, "use_distilled_cfg_scale", False) or FEW_STEPS.search(str(name))
        return DISTILLED if distilled else prediction

    @staticmethod
    def prediction(model: Any) -> str | None:
        """What a model predicts: "eps", "v" or "flow"; None for one that does not tell, and for no model at all."""
        raise NotImplementedError

    @staticmethod
    def hires_infotext(p: Any) -> dict[str, Any]:
        """What the host writes into the infotext only once a hires pass begins: a preview has none, and names it."""
        return {}

    @property
    def has_uncond(self) -> bool:
        return self.uc is not None

    @property
    def evaluations(self) -> int:
        return -(-self.rows // self.noise.shape[0])

    def fresh_noise(self, seeds: Sequence[int]) -> Tensor:
        shape = tuple(self.noise.shape[1:])
        draws = [rng.randn_without_seed(shape, generator=rng.create_generator(seed)) for seed in seeds]
        return torch.stack(draws).to(self.noise) * self.noise_scale

    def write(self, result: Tensor) -> None:
        """Give the noise to the sampler, in place: A1111 has no other way, and Forge takes it as well."""
        addition = None
        if getattr(self.p, "modified_noise", None) is not None:
            # Forge's ControlNet inpaint put "noise + latent" there, which the host will use instead of the noise.
            addition = self.p.modified_noise - self.noise
        # Written outside of inference mode, an inference tensor is changed first and then raises.
        with torch.inference_mode(torch.is_inference_mode_enabled() or self.noise.is_inference()):
            self.noise.copy_(result)
        if addition is not None:
            self.p.modified_noise = self.noise + addition

    @contextmanager
    def predicting(self, total: int) -> Iterator[None]:
        self.check_model()
        state = shared.state
        names = ("textinfo", "current_latent", "sampling_step", "sampling_steps")
        before = [(name, getattr(state, name)) for name in names]
        self.predictions = 0
        # An evaluation is a step of the image's steps: schedules of LoRA weights divide by their number.
        state.sampling_step, state.sampling_steps = self.step, self.total_steps
        self.total_predictions = total
        state.textinfo = "Noise Order: evaluating the model"
        try:
            # Some patches (token merging, 9-channel conditioning) draw from the global generators.
            with keep_generators(), self.model_ready():
                yield
        finally:
            for name, value in before:
                setattr(state, name, value)

    def check_model(self) -> None:
        """Refuse, with a sentence, a model that cannot be asked. With Erase alone the model is not looked at."""

    @contextmanager
    def model_ready(self) -> Iterator[None]:
        """The host's own preparations for sampling; on leaving, they are undone."""
        yield

    @staticmethod
    def preview(latent: Tensor) -> Image.Image:
        """A small image of one latent (C, H, W), or the first frame of (C, T, H, W), as the host's live preview makes
        it; by the fixed linear map ("Approx cheap", 2), which needs no other model and no download."""
        frame = latent if latent.ndim == 3 else latent[:, 0]
        return sd_samplers_common.single_sample_to_image(frame, 2)

    @property
    def total_steps(self) -> int:
        """The steps of this pass, as the hosts tell them to whoever reckons a window by them."""
        if self.latent is not None and not self.is_hires:
            return self.schedule.told
        return int((self.p.hr_second_pass_steps if self.is_hires else 0) or self.p.steps)

    @cached_property
    def schedule(self) -> Schedule:
        """The steps of the sampler that will run."""
        return schedule(self.sigmas(), self.p, self.latent is not None, self.extra_steps)

    def level(self, fraction: float) -> Level:
        """The level at this position in the model's own table of sigmas, from nearly clean to where sampling begins."""
        if self.latent is None:
            sigmas = self.sigmas()
            return Level(fraction, float(sigmas[round(fraction * (len(sigmas) - 1))]))
        return self.schedule.level(fraction)

    def denoise(self, x: Tensor, level: Level, with_uncond: bool) -> Denoised:
        # Raising the host's own InterruptedException from the hook would end the whole Forge process.
        if shared.state.interrupted or shared.state.skipped:
            raise Interrupted
        self.predictions += 1
        shared.state.textinfo = f"Noise Order: evaluating the model {self.predictions}/{self.total_predictions}"
        sigma = torch.full((x.shape[0],), level.sigma, dtype=x.dtype, device=x.device)
        try:
            return self.evaluate_isolated(x, sigma, with_uncond)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # As the hosts do between their stages; a second time it is the end.
        devices.torch_gc()
        try:
            return self.evaluate_isolated(x, sigma, with_uncond)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise Unsupported(
                f"out of memory while the model was asked ({type(error).__name__}: {error}): make the batch or the "
                "image smaller, or set Inject to 0"
            ) from error

    def evaluate_isolated(self, x: Tensor, sigma: Tensor, with_uncond: bool) -> Denoised:
        """What the model itself answers; no extension notices the question."""

        def begin() -> Any:
            cond = prompt_parser.reconstruct_multicond_batch(self.c, self.step)[1]
            uncond = None if self.uc is None else prompt_parser.reconstruct_cond_batch(self.uc, self.step)
            denoiser = getattr(self.p.sampler, "model_wrap_cfg", None)
            arguments = (self.step, self.total_steps, cond, uncond, denoiser)
            return script_callbacks.CFGDenoiserParams(x, None, sigma, *arguments)

        try:
            with isolation.isolated(self.network_of(self.p.sd_model), self.options_of(self.p.sd_model), begin):
                answer = self.evaluate_model(x, sigma, with_uncond)
        except (Interrupted, Unsupported):
            raise
        except Exception as error:
            name = isolation.failing_extension(error)
            if not name or is_out_of_memory(error):
                raise
            raise Unsupported(
                f'the extension "{name}" fails when the model is asked before sampling ({type(error).__name__}: '
                f"{error}): switch it off, or set Inject to 0"
            ) from error
        for denoised in answer:
            # Of another shape it would still be broadcast, and give a noise that nobody asked for.
            if denoised is not None and denoised.shape != x.shape:
                raise Unsupported(
                    f"the model answered with the shape {tuple(denoised.shape)} to {tuple(x.shape)}: set Inject to 0"
                )
        return answer

    @staticmethod
    def network_of(model: Any) -> nn.Module:
        """The network inside the loaded model."""
        raise NotImplementedError

    @staticmethod
    def options_of(model: Any) -> Any:
        """Where the host keeps what scripts hang on the model; None where it has no such place."""
        return None

    def inpaints(self) -> bool:
        """Whether A1111's model has 9 channels, for mask and masked image too; refuses what takes other images."""
        model = self.p.sd_model
        key = getattr(model.model, "conditioning_key", None)
        if key not in ("crossattn", "hybrid", "concat", None) or getattr(model, "cond_stage_key", None) == "edit":
            raise Unsupported(f'models with "{key}" conditioning (pix2pix, unCLIP) are not supported')
        is_inpainting = key in ("hybrid", "concat") or bool(getattr(model, "is_sdxl_inpaint", False))
        if is_inpainting and self.is_hires:
            raise Unsupported("the hires pass of inpainting models is not supported")
        return is_inpainting

    def mask_and_image(self) -> Tensor:
        """What A1111's sampler will be given for those channels, (B, 5, H, W); in txt2img the VAE makes it."""
        concat = self.p.txt2img_image_conditioning(self.noise) if self.latent is None else self.p.image_conditioning
        return concat.expand(self.noise.shape[0], *concat.shape[1:])

    def sigmas(self) -> Tensor:
        return self.table(self.p.sd_model)

    def noise_scaling(self, noise: Tensor, level: Level, latent: Tensor | None = None) -> Tensor:
        """`x = z √(1 + σ²)`, the network itself then sees exactly z; around an image `x = x0 + σ z`."""
        latent = self.latent if latent is None else latent
        if latent is not None:
            return latent + level.sigma * noise
        return noise * math.sqrt(1 + level.sigma**2)

    def evaluate_model(self, x: Tensor, sigma: Tensor, with_uncond: bool) -> Denoised:
        """x̂0 for the prompt, and for the negative prompt if asked; counts the rows evaluated."""
        raise NotImplementedError


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device has no memory left: only CUDA has an exception of its own for that."""
    text = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in text or "not enough gpu" in text
