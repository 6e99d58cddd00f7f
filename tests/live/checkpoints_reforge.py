"""Random checkpoints in the layouts reForge loads, made with its own classes and its own Python.

    WEBUI_PYTHON checkpoints_reforge.py --webui DIR --plan
    WEBUI_PYTHON checkpoints_reforge.py --webui DIR --out DATA [sd15 sd15v sdxl sd15inpaint]

Only the UNet can be small. The sizes of text encoders and VAE stand in the WebUI's code, and unlike Forge's its layers
do not take the shape of the weights they are given: SDXL has 2 GB for its second text encoder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkpoints_a1111 import VAE as TINY_VAE
from checkpoints_forge import FLAGS, SD1_UNET, SDXL_UNET, Maker, clip, main, open_clip, prefixed

if TYPE_CHECKING:
    from checkpoints_forge import State

TEXT = Path("ldm_patched") / "modules"
VAE = {**TINY_VAE, "ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2}
LEGACY = {"image_size": 32, "legacy": False}
"""What the WebUI adds to the sizes it finds in a checkpoint."""


def unet(config: dict[str, Any]) -> State:
    from ldm_patched.ldm.modules.diffusionmodules.openaimodel import UNetModel

    return dict(UNetModel(**config, **LEGACY).state_dict())


def vae() -> State:
    from ldm_patched.ldm.models.autoencoder import AutoencoderKL

    return dict(AutoencoderKL(ddconfig=VAE, embed_dim=4).state_dict())


def sd1(webui: Path, channels: int = 4) -> State:
    """channels: 9 for inpainting."""
    text = clip(webui / TEXT / "sd1_clip_config.json", thin=False)
    return {
        **prefixed("model.diffusion_model.", unet({**SD1_UNET, "in_channels": channels})),
        **prefixed("cond_stage_model.transformer.", text),
        **prefixed("first_stage_model.", vae()),
    }


def sdxl(webui: Path) -> State:
    first = clip(webui / TEXT / "sd1_clip_config.json", thin=False)
    second = clip(webui / TEXT / "clip_config_bigg.json", thin=False)
    return {
        **prefixed("model.diffusion_model.", unet(SDXL_UNET)),
        **prefixed("conditioner.embedders.0.transformer.", first),
        **prefixed("conditioner.embedders.1.model.", open_clip(second)),
        **prefixed("first_stage_model.", vae()),
    }


def control_net() -> State:
    from ldm_patched.controlnet.cldm import ControlNet

    config = {name: value for name, value in SD1_UNET.items() if name != "out_channels"}
    return dict(ControlNet(**config, **LEGACY, hint_channels=3).state_dict())


def v_yaml(webui: Path) -> str:
    """The whole configuration of SD1: reForge builds A1111's model of it, to hang its own parts on."""
    from omegaconf import OmegaConf

    config = OmegaConf.load(webui / "configs" / "v1-inference.yaml")
    config.model.params.parameterization = "v"
    return OmegaConf.to_yaml(config)


def enter(webui: Path) -> None:
    """Make the WebUI's back end importable: it looks for a GPU while it is imported."""
    os.chdir(webui)
    sys.argv[1:] = FLAGS
    sys.path.insert(1, str(webui))
    from ldm_patched.modules import args_parser

    args_parser.args = args_parser.parser.parse_args()


REFORGE = Maker(
    kinds={"sd15": sd1, "sd15v": sd1, "sdxl": sdxl, "sd15inpaint": lambda webui: sd1(webui, channels=9)},
    control_net=control_net,
    v_yaml=v_yaml,
    enter=enter,
)

if __name__ == "__main__":
    main(REFORGE, __doc__)
