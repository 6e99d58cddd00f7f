"""Runs inside the WebUI beside the extension: counts model evaluations, makes them fail, looks at the noise.

GET /noiseorder-probe tells what the last generation did (/tensors how many tensors are alive, /memory how much
memory is resident once what is free was given back), POST sets what the next
one is to suffer: a failing model (fail_at), an interruption (interrupt_at), prompts and seeds of every image, as other
extensions set them, and the mark of ADetailer's inner pass (inner). With "whole" it tells all numbers of our questions,
the answers, and the noise.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import inspect
import re
from collections import UserDict, UserList
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from modules import script_callbacks, scripts, shared

PLAN: dict[str, Any] = {}
# Of a class of the standard library: what an extension remembers itself is put back after a candidate or a comparison.
RECORD: UserDict[str, Any] = UserDict()
NOISES: list[Any] = []
"""The noise as the last hook left it, until the sampler's first model call has been compared with it."""
ALL_ROWS = UserList([0])
"""Since the last POST, over every generation."""
OWN: UserList[tuple[Any, Any]] = UserList()
"""Every row the extension asked the model: what went in and what came out."""


def reset() -> None:
    RECORD.clear()
    RECORD.update(
        rows=0,
        calls=0,
        own_rows=0,
        own_calls=0,
        own_sigmas=[],
        first_sigma=None,
        hires_rows=0,
        before_hires=0,
        hooks=[],
        hooks_without_noise=0,
        outputs=[],
        values=[],
        textinfo=[],
        progress=[],
        clock=[],
        state_after=[],
        sampling=False,
        first=[],
        agreement=[],
        job_counts=[],
        asked=[],
        stored={},
        computed=None,
    )
    NOISES.clear()
    OWN.clear()


reset()


def count_calls(original: Any) -> Any:
    def apply_model(x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        RECORD["rows"] += len(x)
        ALL_ROWS[0] += len(x)
        RECORD["calls"] += 1
        if NOISES:
            noise = NOISES.pop()
            # reForge's "DPM++ 2S Ancestral CFG++ Intern" begins with a smaller latent.
            if x.shape[1:] == noise.shape[1:]:
                RECORD["first"].append(compare(x, t, noise))
        if RECORD["sampling"] and RECORD["first_sigma"] is None:
            RECORD["first_sigma"] = float(t.float().max())
        if RECORD["sampling"] and shared.state.sampling_steps not in RECORD["clock"]:
            RECORD["clock"].append(shared.state.sampling_steps)
        if not RECORD["sampling"]:
            RECORD["own_sigmas"].append(float(t.float().max()))
            RECORD["textinfo"].append(shared.state.textinfo)
            RECORD["progress"].append([shared.state.sampling_step, shared.state.sampling_steps])
            if PLAN.get("fail_at") == RECORD["calls"]:
                raise RuntimeError("the probe made the model fail")
            if PLAN.get("interrupt_at") == RECORD["calls"]:
                shared.state.interrupt()
        out = original(x, t, *args, **kwargs)
        if not RECORD["sampling"]:
            RECORD["outputs"].append(fingerprint(out))
            RECORD["values"].append(out.detach().float().flatten()[:256].tolist())
            OWN.extend((row.clone(), prediction.clone()) for row, prediction in zip(x, out, strict=True))
            RECORD["agreement"] = [[None, None] for _ in OWN]
            if PLAN.get("whole"):
                # Forge and its kin ask both prompts at once, in an order of their own.
                parts = kwargs.get("transformer_options", {}).get("cond_or_uncond")
                RECORD["asked"].append({"level": float(t[0]), "x": x.tolist(), "out": out.tolist(), "parts": parts})
        elif RECORD["first_sigma"] == float(t.float().max()):
            agree(x, out)
        return out

    apply_model.probe = True  # type: ignore[attr-defined]
    return apply_model


def agree(x: Any, out: Any) -> None:
    """Compare each row of ours with those of the sampler's first step: the differences of the nearest, in and out."""
    for row, prediction in zip(x, out, strict=True):
        for index, (own_row, own_prediction) in enumerate(OWN):
            if own_prediction.shape == prediction.shape:
                nearest = float((own_prediction - prediction).abs().max())
                if RECORD["agreement"][index][1] is None or nearest < RECORD["agreement"][index][1]:
                    RECORD["agreement"][index] = [float((own_row - row).abs().max()), nearest]


def read_state() -> list[Any]:
    """What the progress bar and its text are made of."""
    return [shared.state.textinfo, shared.state.sampling_step, shared.state.sampling_steps]


def fingerprint(tensor: Any) -> str:
    return hashlib.sha256(tensor.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()


def tensors(tree: Any) -> list[Any]:
    """Every tensor of the host's nested conditionings."""
    if hasattr(tree, "detach"):
        return [tree]
    if isinstance(tree, dict):
        inner = list(tree.values())
    elif isinstance(tree, (list, tuple)):
        inner = list(tree)
    else:
        inner = [getattr(tree, name) for name in ("batch", "schedules", "cond") if hasattr(tree, name)]
    return [tensor for part in inner for tensor in tensors(part)]


def hires_calls(p: Any) -> int:
    """How often the host's hires pass calls the hook; img2img has no hires pass."""
    hires = getattr(type(p), "sample_hr_pass", None)
    return inspect.getsource(hires).count("process_before_every_sampling(") if hires else 0


def compare(x: Any, t: Any, noise: Any) -> dict[str, float]:
    """How far a model input is from this noise at the level the model is told, and how large it is.

    Forge's model is given x itself and σ: σ z for ε, v and flow alike; so is SD3 on A1111. Its other models are given
    what k-diffusion makes of σ z for the network, σ z / √(1 + σ²) = z √(1 − ᾱ_t), and t.
    """
    model = shared.sd_model
    if hasattr(model, "forge_objects") or model.is_sd3:
        scale = t.float()
    else:
        scale = (1 - model.alphas_cumprod.float()[t.round().long()]).sqrt()
    rows = noise.float().repeat(len(x) // len(noise), *[1] * (noise.ndim - 1))
    expected = rows * scale.view(-1, *[1] * (noise.ndim - 1))
    return {
        "difference": float((x.float() - expected).abs().max()),
        "size": float(expected.abs().max()),
        "level": float(t.float().max()),
    }


def get_model() -> Any:
    model = shared.sd_model
    return model.forge_objects.unet.model if hasattr(model, "forge_objects") else model


def see_precision(network: Any) -> None:
    """In what the network's numbers are stored, and in what its first layer computes."""
    for value in network.parameters():
        kind = str(value.dtype)
        if getattr(value, "gguf_cls", None) is not None:
            kind = value.gguf_cls.__name__
        RECORD["stored"][kind] = RECORD["stored"].get(kind, 0) + value.numel()
    layer = next(part for part in network.modules() if getattr(part, "weight", None) is not None)

    def see(_: Any, inputs: Any, output: Any) -> None:
        RECORD["computed"] = str(output.dtype)
        handle.remove()

    handle = layer.register_forward_hook(see)


def watch() -> None:
    """Count the calls of whatever model is loaded now."""
    model = get_model()
    if not hasattr(model.apply_model, "probe"):
        model.apply_model = count_calls(model.apply_model)


def comparison(p: Any) -> str:
    """The name of what Noise Order makes beside an image; empty for the image itself."""
    return getattr(getattr(p, "_noiseorder", None), "comparison", "")


class Probe(scripts.Script):
    def title(self) -> str:
        return "Noise Order probe"

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def before_process(self, p: Any, *args: Any) -> None:
        if find_spec("modules_forge") and find_spec("modules_forge.colour_code"):
            # ersatzForge never seeds the global generator, which its VAE, masks and token merging draw from.
            torch.manual_seed(0)
        if "inner" in PLAN:
            p._ad_inner = PLAN["inner"]

    def process(self, p: Any, *args: Any) -> None:
        watch()
        # What is made beside an image belongs to it.
        before = RECORD["job_counts"] if comparison(p) else []
        reset()
        p.all_prompts = PLAN.get("prompts", p.all_prompts)
        p.all_seeds = PLAN.get("seeds", p.all_seeds)
        RECORD["job_counts"] = before

    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        RECORD["sampling"] = False
        RECORD["state_before"] = read_state()
        RECORD["job_counts"].append(shared.state.job_count)

    def before_hr(self, p: Any, *args: Any) -> None:
        watch()  # the hires pass may have a checkpoint of its own
        RECORD["before_hires"] = RECORD["rows"]

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        if "noise" not in kwargs:  # ersatzForge calls once more when the refiner takes over
            RECORD["hooks_without_noise"] += 1
            return
        noise, x = kwargs["noise"], kwargs["x"]
        RECORD["state_after"].append(read_state())
        if PLAN.get("interrupt_variant") == comparison(p):
            shared.state.interrupt()
        if getattr(p, "is_hr_pass", False):
            RECORD["hires_rows"] = RECORD["rows"] - RECORD["before_hires"]
        else:
            RECORD["own_rows"], RECORD["own_calls"], RECORD["sampling"] = RECORD["rows"], RECORD["calls"], True
        NOISES[:] = [noise.clone()]
        if PLAN.get("whole"):
            model = get_model()
            see_precision(model.diffusion_model if hasattr(model, "diffusion_model") else model.model.diffusion_model)
        RECORD["hooks"].append(
            {
                "keys": sorted(kwargs),
                "x_is_noise": x is noise,
                "shape": list(noise.shape),
                "x_shape": list(x.shape),
                "mask_shape": list(p.nmask.shape) if getattr(p, "nmask", None) is not None else None,
                "seeds": list(p.seeds),
                "inference": noise.is_inference(),
                "uc_is_none": kwargs["uc"] is None,
                "is_hr_pass": bool(getattr(p, "is_hr_pass", False)),
                "has_modified_noise": hasattr(p, "modified_noise"),
                "infotext": {key: str(value) for key, value in p.extra_generation_params.items()},
                "noise": fingerprint(noise),
                "x": None if x is noise else fingerprint(x),
                "conds": [fingerprint(tensor) for tensor in tensors([kwargs["c"], kwargs["uc"]])],
                "whole": noise.tolist() if PLAN.get("whole") else None,
                "row": noise.float().flatten(0, -2)[0].tolist(),
                "std": noise.float().flatten(1).std(dim=1).tolist(),
                "hires_calls": hires_calls(p),
            }
        )


def routes(_: Any, app: Any) -> None:
    @app.get("/noiseorder-probe")
    def seen() -> dict[str, Any]:
        return {**RECORD, "all_rows": ALL_ROWS[0]}

    @app.get("/noiseorder-probe/tensors")
    def tensors_alive() -> int:
        gc.collect()
        return sum(issubclass(type(value), torch.Tensor) for value in gc.get_objects())

    @app.get("/noiseorder-probe/memory")
    def resident() -> float:
        """In MB. The allocator of the C library keeps pages between what was freed, the more of them the more threads
        and checkpoints there were."""
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

    @app.post("/noiseorder-probe")
    def plan(values: dict[str, Any]) -> dict[str, Any]:
        PLAN.clear()
        PLAN.update(values)
        ALL_ROWS[0] = 0
        reset()
        return PLAN


script_callbacks.on_app_started(routes)
