"""One generation of a WebUI: settings in, noise written, what was done told. Never leaves anything half applied."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..config import BOTH, BY_NAME, EVERYWHERE, FIRST, HIRES, OFF, NoiseOrderConfig, SettingError, parse
from ..core import Interrupted, Report, Unsupported, modulate, previews
from ..presets import follow
from ..webui import infotext, inspector, outcome, xyz
from ..webui.options import ERRORS, EVERYTHING, STOP, Options

STATE = "_noiseorder"
"""The one attribute set on the host's processing object: the job of this generation, None when there is nothing to
do. It is set anew in every `process`, because the cells of an X/Y/Z plot are copies of one object."""
VARIANT = "_noiseorder_variant"
"""On the processing object of what is made beside an image: which variant it is."""
VARIANTS, AUDITIONED = "_noiseorder_variants", "_noiseorder_auditioned"
"""On the processing object where images have variants of their own: one for every image of the generation; and of how
many candidates each is the best, None where it was not chosen."""


@dataclass
class Job:
    """The settings of a generation, what was done in each pass, why batches were refused, and of this batch: whether it
    was refused, how often the hires pass called the hook, and in which passes the noise was modulated.

    variants: of each image of this batch, where they have their own; auto: the preset that "auto" took.
    interrupt: ends the host's generation.
    """

    config: NoiseOrderConfig
    options: Options
    interrupt: Callable[[], None]
    variants: tuple[int, ...] = ()
    hires_calls: int = 0
    refused: bool = False
    auto: str = ""
    modulated_passes: set[str] = field(default_factory=set)
    reports: dict[str, list[Report]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    def give_up(self) -> None:
        """End the generation where the user wants that."""
        if self.options.on_failure == STOP:
            self.interrupt()


def begin(
    p: Any,
    args: Sequence[Any],
    host: type[Any] | None,
    why_not: str,
    is_img2img: bool,
    options: Options,
    interrupt: Callable[[], None],
) -> None:
    """Hook `process`: check the settings and write the infotext, which some hosts save before sampling.

    why_not: why there is no host, if there is none.
    """
    setattr(p, STATE, None)
    infotext.clear(p.extra_generation_params)
    # ADetailer's inner pass carries the settings of the outer one; off there unless asked for on the settings page.
    if getattr(p, "_ad_inner", False) and not options.adetailer:
        return
    if is_own(p):
        outcome.last.pop(tab(is_img2img), None)
    if not hasattr(p, VARIANT):
        inspector.forget()
    job = Job(OFF, options, interrupt)
    try:
        config = parse(args, xyz.overrides(p))
        if not config.active:
            return
        if host is None:
            raise SettingError(why_not)
        if config.passes == HIRES and not is_img2img and not getattr(p, "enable_hr", False):
            raise SettingError(f'Pass is "{HIRES}", but hires fix is off: switch it on, or set Pass to "{FIRST}"')
    except SettingError as error:
        refuse(p, str(error), job)
    else:
        # What has no meaning in this tab is not used, and not claimed: img2img has one pass, txt2img has no mask.
        config = config.replace(passes=FIRST) if is_img2img else config.replace(region=EVERYWHERE)
        job.config, job.auto = follow(config, host.family())
    setattr(p, STATE, job)
    announce(p)


def announce(p: Any) -> None:
    """Hook `process_batch`: the infotext of this batch, also after an earlier batch was refused."""
    job = getattr(p, STATE, None)
    if job is not None and job.config.active:
        job.hires_calls, job.refused, job.modulated_passes = 0, False, set()
        job.variants = variants(p)
        infotext.clear(p.extra_generation_params)
        p.extra_generation_params.update(batch_infotext(p, job, job.config))
        if job.options.adetailer:
            p.extra_generation_params[infotext.INNER] = "True"


def is_own(p: Any) -> bool:
    """Whether this is what the user asked for, and not made beside it or inside it."""
    return not hasattr(p, VARIANT) and not getattr(p, "_ad_inner", False)


def tab(is_img2img: bool) -> str:
    return "img2img" if is_img2img else "txt2img"


def finish(p: Any, is_img2img: bool) -> None:
    """Hook `postprocess`: what was done, for the panel."""
    job = getattr(p, STATE, None)
    if job is None or not is_own(p):
        return
    # Refused in `process`, it was refused for all of them.
    text = outcome.summary(job.reports, job.refusals, p.n_iter if job.config.active else 1)
    if getattr(p, AUDITIONED, None):
        counts = getattr(p, AUDITIONED)
        winners = [
            str(variant) for variant, count in zip(getattr(p, VARIANTS), counts, strict=True) if count is not None
        ]
        text += f". Went on with variant {', '.join(winners)}, best of {next(filter(None, counts))}"
    if job.auto and job.reports:
        text += f". Auto: “{job.auto}”"
    outcome.last[tab(is_img2img)] = text


def check_claim(p: Any) -> None:
    """Hook `post_sample`, before the infotexts are written: a pass whose hook never ran is not claimed.

    The upscale button of the hosts runs the hires pass alone; a model may have a way of its own.
    """
    job = getattr(p, STATE, None)
    if job is None or not job.config.active or job.refused:
        return
    expected = {FIRST, HIRES} if job.config.passes == BOTH else {job.config.passes}
    missing = (expected if getattr(p, "enable_hr", False) else expected - {HIRES}) - job.modulated_passes
    if missing:
        refuse(p, f"the {' and the '.join(sorted(missing))} pass did not run, or ran without calling scripts", job)


def variants(p: Any) -> tuple[int, ...]:
    """The variants of this batch's images, empty where they all have that of the settings."""
    values = getattr(p, VARIANTS, None)
    return tuple(of_batch(p, values)) if values else ()


def of_batch(p: Any, values: Sequence[Any]) -> Sequence[Any]:
    """Those of this batch's images, of one value for every image of the generation."""
    start = getattr(p, "iteration", 0) * p.batch_size
    return values[start : start + p.batch_size]


def batch_infotext(p: Any, job: Job, config: NoiseOrderConfig) -> dict[str, Any]:
    """The infotext of this batch; where its images have variants of their own, each tells its own."""
    params: dict[str, Any] = infotext.write(config)
    if job.auto and config.inject:
        params[infotext.AUTO] = job.auto
    key = BY_NAME["variant"].infotext
    if job.variants and key in params:
        params[key] = infotext.PerImage(map(str, job.variants))
        if getattr(p, AUDITIONED, None):
            # The hosts leave out what is None.
            params[infotext.AUDITIONED] = infotext.PerImage(of_batch(p, getattr(p, AUDITIONED)))
    return params


def is_wanted(p: Any, job: Job) -> bool:
    """Whether this call of the hook is the one to work in."""
    if job.refused:
        return False
    if not getattr(p, "is_hr_pass", False):
        return job.config.passes in (FIRST, BOTH)
    job.hires_calls += 1
    return job.config.passes in (HIRES, BOTH) and job.hires_calls == hires_calls(p)


def hires_calls(p: Any) -> int:
    """How often this host calls the hook in the hires pass; the last call is the one with the right model.

    Forge main calls it twice with the same noise, the first time with the patches of the first pass still on.
    """
    try:
        source = inspect.getsource(type(p).sample_hr_pass)
    except (AttributeError, OSError, TypeError):  # wrapped by another extension
        return 1
    return max(source.count("process_before_every_sampling("), 1)


@torch.no_grad()
def before_sampling(p: Any, host: type[Any] | None, x: Tensor | None, noise: Tensor | None, c: Any, uc: Any) -> None:
    """Hook `process_before_every_sampling`: modulate the noise in place, or leave it exactly as it is and say why."""
    job = getattr(p, STATE, None)
    if job is not None and not job.config.active:
        # Refused in `process`. Only here: to end a generation without a single image fails in the hosts.
        job.give_up()
        return
    if job is None or host is None or noise is None or not is_wanted(p, job):
        return
    try:
        # In txt2img the hosts hand over one tensor as both; elsewhere x is the image to start from.
        batch = host(p, noise, c, uc, latent=None if x is noise else x)
        look = Look(job, batch, noise) if job.options.inspector and not hasattr(p, VARIANT) else None
        watch = look.watch if look else lambda erased: None
        result, report = modulate(noise, job.config, batch, watch, job.variants)
        batch.write(result)
        pass_name = HIRES if batch.is_hires else FIRST
        job.modulated_passes.add(pass_name)
        job.reports.setdefault(pass_name, []).append(report)
    except Interrupted:
        refuse(p, "interrupted during a model evaluation", job)
    except Unsupported as error:
        refuse(p, str(error), job)
        job.give_up()
    except Exception as error:  # the host would swallow it and go on with an infotext that claims an effect
        traceback.print_exc()
        refuse(p, f"{type(error).__name__}: {error}", job)
        job.give_up()
    else:
        log(report, job)
        if look:
            look.finish(result)


class Look:
    """The inspector's look at one batch: copies beforehand, and afterwards what the model sees in both noises."""

    def __init__(self, job: Job, batch: Any, noise: Tensor) -> None:
        self.job, self.batch, self.before = job, batch, noise.clone()

    def watch(self, erased: Tensor) -> None:
        self.erased = erased.clone()

    def finish(self, after: Tensor) -> None:
        """The noise is written already: nothing that goes wrong here may reach the image."""
        batch, noises = self.batch, {"before": self.before, "erased": self.erased, "after": after}
        if not inspector.room(batch.stage):
            return
        previous = batch.evaluations
        try:
            level_previews = previews(self.before, after, self.job.config, batch)
            images = inspector.observe(batch.seeds, batch.stage, noises, level_previews, batch.preview)
        except Exception:
            traceback.print_exc()
            images = inspector.observe(batch.seeds, batch.stage, noises)
        cost = batch.evaluations - previous
        inspector.keep(self.job.config, cost, images)
        if self.job.options.console != ERRORS:
            print(f"[Noise Order] inspector: {cost} more evaluations per image")


def log(report: Report, job: Job) -> None:
    """What was done, in the console, as much as the user wants to read there."""
    if job.options.console == ERRORS:
        return
    print(f"[Noise Order] {report}")
    if job.options.console == EVERYTHING:
        print(f"[Noise Order] settings: {', '.join(f'{k}: {v}' for k, v in infotext.write(job.config).items())}")
        levels = ", ".join(f"{level.fraction:g} (sigma {level.sigma:.4g})" for level in report.levels)
        print(f"[Noise Order] levels asked: {levels or 'none'}")


def refuse(p: Any, reason: str, job: Job) -> None:
    """Say in the console, below the image and in the infotext that the noise was left as it is, and why."""
    reason = " ".join(reason.split())
    infotext.clear(p.extra_generation_params)
    if getattr(p, "is_hr_pass", False):
        reason = f"hires pass: {reason}"
    job.refused = True
    job.refusals.append(reason)
    for passes in job.modulated_passes:
        # That pass was modulated, and the image can only be made again with it.
        p.extra_generation_params.update(batch_infotext(p, job, job.config.replace(passes=passes)))
    p.extra_generation_params[infotext.ERROR] = reason
    say(p, f"Noise left as it is. {reason}")


def say(p: Any, message: str) -> None:
    """Say it in the console and below the image."""
    print(f"[Noise Order] {message}")
    if hasattr(p, "comment"):
        p.comment(f"Noise Order: {message}")
