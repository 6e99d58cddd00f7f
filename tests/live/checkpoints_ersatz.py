"""Random checkpoints for ersatzForge, made like those for Forge and Forge Neo.

    WEBUI_PYTHON checkpoints_ersatz.py --webui DIR --plan
    WEBUI_PYTHON checkpoints_ersatz.py --webui DIR --out DATA [sd15 sd15v sdxl sd35 flux chroma zimage lumina2 ...]

They load with the helper extension small_neo only. Of Flux and Chroma the room for attention is laid out for 24 heads:
one head is written into all of them, and single blocks are left out, which cannot be narrower.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import checkpoints_forge as forge
import checkpoints_neo as neo
from checkpoints_forge import CONFIGS, prefixed

if TYPE_CHECKING:
    from checkpoints_forge import State

HEADS, HEAD_SIZE = 24, 128


def plain(model: Callable[..., Any], *args: Any, **sizes: Any) -> State:
    """Names and shapes of a model out of PyTorch's layers: this host's own have no shape before they are loaded."""
    return dict(model(*args, **sizes).state_dict())


def language_model(name: str) -> State:
    from backend.nn.llm import llama

    return plain(getattr(llama, name), {})


def wan_vae(configs: Path) -> State:
    from backend.nn.vae_wan import AutoencoderKLWan

    return neo.create(AutoencoderKLWan.from_config, AutoencoderKLWan.load_config(configs / "vae"))


def flux_2_vae(configs: Path) -> State:
    from backend.nn.vae import AutoencoderKLFlux2

    sizes = AutoencoderKLFlux2.load_config(configs / "vae")
    return plain(AutoencoderKLFlux2.from_config, {**sizes, "block_out_channels_decoder": sizes["block_out_channels"]})


def wide(state: State) -> State:
    """What comes after the attention takes the output of all 24 heads."""
    import torch

    for name, value in state.items():
        if name.endswith("_attn.proj.weight"):
            state[name] = torch.empty(value.shape[0], HEADS * HEAD_SIZE)
    return state


def sd35(webui: Path) -> State:
    """SD3.5 with a T5, which this host always asks."""
    encoder = forge.t5(webui / CONFIGS / forge.SD3 / "text_encoder_3")
    return {**forge.sd35(webui), **prefixed("text_encoders.t5xxl.", encoder)}


def lumina(head: int, **more: Any) -> State:
    """The transformer of Lumina 2 and Z-Image."""
    from backend.nn.lumina2 import Lumina2DiT
    from small_neo import WIDTH

    sizes = {"dim": 2 * head, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "qk_norm": True}
    return plain(Lumina2DiT, in_channels=16, cap_feat_dim=WIDTH, **sizes, **more)


def lumina_2(webui: Path) -> State:
    from small_neo import LUMINA_HEAD

    transformer = lumina(LUMINA_HEAD, axes_dims=[32, 32, 32])
    encoder = {"gemma2_2b.transformer": language_model("Gemma2_2B")}
    return neo.whole(transformer, encoder, forge.vae(webui / CONFIGS / "Lumina2"))


def z_image(webui: Path) -> State:
    more: dict[str, Any] = {"ffn_dim_multiplier": 8 / 3, "z_modulation": True, "pad_tokens_multiple": 32}
    transformer = lumina(HEAD_SIZE, axes_dims=[32, 48, 48], **more)
    encoder = {"qwen3_4b.transformer": language_model("Qwen3_4B")}
    return neo.whole(transformer, encoder, forge.vae(webui / CONFIGS / "Zimage"))


def krea_2(webui: Path) -> State:
    from backend.nn.krea2 import SingleStreamDiT
    from small_neo import WIDTH

    sizes = {"features": 2 * HEAD_SIZE, "heads": 2, "kvheads": 1, "layers": 2}
    transformer = plain(SingleStreamDiT, **sizes, txtdim=WIDTH, txtheads=1, txtkvheads=1)
    return neo.whole(
        transformer, {"qwen3_4b": language_model("Qwen3VL_4B")}, wan_vae(webui / CONFIGS / "krea" / "Krea2")
    )


def klein(webui: Path) -> State:
    from backend.nn.flux2 import IntegratedFlux2Transformer2DModel
    from small_neo import WIDTH

    transformer = plain(
        IntegratedFlux2Transformer2DModel,
        in_channels=32,
        out_channels=32,
        vec_in_dim=None,
        context_in_dim=3 * WIDTH,
        hidden_size=2 * HEAD_SIZE,
        mlp_ratio=3.0,
        num_heads=2,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[32, 32, 32, 32],
        theta=2000,
        patch_size=2,
        qkv_bias=False,
        guidance_embed=False,
        txt_ids_dims=[3],
        global_modulation=True,
        mlp_silu_act=True,
        ops_bias=False,
    )
    folder = webui / CONFIGS / "black-forest-labs" / "FLUX.2-klein-4B"
    return neo.whole(transformer, {"qwen3_4b": language_model("Qwen3_4B")}, flux_2_vae(folder))


def anima(webui: Path) -> State:
    """Anima; its adapter from the language model is kept with the transformer."""
    from backend.nn.cosmos_predict2 import MiniTrainDIT
    from small_neo import WIDTH

    transformer = plain(
        MiniTrainDIT,
        max_img_h=240,
        max_img_w=240,
        max_frames=128,
        in_channels=16,
        out_channels=16,
        patch_spatial=2,
        patch_temporal=1,
        model_channels=2 * HEAD_SIZE,
        num_blocks=2,
        num_heads=2,
        crossattn_emb_channels=WIDTH,
        pos_emb_cls="rope3d",
        use_adaln_lora=True,
    )
    encoder = language_model("Qwen3_06B")
    adapter = {name: encoder.pop(name) for name in list(encoder) if name.startswith("llm_adapter.")}
    return {
        **prefixed("model.diffusion_model.", {**transformer, **adapter}),
        **prefixed("cond_stage_model.qwen3_06b.transformer.", encoder),
        **prefixed("first_stage_model.", wan_vae(webui / CONFIGS / "Anima")),
    }


def ernie(webui: Path) -> State:
    import torch
    from backend.nn.ernie import ERNIEImageModel
    from small_neo import WIDTH

    width = 2 * HEAD_SIZE
    sizes = {"hidden_size": width, "num_attention_heads": 2, "num_layers": 2, "ffn_hidden_size": 2 * width}
    transformer = plain(ERNIEImageModel, **sizes, text_in_dim=WIDTH)
    # The class lays its last layer out for one number; the host's layers take the shape of the weight.
    transformer |= {"final_linear.weight": torch.empty(128, width), "final_linear.bias": torch.empty(128)}
    encoder = {"ministral3_3b": language_model("Ministral3_3B")}
    return neo.whole(transformer, encoder, flux_2_vae(webui / CONFIGS / "baidu" / "ERNIEImage"))


def enter(webui: Path) -> None:
    """The networks ask the module of settings for their kind of positions; the real one would start the whole WebUI."""
    settings = SimpleNamespace(dynamicPE_flux=0, use_dynamicPE=False, dynamicPE_lumina2=0)
    modules = ModuleType("modules")
    modules.shared = SimpleNamespace(opts=settings)  # type: ignore[attr-defined]
    sys.modules["modules"] = modules
    forge.enter(webui)
    neo.help_small()


ERSATZ = forge.FORGE._replace(
    kinds={
        "sd15": forge.sd1,
        "sd15v": forge.sd1,
        "sdxl": lambda webui: forge.sdxl(webui, neo.NEO_SDXL_UNET),
        "sd35": sd35,
        "flux": lambda webui: wide(forge.flux(webui, "dev", heads=1, single_blocks=0)),
        "chroma": lambda webui: wide(forge.chroma(webui, heads=1, single_blocks=0, guidance_embed=False)),
        "zimage": z_image,
        "lumina2": lumina_2,
        "krea2": krea_2,
        "klein": klein,
        "anima": anima,
        "ernie": ernie,
    },
    control_net=lambda: forge.control_net(hint_width=16),
    enter=enter,
)

if __name__ == "__main__":
    forge.main(ERSATZ, __doc__)
