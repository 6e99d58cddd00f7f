"""Tiny random checkpoints in the layouts AUTOMATIC1111 loads, made with its own classes and its own Python.

    WEBUI_PYTHON checkpoints_a1111.py --webui DIR --plan
    WEBUI_PYTHON checkpoints_a1111.py --webui DIR --out DATA [--channels 32] [sd15 sd15v sdxl ...]

Each is a .safetensors of a few MB with a .yaml of the same stem that gives the sizes; beside them a CLIP folder whose
tokenizer knows single characters only, so that nothing has to be downloaded. SD3 has no sizes in its .yaml: it loads
with the helper extension small_sd3 only, and with HF_HOME at DATA/huggingface, where its tokenizers lie.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

KINDS = ("sd15", "sd15v", "sdxl", "sd15inpaint", "sd2v", "sdxlv", "sd3")
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

SD3_DEPTH, SD3_SIDE = 2, 16
"""Blocks of the MMDiT, which A1111 reads off its width, 64 a block; and how many 16 pixels wide an image may be."""
SD3_LAYERS = 3
"""Of its CLIP encoders: it takes the last but one, and A1111 wants one more than that."""


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


def hub_folder(data: Path, name: str) -> Path:
    """Where the hub's cache has the files of this model."""
    root = data / "huggingface" / "hub" / f"models--{name.replace('/', '--')}"
    revision = "0" * 40
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(revision, encoding="utf-8")
    folder = root / "snapshots" / revision
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def t5_folder(folder: Path) -> None:
    """Write a T5 tokenizer of no words: A1111 makes one for SD3 even while T5 itself is off."""
    from tokenizers import Tokenizer, models, processors

    words = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = Tokenizer(models.Unigram([(word, 0.0) for word in words.values()], unk_id=2))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "T5TokenizerFast", "extra_ids": 0, **words}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


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


def centre(layer: Any, out: Any, size: float) -> None:
    """Shift and scale the first channels of a last layer, which gave this output, to mean 0 and this deviation."""
    channels, scale = out.shape[1], size / out.std()
    layer.weight[:channels] *= scale
    layer.bias[:channels] = (layer.bias[:channels] - out.mean((0, 2, 3))) * scale


def make_images(generator: Any) -> Any:
    import torch

    small = torch.rand(4, 3, 8, 8, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(small, (128, 128), mode="bilinear")


def autoencoder(generator: Any) -> Any:
    """The VAE, scaled so that latents and images have ordinary sizes."""
    import torch
    from ldm.models.autoencoder import AutoencoderKL

    vae = AutoencoderKL(ddconfig=dict(VAE), lossconfig={"target": "torch.nn.Identity"}, embed_dim=4).eval()
    randomise(vae, generator)
    centre(vae.quant_conv, vae.quant_conv(vae.encoder(make_images(generator)))[:, :4], 5)
    vae.quant_conv.weight[4:] *= 0.01
    # The variance of the encoding, which is drawn from the global generator: enough to tell when that was disturbed,
    # too little to tell an image of a batch from the same image alone.
    vae.quant_conv.bias[4:] = -12
    out = vae.decoder(vae.post_quant_conv(torch.randn(4, 4, 16, 16, generator=generator) * 5))
    centre(vae.decoder.conv_out, out, 0.4)
    return vae


def sd3_parts(webui: Path, text_config: Any, generator: Any) -> dict[str, Any]:
    """MMDiT, VAE and the two CLIP encoders of SD3-medium, as thin as its classes allow."""
    import torch

    # Its modules ask for the whole WebUI; what is made here has no need of it.
    sys.path.insert(0, str(webui))
    sys.modules["modules.sd_hijack"] = ModuleType("modules.sd_hijack")
    from modules.models.sd3 import sd3_impls

    class VAE(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = sd3_impls.VAEEncoder(ch=32), sd3_impls.VAEDecoder(ch=32)

    vae = VAE().eval()
    centre(vae.encoder.conv_out, vae.encoder(make_images(generator))[:, :16], 0.65)
    vae.encoder.conv_out.weight[16:] *= 0.01
    vae.encoder.conv_out.bias[16:] = -12  # as in the VAE of the others
    centre(vae.decoder.conv_out, vae.decoder(torch.randn(4, 16, 16, 16, generator=generator) * 0.65), 0.4)

    text_config.num_hidden_layers, text_config.vocab_size = SD3_LAYERS, 49408  # the latter is fixed in A1111
    encoders = {}
    for name in ("clip_l", "clip_g"):
        encoders[name] = text = text_encoder(text_config, generator)
        text.text_projection = torch.nn.Linear(WIDTH, WIDTH, bias=False)

    width = 64 * SD3_DEPTH
    context = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": width}}
    mmdit = sd3_impls.MMDiT(
        input_size=None,
        in_channels=16,
        depth=SD3_DEPTH,
        num_patches=SD3_SIDE**2,
        pos_embed_max_size=SD3_SIDE,
        adm_in_channels=2 * WIDTH,
        context_embedder_config=context,
    ).eval()
    for parameter in mmdit.parameters():
        if parameter.dim() >= 2:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5)
    # Of the 4096 numbers of a token all but these are nought.
    mmdit.context_embedder.weight.mul_((4096 / (2 * WIDTH)) ** 0.5)
    mmdit.pos_embed.copy_(torch.randn(mmdit.pos_embed.shape, generator=generator))
    out = mmdit(
        torch.randn(4, 16, 16, 16, generator=generator),
        torch.tensor([50.0, 300, 600, 950]),
        context=torch.nn.functional.pad(torch.randn(4, 77, 2 * WIDTH, generator=generator), (0, 4096 - 2 * WIDTH)),
        y=torch.randn(4, 2 * WIDTH, generator=generator),
    )
    mmdit.final_layer.linear.weight.div_(out.std())
    mmdit.final_layer.linear.bias.zero_()
    return {
        "model.diffusion_model.": mmdit,
        "first_stage_model.": vae,
        **{f"text_encoders.{name}.transformer.": text for name, text in encoders.items()},
    }


def unet_parts(webui: Path, data: Path, kind: str, generator: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Modules of a checkpoint with a UNet by their prefix, and its config; with sd15 a LoRA for it is written."""
    import open_clip
    import torch
    from tiny_lora import write_lora

    clip = data / "clip-tiny"
    text_config = clip_folder(clip)
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
    return parts, config


def build(webui: Path, data: Path, kind: str) -> None:
    """Write one checkpoint and its yaml; for SD3 its tokenizers, where A1111 has the yaml itself."""
    import torch
    from omegaconf import OmegaConf
    from safetensors.torch import save_file

    folder = data / "models" / "Stable-diffusion"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1 + KINDS.index(kind))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        if kind == "sd3":
            text_config = clip_folder(hub_folder(data, "openai/clip-vit-large-patch14"))
            t5_folder(hub_folder(data, "google/t5-v1_1-xxl"))
            parts = sd3_parts(webui, text_config, generator)
        else:
            parts, config = unet_parts(webui, data, kind, generator)
            OmegaConf.save(OmegaConf.create(config), folder / f"tiny-{kind}.yaml")
    state = {prefix + name: value for prefix, part in parts.items() for name, value in part.state_dict().items()}
    state = {name: (v.half() if v.is_floating_point() else v).contiguous().clone() for name, v in state.items()}
    save_file(state, folder / f"tiny-{kind}.safetensors")
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
        there = [kind for kind in KINDS if kind != "sd3" or (options.webui / "modules" / "models" / "sd3").exists()]
        print(json.dumps({"kinds": there, "left_out": {}}))
        return
    repositories = options.webui / "repositories"
    sys.path[:0] = [str(repositories / "stable-diffusion-stability-ai"), str(repositories / "generative-models")]
    sys.modules["xformers"] = None  # type: ignore[assignment]
    UNET["model_channels"] = options.channels
    for kind in options.kinds or KINDS:
        build(options.webui, options.out, kind)


if __name__ == "__main__":
    main()
