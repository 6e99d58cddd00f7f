"""Where on a model's schedule the steps of a sampler begin. Imports `modules`: only a WebUI can import this."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Any

from modules import sd_samplers, sd_samplers_common
from torch import Tensor

from ..core import Level, Unsupported
from ..core.schedule import first_below

MANY = 8
"""With up to so many steps, one step of a distilled model is a preview."""


@dataclass(frozen=True)
class Schedule:
    """The steps that a sampler will run.

    sigmas: (N,), the model's table, ascending; indices: in it, of where each step begins; from_image: whether sampling
    starts from an image (img2img, hires pass) and not from pure noise.
    """

    sigmas: Tensor
    indices: tuple[int, ...]
    from_image: bool = False

    @property
    def start(self) -> int:
        """Index at which the sampler begins; the last one, pure noise, in txt2img."""
        return self.indices[0] if self.from_image else len(self.sigmas) - 1

    @property
    def positions(self) -> list[float]:
        """Where on the part of the schedule that will run each step begins, 1 = where it starts."""
        # A single step at a low denoising strength can begin at the very end of the table.
        return [index / max(self.start, 1) for index in self.indices]

    def level(self, fraction: float) -> Level:
        """The level at this position of the part of the schedule that will run."""
        return Level(fraction, float(self.sigmas[round(fraction * self.start)]))

    def preview_steps(self, depth: float, distilled: bool = False) -> int:
        """Steps until the first one that begins below this position has seen the image; one of a distilled model."""
        if distilled and len(self.indices) <= MANY:
            return 1
        return first_below(self.positions, depth)


def schedule(sigmas: Tensor, p: Any, from_image: bool, extra_steps: int = 1) -> Schedule:
    """The schedule of the sampler `p.sampler`, which the host's own functions make from what they read of p.

    extra_steps: of img2img, beyond what the host's `setup_img2img_steps` says. Raises Unsupported where no step runs.
    """
    steps = run = p.steps
    if from_image:
        hires_steps = (p.hr_second_pass_steps or p.steps) if getattr(p, "is_hr_pass", False) else None
        steps, t_enc = sd_samplers_common.setup_img2img_steps(p, hires_steps)
        if steps < 1:
            raise Unsupported("denoising strength 0 runs no step")
        run = t_enc + extra_steps
    if hasattr(p.sampler, "get_sigmas"):
        run_sigmas = p.sampler.get_sigmas(p, steps)[steps - run : steps].tolist()
        # On the CPU: MPS, DirectML and Arc have no float64.
        table = sigmas.cpu().double()
        return Schedule(sigmas, tuple(int((table - sigma).abs().argmin()) for sigma in run_sigmas), from_image)
    # DDIM, PLMS and A1111's UniPC have timesteps, which are positions in the table.
    timesteps = [int(timestep) for timestep in p.sampler.get_timesteps(p, steps)[:run]]
    return Schedule(sigmas, tuple(min(t, len(sigmas) - 1) for t in reversed(timesteps)), from_image)


def order(config: Any) -> int:
    """How often a step of a sampler, told by the host's entry of it, evaluates the model."""
    return 2 if (getattr(config, "options", None) or {}).get("second_order") else 1


def planned(
    sigmas: Tensor,
    model: Any,
    sampler_name: str,
    scheduler: str,
    steps: int,
    size: tuple[int, int],
    strength: float,
    extra_steps: int = 1,
) -> tuple[Schedule, int]:
    """The schedule of a generation that is not made yet, and its sampler's order.

    size: width and height; strength: of the denoising, 1 in txt2img. Raises LookupError for an unknown sampler.
    """
    # Not by `create_sampler`, which extensions (Tiled Diffusion) replace while their generation runs.
    config = sd_samplers.find_sampler_config(sampler_name)
    if config is None:
        raise LookupError(f"no sampler is called {sampler_name!r}")
    sampler = config.constructor(model)
    sampler.config = config
    # What the samplers of all hosts read of `p` for their schedules.
    p = types.SimpleNamespace(
        steps=steps,
        scheduler=scheduler,
        width=size[0],
        height=size[1],
        denoising_strength=strength,
        sampler=sampler,
        sampler_noise_scheduler_override=None,
        extra_generation_params={},
        is_hr_pass=False,
        sd_model=model,
    )
    return schedule(sigmas, p, strength < 1, extra_steps), order(config)
