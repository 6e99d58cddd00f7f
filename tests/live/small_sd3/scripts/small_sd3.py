"""Lets an unchanged AUTOMATIC1111 load the small SD3 of these tests; linked beside the probe, with and without our
extension.

It takes the MMDiT's sizes from the checkpoint and hard-codes those of the text encoders and of the VAE; they are read
from the checkpoint here as well, so that a real SD3 is built exactly as before.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from modules.models.sd3 import sd3_cond, sd3_impls, sd3_model

CONFIGS = {"clip_l": sd3_cond.CLIPL_CONFIG, "clip_g": sd3_cond.CLIPG_CONFIG}
VAE = {"VAEEncoder": "encoder.conv_in", "VAEDecoder": "decoder.norm_out"}
"""The class of each half, and its layer as wide as the half's parameter ch."""
HEAD_SIZE = 64
"""Of both text encoders: 768 = 12 heads, 1280 = 20."""


def sized(original: Any) -> Any:
    parts = {name: getattr(sd3_impls, name) for name in VAE}
    real = {name: dict(config) for name, config in CONFIGS.items()}

    def __init__(self: Any, state_dict: Any, *args: Any, **kwargs: Any) -> None:
        for name, config in CONFIGS.items():
            config.update(real[name])
            prefix = f"text_encoders.{name}.transformer.text_model."
            layers = {key[len(prefix) :].split(".")[2] for key in state_dict if key.startswith(prefix + "encoder.")}
            if layers:  # they may lie in files of their own
                config["num_hidden_layers"] = len(layers)
                mlp = state_dict[prefix + "encoder.layers.0.mlp.fc1.weight"]
                config["intermediate_size"], config["hidden_size"] = mlp.shape
                config["num_attention_heads"] = config["hidden_size"] // HEAD_SIZE
        for name, layer in VAE.items():
            weight = state_dict.get(f"first_stage_model.{layer}.weight")
            setattr(sd3_impls, name, parts[name] if weight is None else partial(parts[name], ch=weight.shape[0]))
        original(self, state_dict, *args, **kwargs)

    __init__.sized = True  # type: ignore[attr-defined]
    return __init__


if not hasattr(sd3_model.SD3Inferencer.__init__, "sized"):  # a page reload runs the scripts again
    sd3_model.SD3Inferencer.__init__ = sized(sd3_model.SD3Inferencer.__init__)
