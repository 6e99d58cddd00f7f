"""Tiny random checkpoints in the layouts AUTOMATIC1111 loads, made with its own classes and its own Python.

    WEBUI_PYTHON checkpoints_a1111.py --webui DIR --plan
    WEBUI_PYTHON checkpoints_a1111.py --webui DIR --out DATA [--channels 32] [sd15 sd15v sdxl sd15inpaint sd2v sdxlv]

Each is a .safetensors of a few MB with a .yaml of the same stem that gives the sizes; beside them a CLIP folder whose
tokenizer knows single characters only, so that nothing has to be downloaded.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

KINDS = ("sd15", "sd15v", "sdxl", "sd15inpaint", "sd2v", "sdxlv")
WIDTH = 64
"""Of the CLIP prompt encoding (768 in SD1)."""
OPEN_CLIP = ("ViT-S-32-alt", 256)
"""The smallest architecture open_clip knows by name, and its text width; stands in for SD2's encoder, SDXL's second."""
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "attention_resolutions": [2, 1],
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "num_heads": 4,
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "context_dim": WIDTH,
    "use_checkpoint": False,
    "legacy": False,
}
VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def clip_folder(folder: Path) -> Any:
    """Write tokenizer and configuration of the tiny CLIP text encoder; returns its CLIPTextConfig."""
    from transformers import CLIPTextConfig

    folder.mkdir(parents=True, exist_ok=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = [chr(byte) for byte in printable] + [chr(256 + k) for k in range(len(others))]
    vocabulary = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    special = {
        "bos_token": "<|startoftext|>",
        **dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>"),
    }
    files = {
        "vocab.json": {token: index for index, token in enumerate(vocabulary)},
        "special_tokens_map.json": special,
        "tokenizer_config.json": {
            "tokenizer_class": "CLIPTokenizer",
            "do_lower_case": True,
            "model_max_length": 77,
            **special,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    config = CLIPTextConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=WIDTH,
        vocab_size=len(vocabulary),
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    config.save_pretrained(folder)
    return config


def sd1_config(webui: Path, kind: str, clip: Path) -> dict[str, Any]:
    """Of SD1, also predicting v or with 9 channels, and of SD2, which has open_clip's encoder."""
    from omegaconf import OmegaConf

    path = webui / "configs" / ("v1-inpainting-inference.yaml" if kind == "sd15inpaint" else "v1-inference.yaml")
    if kind == "sd2v":
        path = webui / "repositories/stable-diffusion-stability-ai/configs/stable-diffusion/v2-inference-v.yaml"
    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    params = config["model"]["params"]
    params["unet_config"]["params"] = unet = dict(UNET)
    params["first_stage_config"]["params"]["ddconfig"] = dict(VAE)
    if kind == "sd2v":
        params["cond_stage_config"]["params"]["arch"], unet["context_dim"] = OPEN_CLIP
        unet["use_linear_in_transformer"] = True
    else:
        params["cond_stage_config"] = {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"version": str(clip)},
        }
    params.pop("scheduler_config", None)
    if kind == "sd15v":
        params["parameterization"] = "v"
    if kind == "sd15inpaint":
        unet["in_channels"] = 9
        params["finetune_keys"] = None
    return config  # type: ignore[no-any-return]


def sdxl_config(webui: Path, kind: str, clip: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    path = webui / "repositories" / "generative-models" / "configs" / "inference" / "sd_xl_base.yaml"
    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    params = config["model"]["params"]
    arch, width = OPEN_CLIP
    params["network_config"]["params"].update(
        model_channels=32,
        attention_resolutions=[2],
        num_res_blocks=1,
        channel_mult=[1, 2],
        num_head_channels=16,
        transformer_depth=[1, 1],
        context_dim=WIDTH + width,
        adm_in_channels=6 * 256 + width,
        use_checkpoint=False,
        spatial_transformer_attn_type="softmax",
    )
    params["first_stage_config"]["params"]["ddconfig"] = {**VAE, "attn_type": "vanilla"}
    first, second = params["conditioner_config"]["params"]["emb_models"][:2]
    first["params"] = {"layer": "hidden", "layer_idx": 1, "version": str(clip)}
    second["params"]["arch"] = arch
    if kind == "sdxlv":
        scaling = params["denoiser_config"]["params"]["scaling_config"]
        scaling["target"] = "sgm.modules.diffusionmodules.denoiser_scaling.VScaling"
    return config  # type: ignore[no-any-return]


def randomise(module: Any, generator: Any) -> None:
    """Give the parts that are built as zeros ordinary weights, so that every branch of the network counts."""
    import torch

    for parameter in module.parameters():
        if parameter.dim() >= 2 and parameter.abs().max() == 0:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5)


def text_encoder(config: Any, generator: Any) -> Any:
    import torch
    from transformers import CLIPTextModel

    text = CLIPTextModel(config).eval()
    for name, parameter in text.named_parameters():
        if parameter.dim() >= 2:
            scale = 0.5 if "token_emb" in name else 0.1 if "embedding" in name else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    # A1111's emphasis divides by the mean of the encoding, which a LayerNorm without bias makes 0.
    text.text_model.final_layer_norm.bias.copy_(torch.randn(WIDTH, generator=generator) * 0.3 - 0.1)
    return text


def autoencoder(generator: Any) -> Any:
    """The VAE, scaled so that latents and pictures have ordinary sizes."""
    import torch
    from ldm.models.autoencoder import AutoencoderKL

    vae = AutoencoderKL(ddconfig=dict(VAE), lossconfig={"target": "torch.nn.Identity"}, embed_dim=4).eval()
    randomise(vae, generator)
    picture = torch.nn.functional.interpolate(
        torch.rand(4, 3, 8, 8, generator=generator) * 2 - 1, (128, 128), mode="bilinear"
    )
    mean = vae.quant_conv(vae.encoder(picture))[:, :4]
    scale = 5 / mean.std()
    vae.quant_conv.weight[:4] *= scale
    vae.quant_conv.bias[:4] = (vae.quant_conv.bias[:4] - mean.mean((0, 2, 3))) * scale
    vae.quant_conv.weight[4:] *= 0.01
    # The variance of the encoding, which is drawn from the global generator: enough to tell when that was disturbed,
    # too little to tell an image of a batch from the same image alone.
    vae.quant_conv.bias[4:] = -12
    out = vae.decoder(vae.post_quant_conv(torch.randn(4, 4, 16, 16, generator=generator) * 5))
    scale = 0.4 / out.std()
    vae.decoder.conv_out.weight.mul_(scale)
    vae.decoder.conv_out.bias.copy_((vae.decoder.conv_out.bias - out.mean((0, 2, 3))) * scale)
    return vae


def build(webui: Path, data: Path, kind: str) -> None:
    """Write one checkpoint and its yaml; with sd15 a LoRA for it."""
    import open_clip
    import torch
    from omegaconf import OmegaConf
    from safetensors.torch import save_file
    from tiny_lora import write_lora

    clip = data / "clip-tiny"
    text_config = clip_folder(clip)
    torch.manual_seed(1 + KINDS.index(kind))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        parts = {"first_stage_model.": autoencoder(generator)}
        text = text_encoder(text_config, generator)
        extra: dict[str, Any] = {}
        if kind.startswith("sdxl"):
            from sgm.modules.diffusionmodules.openaimodel import UNetModel

            config = sdxl_config(webui, kind, clip)
            params = config["model"]["params"]["network_config"]["params"]
            second = open_clip.create_model(OPEN_CLIP[0])
            del second.visual
            parts["conditioner.embedders.0.transformer."] = text
            parts["conditioner.embedders.1.model."] = second
            extra["y"] = torch.randn(4, params["adm_in_channels"], generator=generator)
        else:
            from ldm.modules.diffusionmodules.openaimodel import UNetModel

            config = sd1_config(webui, kind, clip)
            params = config["model"]["params"]["unet_config"]["params"]
            if kind == "sd2v":
                encoder = open_clip.create_model(OPEN_CLIP[0])
                del encoder.visual
                parts["cond_stage_model.model."] = encoder
            else:
                parts["cond_stage_model.transformer."] = text
        unet = UNetModel(**params).eval()
        randomise(unet, generator)
        noise = torch.randn(4, params["in_channels"], 16, 16, generator=generator)
        steps = torch.tensor([50, 300, 600, 950])
        context = torch.randn(4, 77, params["context_dim"], generator=generator)
        out = unet(noise, steps, context=context, **extra)
        unet.out[2].weight.div_(out.std())
        unet.out[2].bias.zero_()
        parts["model.diffusion_model."] = unet
    if kind == "sd15":
        write_lora(unet.state_dict(), data)
    state = {prefix + name: value for prefix, part in parts.items() for name, value in part.state_dict().items()}
    state = {name: (v.half() if v.is_floating_point() else v).contiguous().clone() for name, v in state.items()}
    folder = data / "models" / "Stable-diffusion"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / f"tiny-{kind}.safetensors")
    OmegaConf.save(OmegaConf.create(config), folder / f"tiny-{kind}.yaml")
    print(f"tiny-{kind}: {(folder / f'tiny-{kind}.safetensors').stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--webui", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plan", action="store_true", help="print the kinds that can be made here, as JSON")
    parser.add_argument("--channels", type=int, default=32, help="width of the UNet of SD1 layout (320 in SD1.5)")
    parser.add_argument("kinds", nargs="*")
    options = parser.parse_args()
    if options.plan:
        print(json.dumps({"kinds": KINDS, "left_out": {}}))
        return
    repositories = options.webui / "repositories"
    sys.path[:0] = [str(repositories / "stable-diffusion-stability-ai"), str(repositories / "generative-models")]
    sys.modules["xformers"] = None  # type: ignore[assignment]
    UNET["model_channels"] = options.channels
    for kind in options.kinds or KINDS:
        build(options.webui, options.out, kind)


if __name__ == "__main__":
    main()
