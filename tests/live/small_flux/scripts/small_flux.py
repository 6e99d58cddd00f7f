"""Lets an unchanged Forge load the small Flux of these tests; linked beside the probe, with and without our extension.

huggingface_guess knows Flux in its one real size and hard-codes it; a real Flux it reads exactly as before.
"""

from __future__ import annotations

from typing import Any

from huggingface_guess import detection

HEAD_SIZE = 128
"""Of every Flux: the sum of its rotary axes, 16 + 56 + 56."""


def sized(original: Any) -> Any:
    def detect_unet_config(state: Any, prefix: str) -> Any:
        config = original(state, prefix)
        if config and config.get("image_model") == "flux":
            # numpy's own integers in a GGUF file.
            config["hidden_size"] = int(state[prefix + "img_in.weight"].shape[0])
            config["num_heads"] = config["hidden_size"] // HEAD_SIZE
            config["depth"] = detection.count_blocks(list(state), prefix + "double_blocks.{}.")
            config["depth_single_blocks"] = detection.count_blocks(list(state), prefix + "single_blocks.{}.")
        return config

    detect_unet_config.sized = True  # type: ignore[attr-defined]
    return detect_unet_config


if not hasattr(detection.detect_unet_config, "sized"):  # a page reload runs the scripts again
    detection.detect_unet_config = sized(detection.detect_unet_config)
