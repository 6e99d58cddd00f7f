"""Random checkpoints in the layouts Forge Neo loads, made with its own classes and its own Python.

    WEBUI_PYTHON checkpoints_neo.py --webui DIR --plan
    WEBUI_PYTHON checkpoints_neo.py --webui DIR --out DATA [sd15 sdxl zimage flux klein qwen anima wan lumina2 ...]

Everything is in one file, as Neo allows it: it takes text encoders and VAE from the checkpoint as well as from files
chosen beside it. They load with the helper extension small_neo only, which makes the sizes smaller that Neo knows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import checkpoints_forge as forge
from checkpoints_forge import CONFIGS, FLUX, SDXL_UNET, clip, prefixed, sd1, vae

if TYPE_CHECKING:
    from checkpoints_forge import State

FLAGS = ["--cpu", "--force-fp32", "--fp32-text-enc", "--use-pytorch-cross-attention"]
# Neo knows the real depths alone; of the way back it asks nothing.
NEO_SDXL_UNET = {**SDXL_UNET, "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_output": [0] * 9}


def create(model: Callable[..., Any], *args: Any, **sizes: Any) -> State:
    """Names and shapes of a model built as Neo builds it, out of its own layers."""
    import torch
    from backend.operations import using_forge_operations

    with using_forge_operations(device=torch.device("meta"), dtype=torch.float32):
        return dict(model(*args, **sizes).state_dict())


def language_model(name: str) -> State:
    from backend.nn.llm import llama

    return create(getattr(llama, name), {})


def t5(configs: Path) -> State:
    from backend.loader import read_arbitrary_config
    from backend.nn.t5 import IntegratedT5

    return create(IntegratedT5, read_arbitrary_config(configs))


def wan_vae(configs: Path) -> State:
    from backend.nn.wan_vae import WanVAE

    return create(WanVAE.from_config, WanVAE.load_config(configs / "vae"))


def chroma(webui: Path) -> State:
    """Chroma: T5 only, its modulations made by a network of its own, whose norms go by another name in the file."""
    from backend.nn.chroma import IntegratedChromaTransformer2DModel
    from small_neo import HEAD, WIDTH

    transformer = create(
        IntegratedChromaTransformer2DModel,
        in_channels=64,
        out_channels=64,
        context_in_dim=WIDTH,
        hidden_size=2 * HEAD,
        mlp_ratio=4.0,
        num_heads=2,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[16, 56, 56],
        theta=10000,
        patch_size=2,
        qkv_bias=True,
        in_dim=64,
        out_dim=2 * HEAD,
        hidden_dim=WIDTH,
        n_layers=5,
        txt_ids_dims=[],
        vec_in_dim=None,
    )
    norms = "distilled_guidance_layer.norms."
    for name in [name for name in transformer if name.startswith(norms)]:
        transformer[name.replace(".weight", ".scale")] = transformer.pop(name)
    folder = webui / CONFIGS / "Chroma"
    return whole(transformer, {"t5xxl": t5(folder / "text_encoder")}, vae(folder))


def lumina_2(webui: Path) -> State:
    from backend.nn.lumina import NextDiT
    from small_neo import LUMINA_HEAD, WIDTH

    transformer = create(
        NextDiT,
        patch_size=2,
        in_channels=16,
        dim=2 * LUMINA_HEAD,
        n_layers=2,
        n_heads=2,
        n_kv_heads=2,
        qk_norm=True,
        cap_feat_dim=WIDTH,
        axes_dims=[32, 32, 32],
        axes_lens=[300, 512, 512],
    )
    encoder = {"gemma2_2b.transformer": language_model("Gemma2_2B")}
    return whole(transformer, encoder, vae(webui / CONFIGS / "neta-art" / "Neta-Lumina"))


def krea_2(webui: Path) -> State:
    """Krea 2: latents of five dimensions, and twelve layers of its language model."""
    from backend.nn.krea import SingleStreamDiT
    from small_neo import HEAD, WIDTH

    sizes = {"features": 2 * HEAD, "heads": 2, "kvheads": 1, "layers": 2}
    transformer = create(SingleStreamDiT, **sizes, txtdim=WIDTH, txtheads=1, txtkvheads=1)
    encoder = {"qwen3vl_4b.transformer": language_model("Qwen3VL")}
    return whole(transformer, encoder, wan_vae(webui / CONFIGS / "krea" / "Krea-2-Raw"))


def ernie(webui: Path) -> State:
    """ERNIE-Image: 128 channels at a sixteenth of the image's size."""
    from backend.nn.ernie import ErnieImageModel
    from small_neo import HEAD, WIDTH

    sizes = {"hidden_size": 2 * HEAD, "num_attention_heads": 2, "num_layers": 2, "ffn_hidden_size": 4 * HEAD}
    transformer = create(ErnieImageModel, **sizes, text_in_dim=WIDTH)
    encoder = {"ministral3_3b.transformer": language_model("Ministral3_3B")}
    return whole(transformer, encoder, flux_2_vae(webui / CONFIGS / "baidu" / "ERNIE-Image"))


def mugen(webui: Path) -> State:
    """Mugen: an SDXL of 32 channels that was made a flow model, with the VAE of Flux.2."""
    base = forge.sdxl(webui, {**NEO_SDXL_UNET, "in_channels": 32, "out_channels": 32})
    state = {name: value for name, value in base.items() if not name.startswith("first_stage_model.")}
    return {**state, **prefixed("vae.", flux_2_vae(webui / CONFIGS / "CabalResearch" / "Mugen"))}


def flux_2_vae(configs: Path) -> State:
    from backend.nn.vae import AutoencoderKLFlux2

    return create(AutoencoderKLFlux2.from_config, AutoencoderKLFlux2.load_config(configs / "vae"))


def whole(transformer: State, encoders: dict[str, State], vae: State) -> State:
    """One file of all parts, by the prefixes the newer architectures share."""
    state = {**prefixed("model.diffusion_model.", transformer), **prefixed("vae.", vae)}
    for name, encoder in encoders.items():
        state |= prefixed(f"text_encoders.{name}.", encoder)
    return state


def z_image(webui: Path) -> State:
    from backend.nn.lumina import NextDiT
    from small_neo import HEAD, WIDTH

    transformer = create(
        NextDiT,
        patch_size=2,
        in_channels=16,
        dim=2 * HEAD,
        n_layers=2,
        n_heads=2,
        n_kv_heads=2,
        ffn_dim_multiplier=8 / 3,
        qk_norm=True,
        cap_feat_dim=WIDTH,
        axes_dims=[32, 48, 48],
        axes_lens=[1536, 512, 512],
        z_image_modulation=True,
        pad_tokens_multiple=32,
    )
    encoder = {"qwen3_4b.transformer": language_model("Qwen3_4B")}
    return whole(transformer, encoder, vae(webui / CONFIGS / "Tongyi-MAI" / "Z-Image-Turbo"))


def flux_transformer(**more: Any) -> State:
    from backend.nn.flux import IntegratedFluxTransformer2DModel
    from small_neo import HEAD

    sizes = {"hidden_size": 2 * HEAD, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "theta": 10000}
    return create(IntegratedFluxTransformer2DModel, **sizes, **more)


def flux(webui: Path, variant: str) -> State:
    from small_neo import WIDTH

    transformer = flux_transformer(
        in_channels=16,
        out_channels=16,
        vec_in_dim=768,
        context_in_dim=WIDTH,
        mlp_ratio=4.0,
        axes_dim=[16, 56, 56],
        patch_size=2,
        qkv_bias=True,
        guidance_embed=variant == "dev",
    )
    folder = webui / CONFIGS / f"{FLUX}{variant}"
    encoders = {"clip_l.transformer": clip(folder / "text_encoder"), "t5xxl": t5(folder / "text_encoder_2")}
    return whole(transformer, encoders, vae(folder))


def klein(webui: Path) -> State:
    """Flux.2 Klein: 128 channels at a sixteenth of the image's size."""
    from small_neo import WIDTH

    transformer = flux_transformer(
        in_channels=128,
        out_channels=128,
        vec_in_dim=None,
        context_in_dim=3 * WIDTH,
        mlp_ratio=3.0,
        axes_dim=[32, 32, 32, 32],
        patch_size=1,
        qkv_bias=False,
        guidance_embed=False,
        global_modulation=True,
        mlp_silu_act=True,
        ops_bias=False,
    )
    encoder = {"qwen3_4b.transformer": language_model("Qwen3_4B")}
    return whole(transformer, encoder, flux_2_vae(webui / CONFIGS / "black-forest-labs" / "FLUX.2-klein-4B"))


def qwen(webui: Path) -> State:
    """Qwen-Image: latents of five dimensions, of which time is one."""
    from backend.nn.qwen import QwenImageTransformer2DModel
    from small_neo import WIDTH

    transformer = create(QwenImageTransformer2DModel, num_layers=2, num_attention_heads=2, joint_attention_dim=WIDTH)
    encoder = {"qwen25_7b": language_model("Qwen25_7BVLI")}
    return whole(transformer, encoder, wan_vae(webui / CONFIGS / "Qwen" / "Qwen-Image"))


def wan(webui: Path) -> State:
    """Wan, which makes videos: of one frame here."""
    from backend.nn.wan import WanModel
    from small_neo import HEAD, WIDTH

    transformer = create(WanModel, dim=2 * HEAD, num_heads=2, num_layers=2, ffn_dim=4 * HEAD, text_dim=WIDTH)
    folder = webui / CONFIGS / "Wan-AI" / "Wan2.1-T2V-14B"
    return whole(transformer, {"umt5xxl": t5(folder / "text_encoder")}, wan_vae(folder))


def anima(webui: Path) -> State:
    """Anima; its adapter from the language model is kept with the transformer, and so are its numbers."""
    from backend.nn.anima import Anima
    from small_neo import HEAD, WIDTH

    transformer = create(
        Anima,
        in_channels=16,
        out_channels=16,
        patch_spatial=2,
        patch_temporal=1,
        model_channels=2 * HEAD,
        crossattn_emb_channels=WIDTH,
        num_blocks=2,
        num_heads=2,
    )
    encoder = language_model("Qwen3_06B")
    adapter = {name: encoder.pop(name) for name in list(encoder) if name.startswith("llm_adapter.")}
    return whole(
        {**transformer, **adapter},
        {"qwen3_06b.transformer": encoder},
        wan_vae(webui / CONFIGS / "circlestone-labs" / "Anima"),
    )


def enter(webui: Path) -> None:
    """Make the WebUI's back end importable, with the helper extension at work in it."""
    os.chdir(webui)
    sys.argv[1:] = FLAGS
    sys.path[1:1] = [str(webui), str(webui / "modules_forge" / "packages")]
    help_small()


def help_small() -> None:
    """Let the helper extension make the back end's sizes smaller."""
    sys.path.append(str(Path(__file__).parent / "small_neo" / "scripts"))
    import small_neo  # noqa: F401


NEO = forge.Maker(
    kinds={
        "sd15": sd1,
        "sd15v": sd1,
        "sdxl": lambda webui: forge.sdxl(webui, NEO_SDXL_UNET),
        "sdxlv": lambda webui: forge.sdxl_v(webui, NEO_SDXL_UNET),
        "sdxlrectified": lambda webui: forge.sdxl(webui, NEO_SDXL_UNET),  # Neo knows it by its file's name
        "zimage": z_image,
        "flux": lambda webui: flux(webui, "dev"),
        "schnell": lambda webui: flux(webui, "schnell"),
        "klein": klein,
        "qwen": qwen,
        "anima": anima,
        "wan": wan,
        "chroma": chroma,
        "lumina2": lumina_2,
        "krea2": krea_2,
        "ernie": ernie,
        "mugen": mugen,
    },
    control_net=lambda: forge.control_net(hint_width=16),
    v_yaml=forge.FORGE.v_yaml,
    enter=enter,
)


if __name__ == "__main__":
    forge.main(NEO, __doc__)
