"""Lets an unchanged Forge Neo or ersatzForge load the small models of these tests; linked beside the probe, with and
without us.

They take the sizes of text encoders and VAEs from configs and constants: here they are smaller, whichever the model.
Where they hard-code the size of a transformer, it is read from the checkpoint. The generators import this file as well.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import huggingface_guess
import torch
import transformers
from backend.nn import vae
from backend.nn.llm import llama

NEO = hasattr(llama, "qwen_vl")
if NEO:
    from backend import loader
    from backend.nn.wan_vae import WanVAE
else:
    from backend.nn.vae_wan import AutoencoderKLWan as WanVAE

WIDTH = 64
"""Of the language models."""
HEAD = 128
"""Numbers per head, in every transformer here but Lumina 2's, and in Neo's language models."""
LUMINA_HEAD = 96
CLIP = {"num_hidden_layers": 2, "intermediate_size": 64}
T5_TOKENIZER = Path("black-forest-labs") / "FLUX.1-dev" / "tokenizer_2"
T5 = {"num_layers": 2, "d_model": WIDTH, "d_ff": 64, "num_heads": 4}
# Klein reads layers 9, 18 and 27.
LANGUAGE = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 28,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
# Krea 2 reads every third of 36.
KREA = {**LANGUAGE, "num_hidden_layers": 36}
FEW_LAYERS = {**LANGUAGE, "num_hidden_layers": 3}
KREA_VISION = {"hidden_size": WIDTH, "intermediate_size": 64, "depth": 1, "deepstack_visual_indexes": [0]}
VISION = {"hidden_size": WIDTH, "intermediate_size": 64, "num_layers": 1}
VAE = {"block_out_channels": [32, 32, 64, 64]}
WAN_VAE = {"base_dim": 16, "dim": 16}
PREFIX = "model.diffusion_model."
MARKERS = {
    "cap_pad_token": {"cap_embedder.1.weight": 3840},  # Z-Image
    "layers.0.adaLN_modulation.1.weight": {"cap_embedder.1.weight": 2304},  # Lumina 2
    "llm_adapter.norm.weight": {"x_embedder.proj.1.weight": 2048},  # Anima
    "double_stream_modulation_img.lin.weight": {"img_in.weight": 3072, "txt_in.weight": 3072},  # Flux.2 Klein 4B
}
"""A tensor that tells the architecture, and those whose first dimension Neo then compares with the real model's."""


def smaller_configs(cls: Any, reader: str, sizes: dict[str, Any]) -> None:
    """Let a class read its config with other sizes; what the config has not is not added."""
    original = getattr(cls, reader)

    def read(_: Any, *args: Any, **kwargs: Any) -> Any:
        config = original(*args, **kwargs)
        if isinstance(config, dict):
            return {**config, **{name: size for name, size in sizes.items() if name in config}}
        for name, size in sizes.items():
            setattr(config, name, size)
        return config

    setattr(cls, reader, classmethod(read))


def language_model(original: Any) -> Any:
    """The class without the config, with which it compares its constants."""
    return lambda config: original({})


def real_shapes(state: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint with the shapes by which Neo knows its architecture."""
    shapes = dict(state)
    for sign, widths in MARKERS.items():
        if PREFIX + sign in state:
            for name, size in widths.items():
                shapes[PREFIX + name] = torch.empty(size, state[PREFIX + name].shape[1], device="meta")
    return shapes


def sizes(state: dict[str, Any], architecture: str) -> dict[str, int]:
    """What the checkpoint says of sizes that Neo hard-codes, in the names of its config."""

    def shape(name: str) -> Any:
        return state[f"{PREFIX}{name}.weight"].shape

    if architecture in ("ZImage", "Zimage"):
        width = shape("cap_embedder.1")[0]
        return {"dim": width, "n_heads": width // HEAD, "n_kv_heads": width // HEAD}
    if architecture == "Lumina2":
        width = shape("cap_embedder.1")[0]
        return {"dim": width, "n_heads": width // LUMINA_HEAD, "n_kv_heads": width // LUMINA_HEAD}
    if architecture == "Chroma" and NEO:
        return {"out_dim": shape("img_in")[0], "hidden_dim": shape("distilled_guidance_layer.in_proj")[0]}
    if architecture == "Krea2":
        return {"txtheads": 1, "txtkvheads": 1}
    if architecture in ("ErnieImage", "ERNIEImage"):
        width, context = shape("text_proj")
        blocks = {name.split(".")[3] for name in state if name.startswith(f"{PREFIX}layers.")}
        return {
            "hidden_size": width,
            "num_attention_heads": width // HEAD,
            "num_layers": len(blocks),
            "ffn_hidden_size": shape("layers.0.mlp.up_proj")[0],
            "text_in_dim": context,
        }
    if architecture == "Anima":
        width = shape("x_embedder.proj.1")[0]
        blocks = {name.split(".")[3] for name in state if name.startswith(f"{PREFIX}blocks.")}
        context = shape("blocks.0.cross_attn.k_proj")[1]
        return {
            "model_channels": width,
            "num_heads": width // HEAD,
            "num_blocks": len(blocks),
            "crossattn_emb_channels": context,
        }
    if architecture.startswith(("Flux2", "Klein")):
        return {"hidden_size": shape("img_in")[0], "num_heads": shape("img_in")[0] // HEAD}
    if architecture == "QwenImage":
        width, context = shape("txt_in")
        return {"num_attention_heads": width // HEAD, "joint_attention_dim": context}
    if architecture.startswith("WAN21"):
        return {"text_dim": shape("text_embedding.0")[1]}
    return {}


def guess_small(original: Any) -> Any:
    def guess(state: dict[str, Any]) -> Any:
        model = original(real_shapes(state))
        model.unet_config.update(sizes(state, type(model).__name__))
        return model

    guess.small = True  # type: ignore[attr-defined]
    return guess


def apply() -> None:
    smaller_configs(transformers.CLIPTextConfig, "from_pretrained", CLIP)
    for name in ("IntegratedAutoencoderKL", "AutoencoderKLFlux2"):
        smaller_configs(getattr(vae, name), "load_config", VAE)
    smaller_configs(WanVAE, "load_config", WAN_VAE)
    llama.LLMAdapter = partial(
        llama.LLMAdapter, source_dim=WIDTH, target_dim=WIDTH, model_dim=WIDTH, num_layers=1, num_heads=2
    )
    # The language models' configs are not looked at further than for which of them it is.
    for name in ("Qwen3_06B", "Qwen3_4B", "Qwen25_7BVLI", "Qwen3VL", "Qwen3VL_4B", "Gemma2_2B", "Ministral3_3B"):
        smaller(name, language_model)
    for name in ("Qwen3_06BConfig", "Qwen3_4BConfig", "Qwen25_7BVLI_Config"):
        smaller(name, partial, **LANGUAGE)
    smaller("Qwen3VL_4BConfig", partial, **KREA)
    for name in ("Gemma2_2B_Config", "Ministral3_3BConfig"):
        smaller(name, partial, **FEW_LAYERS)
    huggingface_guess.guess = guess_small(huggingface_guess.guess)
    if NEO:
        apply_neo()


def smaller(name: str, change: Any, **sizes: Any) -> None:
    """Put another in the place of what the host has by this name."""
    if hasattr(llama, name):
        setattr(llama, name, change(getattr(llama, name), **sizes))


def apply_neo() -> None:
    """What ersatzForge has not, or takes from the checkpoint."""
    read = loader.read_arbitrary_config
    loader.read_arbitrary_config = lambda folder: small_t5(read(folder))
    tokenizer = transformers.T5TokenizerFast.from_pretrained
    transformers.T5TokenizerFast.from_pretrained = lambda folder: tokenizer(with_tokenizer(folder))
    vision = llama.qwen_vl.Qwen2VLVisionTransformer
    llama.qwen_vl.Qwen2VLVisionTransformer = lambda **sizes: vision(**{**sizes, **VISION})
    llama.QWEN3VL_VISION = {**llama.QWEN3VL_VISION, **KREA_VISION}


def with_tokenizer(folder: str) -> str:
    """The folder itself, or Flux's of the same T5: this tree has none for Chroma."""
    files = Path(folder)
    path = files if (files / "tokenizer.json").exists() else files.parents[1] / T5_TOKENIZER
    return str(path)


def small_t5(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, **T5} if "d_ff" in config else config


if not hasattr(huggingface_guess.guess, "small"):  # a page reload runs the scripts again
    apply()
