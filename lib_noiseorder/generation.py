"""One generation of a WebUI: settings in, noise written, what was done told. Never leaves anything half applied."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .config import BOTH, EVERYWHERE, FIRST, HIRES, NoiseOrderConfig, SettingError, parse
from .core import Interrupted, Unsupported, modulate
from .webui import infotext, xyz

STATE = "_noiseorder"
"""The one attribute set on the host's processing object: the job of this generation, None when there is nothing to
do. It is set anew in every `process`, because the cells of an X/Y/Z plot are copies of one object."""


@dataclass
class Job:
    """The settings of a generation, and of this batch: how often the hires pass called the hook, whether we refused."""

    config: NoiseOrderConfig
    hires_calls: int = 0
    refused: bool = False


def begin(p: Any, args: Sequence[Any], host: type[Any] | None, is_img2img: bool) -> None:
    """Hook `process`: check the settings and write the infotext, which some hosts save before sampling."""
    setattr(p, STATE, None)
    infotext.clear(p.extra_generation_params)
    # ADetailer's inner pass carries the settings of the outer one; nobody asked for anything there.
    if getattr(p, "_ad_inner", False):
        return
    try:
        config = parse(args, xyz.overrides(p))
    except SettingError as error:
        refuse(p, str(error))
        return
    if not config.active:
        return
    if host is None:
        refuse(p, "this WebUI is not supported yet; AUTOMATIC1111 1.10, Forge, reForge and Forge Neo are")
    elif config.passes == HIRES and not is_img2img and not getattr(p, "enable_hr", False):
        refuse(p, f'Pass is "{HIRES}", but hires fix is off: switch it on, or set Pass to "{FIRST}"')
    else:
        # What has no meaning in this tab is not used, and not claimed: img2img has one pass, txt2img has no mask.
        setattr(p, STATE, Job(config.replace(passes=FIRST) if is_img2img else config.replace(region=EVERYWHERE)))
        announce(p)


def announce(p: Any) -> None:
    """Hook `process_batch`: the infotext of this batch, also after an earlier batch was refused."""
    job = getattr(p, STATE, None)
    if job is not None:
        job.hires_calls, job.refused = 0, False
        infotext.clear(p.extra_generation_params)
        p.extra_generation_params.update(infotext.write(job.config))


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
    if job is None or host is None or noise is None or not is_wanted(p, job):
        return
    try:
        # In txt2img the hosts hand over one tensor as both; elsewhere x is the image to start from.
        batch = host(p, noise, c, uc, latent=None if x is noise else x)
        result, report = modulate(noise, job.config, batch)
        batch.write(result)
    except Interrupted:
        refuse(p, "interrupted while the model was asked", job)
    except Unsupported as error:
        refuse(p, str(error), job)
    except Exception as error:  # the host would swallow it and go on with an infotext that claims an effect
        traceback.print_exc()
        refuse(p, f"{type(error).__name__}: {error}", job)
    else:
        print(f"[Noise Order] {report}")


def refuse(p: Any, reason: str, job: Job | None = None) -> None:
    """Say in the console, below the picture and in the infotext that the noise was left as it is, and why."""
    reason = " ".join(reason.split())
    infotext.clear(p.extra_generation_params)
    if job is not None:
        job.refused = True
        if getattr(p, "is_hr_pass", False):
            reason = f"hires pass: {reason}"
            if job.config.passes == BOTH:
                # The first pass was modulated, and the picture can only be made again with that.
                p.extra_generation_params.update(infotext.write(job.config.replace(passes=FIRST)))
    p.extra_generation_params[infotext.ERROR] = reason
    message = f"Noise left as it is. {reason}"
    print(f"[Noise Order] {message}")
    if hasattr(p, "comment"):
        p.comment(f"Noise Order: {message}")
