"""What a generation costs, told beforehand, in evaluations of the model: one for each prompt and negative prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from ..config import (
    NoiseOrderConfig,
)
from ..core.schedule import DEPTH, SKETCH, first_below, sketch_depth
from ..job import Job, Plan
from ..names import (
    BOTH,
    EVERYWHERE,
    FIRST,
    GUIDANCE,
    HIRES,
    LOOK_AHEAD,
    MULTI_STEP,
    SELF_CORRECTION,
)


@dataclass(frozen=True)
class Rates:
    """What whoever makes the images knows of the cost.

    plan: of a job whose previews are at a position on the schedule, None where it is not known; negative: whether the
    negative prompt is asked at CFG 1, by the sampler and by Noise Order; inspects: whether the noise inspector is
    on for a user; user: whose page it is, None without a login.
    The defaults are the playground's.
    """

    plan: Callable[[Job, float], Plan | None] = lambda job, depth: None
    negative: tuple[bool, bool] = (False, True)
    inspects: Callable[[str | None], bool] = lambda user: False
    user: str | None = None


def rows(parts: int, cfg: float, negative: bool) -> int:
    """Evaluations of one call of the sampler; negative: whether the negative prompt is asked at CFG 1."""
    return parts + (cfg != 1 or negative)


def injection(config: NoiseOrderConfig, parts: int, cfg: float, negative: bool, name: str = FIRST) -> int:
    """Evaluations of Inject in the pass of this name."""
    if config.inject == 0 or config.passes not in (name, BOTH):
        return 0
    guided = config.direction in (GUIDANCE, LOOK_AHEAD) and (cfg != 1 or negative)
    return config.levels * (parts + guided) + parts * (config.direction == SELF_CORRECTION)


def cost_in_images(count: int, plan: Plan, each: int, injection_cost: int, scoring: int = 0) -> float:
    """What `count` previews cost, in images made in full.

    each: evaluations of a call of the sampler; injection_cost: of Inject, for a preview as for an image; scoring: of
    the critic, for a preview.
    """
    preview, image = (each * calls + injection_cost for calls in (plan.preview_cost, plan.image_cost))
    return count * (preview + scoring) / max(image, 1)


def guess(steps: int) -> Plan:
    """The plan of a sampler whose steps are even and ask once, as the playground's."""
    whole = first_below([1 - step / steps for step in range(steps)], DEPTH)
    preview = first_below([1 - step / SKETCH for step in range(SKETCH)], sketch_depth(DEPTH))
    return Plan(preview, steps, sketch=SKETCH) if preview < whole else Plan(whole, steps)


def evaluations(config: NoiseOrderConfig, job: Job, rates: Rates) -> tuple[int, dict[str, int]]:
    """Of each image: what it costs without Noise Order, and what each part of Noise Order adds to that."""
    run = int(min(job.strength, 0.999) * job.steps) + 1 if job.img2img else job.steps
    plan = rates.plan(job, DEPTH) or guess(run)
    passes = {FIRST: (plan.image_cost, job.parts, job.cfg)}
    if job.hires:
        steps = job.hires_steps or job.steps
        second = dataclasses.replace(job, sampler=job.hires_sampler, steps=steps)
        if rates.plan(second, DEPTH) is None:  # "Use same sampler"
            second = dataclasses.replace(job, steps=steps)
        calls = (rates.plan(second, DEPTH) or guess(steps)).image_cost
        passes[HIRES] = (calls, job.hires_parts, job.hires_cfg or job.cfg)

    def sampling(calls: int, parts: int, cfg: float) -> int:
        return calls * rows(parts, cfg, rates.negative[0])

    def asking(config: NoiseOrderConfig, name: str) -> int:
        return injection(config, *passes[name][1:], rates.negative[1], name) if name in passes else 0

    plain = sum(sampling(*each) for each in passes.values())
    additions = {
        "Inject": sum(asking(config, name) for name in passes),
        "Also make": sum(plain + sum(asking(each, name) for name in passes) for each in config.variants.values()),
    }
    if config.audition and config.passes != HIRES:
        preview = sampling(plan.preview_cost, job.parts, job.cfg)
        # The critic asks once.
        additions["Audition"] = config.audition * (preview + asking(config, FIRST) + job.parts)
    if rates.inspects(rates.user):
        prompts = [passes[name][1] for name in passes if config.passes in (name, BOTH)]
        additions["Noise inspector"] = 2 * config.levels * sum(prompts)
    return plain, {name: count for name, count in additions.items() if count}


def idle(config: NoiseOrderConfig, job: Job) -> set[str]:
    """The settings that have no say in this job."""
    names: set[str] = set()
    weights = {"layout", "structure", "detail"}
    if config.inject == 0:
        names |= {"direction", "levels", "first_level", "last_level", "normalisation", *weights}
    elif config.levels == 1:
        names |= {"last_level", *weights}
    elif config.direction in MULTI_STEP:
        names |= weights
    elif config.levels == 2:
        names.add("structure")
    if config.erase == 1:
        names.add("variant")
        if not config.chain:
            names |= {"region", "audition"}
    # What makes the generation fail is shown.
    if job.img2img or (not job.hires and config.passes != HIRES):
        names.add("passes")
    if not job.img2img or (not job.mask and config.region == EVERYWHERE):
        names.add("region")
    return names


def line(config: NoiseOrderConfig, job: Job, rates: Rates) -> str:
    """What the settings cost, in words."""
    if not config.active:
        return "Nothing is changed: Erase is 1 and Inject is 0."
    if job.img2img:
        config = config.replace(passes=FIRST)
    elif config.passes == HIRES and not job.hires:
        return f'⚠ Pass is "{HIRES}", but hires fix is off: switch it on, or set Pass to "{FIRST}"'
    plain, additions = evaluations(config, job, rates)
    total = sum(additions.values())
    if not total:
        return "Costs nothing."
    percent = 100 * total / plain
    share = f"{percent:.0f}" if percent >= 1 else "less than 1"
    steps = f"{job.steps} + {job.hires_steps or job.steps}" if job.hires else f"{job.steps}"
    around = f", denoising {job.strength:g}" if job.img2img else ""
    parts = ": " + ", ".join(f"{name} {count}" for name, count in additions.items()) if len(additions) > 1 else ""
    return (
        f"Cost: +{total} model evaluation{'' if total == 1 else 's'} per image, +{share} % of {plain} "
        f"({steps} steps{around}, CFG {job.cfg:g}){parts}"
    )
