"""Where on a model's schedule the steps of a sampler begin. Imports `modules`: only a WebUI can import this."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from modules import sd_samplers, sd_samplers_common, shared
from torch import Tensor

from ..core import Level, Unsupported
from ..core.schedule import DEPTH, first_below, sketch_depth
from ..core.streams import keep_generators

K_DIFFUSION = ("k_diffusion.sampling", "k_diff.k_diffusion.sampling", "ldm_patched.k_diffusion.sampling")
"""Where the hosts have it; the last two are reForge's, which takes one of them by a setting."""
MANY = 8
"""With up to so many steps, one step of a distilled model is a preview."""


@dataclass(frozen=True)
class Schedule:
    """The steps that a sampler will run.

    sigmas: (N,), the model's table, ascending; indices: in it, of where each step begins; start: index of the noise it
    starts from, in txt2img the last one; told: how many steps the host says there are, which of samplers with timesteps
    can be one more or less.
    """

    sigmas: Tensor
    indices: tuple[int, ...]
    start: int
    told: int

    @property
    def positions(self) -> list[float]:
        """Where on the part of the schedule that will run each step begins, 1 = where it starts."""
        # A single step at a low denoising strength can begin at the very end of the table.
        return [index / max(self.start, 1) for index in self.indices]

    def level(self, fraction: float) -> Level:
        """The level at this position of the part of the schedule that will run."""
        return Level(fraction, float(self.sigmas[round(fraction * self.start)]))

    def preview_steps(self, depth: float, distilled: bool = False, sketch: bool = False) -> int:
        """Steps until the first one that begins below this position has seen the image.

        One of a distilled model's few, unless a deeper preview than the default's is asked for. A sketch has few steps
        whatever the model is, and goes deeper.
        """
        if sketch:
            return first_below(self.positions, sketch_depth(depth))
        if distilled and len(self.indices) <= MANY and depth >= DEPTH:
            return 1
        return first_below(self.positions, depth)


def schedule(sigmas: Tensor, p: Any, from_image: bool, extra_steps: int = 1) -> Schedule:
    """The schedule of the sampler `p.sampler`, which the host's own functions make from what they read of p.

    extra_steps: of img2img, beyond what the host's `setup_img2img_steps` says. Raises Unsupported where no step runs.
    """
    steps = run = t_enc = p.steps
    if from_image:
        hires_steps = (p.hr_second_pass_steps or p.steps) if getattr(p, "is_hr_pass", False) else None
        steps, t_enc = sd_samplers_common.setup_img2img_steps(p, hires_steps)
        if steps < 1:
            raise Unsupported("denoising strength 0 runs no step")
        run = t_enc + extra_steps
    last = len(sigmas) - 1
    if hasattr(p.sampler, "get_sigmas"):
        run_sigmas = p.sampler.get_sigmas(p, steps)[steps - run : steps].tolist()
        # On the CPU: MPS, DirectML and Arc have no float64.
        table = sigmas.cpu().double()
        indices = tuple(int((table - sigma).abs().argmin()) for sigma in run_sigmas)
        return Schedule(sigmas, indices, indices[0] if from_image else last, run)
    # DDIM, PLMS and A1111's UniPC have timesteps, which are positions in the table. There are more of them than steps
    # where these do not divide 1000, and txt2img gives the sampler all. Around an image the noise is that of a timestep
    # more than is run, but on ersatzForge; at a very low strength nothing is run.
    timesteps = [min(int(timestep), last) for timestep in p.sampler.get_timesteps(p, steps)]
    indices = tuple(reversed(timesteps[: max(t_enc, 1)] if from_image else timesteps))
    return Schedule(sigmas, indices, timesteps[run - 1] if from_image else last, run)


@dataclass(frozen=True)
class Trace:
    """How a sampler goes through its steps.

    calls: evaluations of the model until it tells the x̂0 of each step; total: of the whole run; draws: whether it draws
    noise in its steps, so that a coarser run ends in another image.
    """

    calls: tuple[int, ...]
    total: int
    draws: bool


class Toy:
    """A model that costs nothing: counts how often it is evaluated.

    alphas: what the samplers with timesteps look up in the model inside the denoiser.
    """

    def __init__(self, alphas: Tensor) -> None:
        self.count = 0
        self.alphas_cumprod = alphas
        self.inner_model = self

    def __call__(self, x: Tensor, sigma: Tensor, **others: Any) -> Tensor:
        self.count += 1
        # What the CFG++ samplers take.
        self.last_noise_uncond = x / 2
        return x / 2


@contextmanager
def real_torch() -> Iterator[None]:
    """The hosts put something in the place of k-diffusion's torch, which draws from the numbers of the last generation.
    The caller holds the host's queue lock: nobody samples meanwhile."""
    modules: list[Any] = [sys.modules[name] for name in K_DIFFUSION if hasattr(sys.modules.get(name), "torch")]
    before = [module.torch for module in modules]
    try:
        for module in modules:
            module.torch = torch
        yield
    finally:
        for module, its_own in zip(modules, before, strict=True):
            module.torch = its_own


def trace(sampler: Any, p: Any, run: Tensor, table: Tensor) -> Trace | None:
    """Run the sampler twice with a toy model; None where it cannot be.

    run: the sigmas or timesteps that it is given; p: whose s_churn, eta and the like it goes by, where it has them;
    table: of the loaded model's sigmas. The host's entries tell of some samplers that they draw noise, not of LCM and
    Restart; of none how often it evaluates the model.
    """
    func = sampler.func
    parameters = inspect.signature(func).parameters
    options = {name: value for name in parameters if (value := setting_of(sampler, p, name)) is not None}
    counts: list[tuple[int, ...]] = []
    ends: list[Tensor] = []
    with keep_generators(), real_torch():
        for seed in range(2):
            torch.manual_seed(seed)
            toy = Toy(1 / (1 + table.cpu().float() ** 2))
            calls: dict[int, int] = {}
            if "noise_sampler" in parameters:  # else some of them make a Brownian tree
                options["noise_sampler"] = lambda *sigmas: torch.randn(1, 4, 2, 2)
            x = torch.ones(1, 4, 2, 2)
            end = func(
                toy,
                x,
                run.cpu().to(torch.float32 if run.is_floating_point() else run.dtype),
                extra_args={},
                callback=lambda state, toy=toy, calls=calls: calls.setdefault(state["i"], toy.count),
                disable=True,
                **options,
            )
            counts.append((*calls.values(), toy.count))
            ends.append(end)
    same = counts[0] == counts[1] and torch.equal(*ends)
    return Trace(counts[0][:-1], counts[0][-1], not same)


def setting_of(sampler: Any, p: Any, name: str) -> Any:
    """What the host gives a sampler for this parameter of its function; None for its default."""
    if name == "is_img2img":
        return p.denoising_strength is not None
    if name == "eta":
        value = getattr(p, "eta", None)
        return getattr(shared.opts, getattr(sampler, "eta_option_field", ""), None) if value is None else value
    if name in getattr(sampler, "extra_params", ()):
        value = getattr(p, name, None)
        return getattr(shared.opts, name, None) if value is None else value
    return None


def order(config: Any) -> int:
    """How often a step of a sampler, told by the host's entry of it, evaluates the model."""
    return 2 if (getattr(config, "options", None) or {}).get("second_order") else 1


def by_entry(config: Any, steps: int) -> Trace:
    """What the host's entry of a sampler tells: the last step of one of second order asks once, and so does one that is
    cut short. Whether it draws noise is not known."""
    calls = tuple(order(config) * k + 1 for k in range(steps))
    return Trace(calls, calls[-1], True)


@dataclass(frozen=True)
class Planned:
    """A generation that is not made yet: its schedule, and how its sampler goes through it."""

    schedule: Schedule
    trace: Trace


def planned(
    sigmas: Tensor,
    model: Any,
    sampler_name: str,
    scheduler: str,
    steps: int,
    size: tuple[int, int],
    strength: float | None,
    extra_steps: int = 1,
) -> Planned:
    """The schedule of a generation that is not made yet, and how its sampler goes through it.

    size: width and height; strength: of the denoising, None in txt2img. The caller holds the host's queue lock.
    Raises LookupError for an unknown sampler.
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
    steps_of_run = schedule(sigmas, p, strength is not None, extra_steps)
    run = len(steps_of_run.indices)
    try:
        if hasattr(sampler, "get_sigmas"):
            values = sampler.get_sigmas(p, p.steps)[-run - 1 :]
        else:
            values = sampler.get_timesteps(p, p.steps)[: None if strength is None else run]
        found = trace(sampler, p, values, sigmas)
    except Exception:  # DPM fast and adaptive take other arguments; a sampler may want more of a model
        found = None
    return Planned(steps_of_run, found or by_entry(config, run))
