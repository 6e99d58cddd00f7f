"""Random checkpoints for ersatzForge, made like those for Forge.

    WEBUI_PYTHON checkpoints_ersatz.py --webui DIR --plan
    WEBUI_PYTHON checkpoints_ersatz.py --webui DIR --out DATA [sd15 sd15v flux chroma]

It takes the sizes of Flux and Chroma from the checkpoint, so both load without a helper. Only the room for attention is
laid out for 24 heads: one head is written into all of them, and single blocks are left out, which cannot be narrower.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import checkpoints_forge as forge

if TYPE_CHECKING:
    from torch import Tensor

HEADS, HEAD_SIZE = 24, 128


def wide(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What comes after the attention takes the output of all 24 heads."""
    import torch

    for name, value in state.items():
        if name.endswith("_attn.proj.weight"):
            state[name] = torch.empty(value.shape[0], HEADS * HEAD_SIZE)
    return state


def enter(webui: Path) -> None:
    forge.enter(webui)
    # The networks ask the module of settings for their kind of positions; the real one would start the whole WebUI.
    modules = ModuleType("modules")
    modules.shared = SimpleNamespace(opts=SimpleNamespace(dynamicPE_flux=0, use_dynamicPE=False))  # type: ignore[attr-defined]
    sys.modules["modules"] = modules


ERSATZ = forge.FORGE._replace(
    kinds={
        "sd15": forge.sd1,
        "sd15v": forge.sd1,
        "flux": lambda webui: wide(forge.flux(webui, "dev", heads=1, single_blocks=0)),
        "chroma": lambda webui: wide(forge.chroma(webui, heads=1, single_blocks=0, guidance_embed=False)),
    },
    control_net=lambda: forge.control_net(hint_width=16),
    enter=enter,
)

if __name__ == "__main__":
    forge.main(ERSATZ, __doc__)
