"""One generation of a WebUI: settings in, noise written, what was done told. Never leaves anything half applied."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .config import SettingError, parse
from .core import Interrupted, Unsupported, modulate
from .webui import infotext, xyz

STATE = "_noiseorder"
"""The one attribute set on the host's processing object: the settings of this generation, None when there is nothing
to do. It is set anew in every `process`, because the cells of an X/Y/Z plot are copies of one object."""


def begin(p: Any, args: Sequence[Any], host: type[Any] | None, is_img2img: bool) -> None:
    """Hook `process`: check the settings and write the infotext, which some hosts save before sampling."""
    setattr(p, STATE, None)
    infotext.clear(p.extra_generation_params)
    try:
        config = parse(args, xyz.overrides(p))
    except SettingError as error:
        refuse(p, str(error))
        return
    if not config.active:
        return
    if is_img2img:
        # ADetailer's inner pass carries the settings of the outer one; nobody asked for anything there.
        if not getattr(p, "_ad_inner", False):
            refuse(p, "img2img is not supported yet, only txt2img is")
    elif host is None:
        refuse(p, "this WebUI is not supported yet; AUTOMATIC1111 1.10 and Forge are")
    else:
        setattr(p, STATE, config)
        announce(p)


def announce(p: Any) -> None:
    """Hook `process_batch`: the infotext of this batch, also after an earlier batch was refused."""
    config = getattr(p, STATE, None)
    if config is not None:
        infotext.clear(p.extra_generation_params)
        p.extra_generation_params.update(infotext.write(config))


@torch.no_grad()
def before_sampling(p: Any, host: type[Any] | None, noise: Tensor | None, c: Any, uc: Any) -> None:
    """Hook `process_before_every_sampling`: modulate the noise in place, or leave it exactly as it is and say why."""
    config = getattr(p, STATE, None)
    if config is None or host is None or noise is None or getattr(p, "is_hr_pass", False):
        return
    try:
        batch = host(p, noise, c, uc)
        result, report = modulate(noise, config, batch)
        batch.write(result)
    except Interrupted:
        refuse(p, "interrupted while the model was asked")
    except Unsupported as error:
        refuse(p, str(error))
    except Exception as error:  # the host would swallow it and go on with an infotext that claims an effect
        traceback.print_exc()
        refuse(p, f"{type(error).__name__}: {error}")
    else:
        print(f"[Noise Order] {report}")


def refuse(p: Any, reason: str) -> None:
    """Say in the console, below the picture and in the infotext that the noise was left as it is, and why."""
    message = f"Noise left as it is. {reason}"
    infotext.clear(p.extra_generation_params)
    p.extra_generation_params[infotext.ERROR] = " ".join(reason.split())
    print(f"[Noise Order] {message}")
    if hasattr(p, "comment"):
        p.comment(f"Noise Order: {message}")
