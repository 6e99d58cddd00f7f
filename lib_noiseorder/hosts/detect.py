"""Which WebUI this is, and whether it has what we need of it. Called once, while the WebUI loads the script."""

from __future__ import annotations

import dis
import inspect
import re
import types
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .. import log

HOOK = "process_before_every_sampling"
SUPPORTED = ("AUTOMATIC1111 1.10", "Forge", "reForge", "Forge Neo", "ersatzForge")
SYMBOLS: dict[str, int | None] = {
    "modules.devices.torch_gc": 0,
    "modules.images.GridAnnotation": 1,
    "modules.images.draw_grid_annotations": 5,
    "modules.images.image_grid": 1,
    "modules.images.save_image": 3,
    "modules.processing.DecodedSamples": None,
    "modules.processing.get_fixed_seed": 1,
    "modules.processing.process_images": 1,
    "modules.prompt_parser.reconstruct_cond_batch": 2,
    "modules.prompt_parser.reconstruct_multicond_batch": 2,
    "modules.rng.create_generator": 1,
    "modules.rng.randn_without_seed": 1,
    "modules.script_callbacks.CFGDenoiserParams": 8,
    "modules.script_callbacks.callback_map": None,
    "modules.sd_models.model_data": None,
    "modules.sd_samplers.find_sampler_config": 1,
    "modules.sd_samplers_common.InterruptedException": None,
    "modules.sd_samplers_common.setup_img2img_steps": 2,
    "modules.sd_samplers_common.single_sample_to_image": 2,
    "modules.shared.cmd_opts": None,
    "modules.shared.opts": None,
    "modules.shared.state": None,
}
"""What is used of every WebUI, and with how many arguments; None for what is not called. An adapter has its own."""


def find_host(script: type[Any]) -> tuple[type[Any] | None, str]:
    """The adapter of the running WebUI; without one, why Noise Order cannot work here.

    script: the WebUI's base class of scripts.
    """
    if not hasattr(script, HOOK):
        return None, f'this WebUI never calls the hook "{HOOK}": use {", ".join(SUPPORTED)} or newer versions of them'
    try:
        host = adapter()
        check_symbols(SYMBOLS)
        check_symbols(host.symbols)
    except (ImportError, LookupError) as error:
        # Python adds the path of the module's file.
        reason = re.sub(r" \(.*\)$", "", str(error))
        return None, f"this WebUI is not supported yet ({reason}); {', '.join(SUPPORTED)} are"
    check_hires_calls(host)
    return host, ""


def adapter() -> type[Any]:
    """The adapter by what lies in the WebUI's folder. Raises ImportError where a part of its back end is missing."""
    if find_spec("ldm_patched") is not None:
        from ldm_patched.modules import samplers

        # reForge keeps the older one beside.
        if hasattr(samplers, "calc_cond_uncond_batch") and not hasattr(samplers, "calc_cond_batch"):
            raise LookupError("it is the first Forge or Forge Classic, with a back end older than reForge's")
        from .reforge import ReForgeDenoiser

        return ReForgeDenoiser
    if find_spec("backend") is not None and find_spec("modules_forge") is not None:
        if find_spec("backend.diffusion_engine.qwen") is not None:
            from .neo import NeoDenoiser

            return NeoDenoiser
        if find_spec("modules_forge.colour_code") is not None:
            from .ersatz import ErsatzDenoiser

            return ErsatzDenoiser
        from .forge import ForgeDenoiser

        return ForgeDenoiser
    from .a1111 import A1111Denoiser

    return A1111Denoiser


def look_up(symbol: str) -> Any:
    """What is called so, with its module's name before; None where the module has no such thing."""
    module, _, name = symbol.rpartition(".")
    return getattr(import_module(module), name, None)


def check_symbols(symbols: dict[str, int | None]) -> None:
    """Raise LookupError naming the first symbol that is missing or no longer takes that many arguments."""
    for symbol, arguments in symbols.items():
        value = look_up(symbol)
        if value is None:
            raise LookupError(f"it has no {symbol}")
        if arguments is None:
            continue
        try:
            inspect.signature(value).bind(*[None] * arguments)
        except TypeError:
            raise LookupError(f"its {symbol} takes other arguments") from None
        except ValueError:  # a built-in function without a signature
            continue


def check_hires_calls(host: type[Any]) -> None:
    """Warn where the hires pass of this WebUI calls the hook otherwise than its adapter says."""
    method = getattr(look_up("modules.processing.StableDiffusionProcessingTxt2Img"), "sample_hr_pass", None)
    # What another extension put in its place need not call the hook itself.
    if not isinstance(method, types.FunctionType):
        return
    calls = sum(instruction.argval == HOOK for instruction in dis.get_instructions(method))
    if calls and calls != host.hires_calls:
        log.warn(
            f"the hires pass of this {host.name} calls the hook {calls} times where {host.hires_calls} were expected: "
            'with Pass "hires" or "both", its noise may be left as it is'
        )
