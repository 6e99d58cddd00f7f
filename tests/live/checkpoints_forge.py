"""Random checkpoints in the layouts Forge loads, made with its own classes and its own Python.

    WEBUI_PYTHON checkpoints_forge.py --webui DIR --plan
    WEBUI_PYTHON checkpoints_forge.py --webui DIR --out DATA [sd15 sd15v sdxl sdxlv sd35 flux schnell chroma]

The sizes of text encoders and VAE stand in configs inside the WebUI's folder, which is not changed. Smaller than those
say is only what Forge takes from the checkpoint: its Linear has the shape of the weight it is given. So the MLPs and
T5's attention are thin, and a checkpoint has a few hundred MB. Everything is laid out on the meta device first: what
does not fit this machine is left out before anything is written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Generator, Tensor

    State = dict[str, Tensor]


class Maker(NamedTuple):
    """What has to come of the WebUI's own classes; reForge has others."""

    kinds: dict[str, Callable[[Path], State]]
    """The checkpoint's names and shapes, from the WebUI's folder."""
    control_net: Callable[[], State]
    v_yaml: Callable[[Path], str]
    """The .yaml that makes an SD1 checkpoint a v-model, from the WebUI's folder."""
    enter: Callable[[Path], None]


FLAGS = ["--always-cpu", "--all-in-fp32", "--attention-pytorch"]
CONFIGS = Path("backend") / "huggingface"
SD1 = "runwayml/stable-diffusion-v1-5"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SD3 = "stabilityai/stable-diffusion-3-medium-diffusers"
FLUX = "black-forest-labs/FLUX.1-"
THIN = 64
"""Width of the CLIP encoders' MLPs (3072 and 5120)."""
THIN_T5 = 16
BYTES = 2
"""Of a number in the file, fp16."""
PROGRAM = 1.5e9
"""Memory the WebUI takes beside its model, roughly."""
SD1_UNET = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "channel_mult": [1, 1],
    "use_linear_in_transformer": False,
    "context_dim": 768,
    "num_heads": 8,
    "num_head_channels": -1,
    "use_spatial_transformer": True,
}
# Forge knows an SDXL by its depths; these are those of the smallest it knows, Segmind Vega.
SDXL_UNET = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "transformer_depth_middle": 1,
    "channel_mult": [1, 1, 1],
    "use_linear_in_transformer": True,
    "context_dim": 2048,
    "num_heads": -1,
    "num_head_channels": 64,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
    "use_spatial_transformer": True,
}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def unet(config: dict[str, Any]) -> State:
    from backend.nn.unet import IntegratedUNet2DConditionModel

    return dict(IntegratedUNet2DConditionModel.from_config(config).state_dict())


def vae(configs: Path) -> State:
    from backend.nn.vae import IntegratedAutoencoderKL

    return dict(IntegratedAutoencoderKL.from_config(IntegratedAutoencoderKL.load_config(configs / "vae")).state_dict())


def clip(config: Path, projected: bool = False, thin: bool = True) -> State:
    """A CLIP text encoder with thin MLPs; projected: with the matrix to the pooled vector, as SD3 has it.

    config: its configuration, a file or a folder with a config.json.
    """
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = CLIPTextConfig.from_pretrained(config)
    if thin:
        sizes.intermediate_size = THIN
    state = dict(CLIPTextModel(sizes).state_dict())
    if projected:
        state["text_projection.weight"] = torch.empty(sizes.hidden_size, sizes.hidden_size)
    return state


def open_clip(state: State) -> State:
    """SDXL's second encoder, which its checkpoints keep under open_clip's names."""
    import torch

    heart = "text_model."
    width = state[heart + "final_layer_norm.weight"].shape[0]
    renamed = {
        "positional_embedding": state[heart + "embeddings.position_embedding.weight"],
        "token_embedding.weight": state[heart + "embeddings.token_embedding.weight"],
        "text_projection": torch.empty(width, width),
    }
    layers = {name.split(".")[3] for name in state if name.startswith(heart + "encoder.layers.")}
    parts = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    for leaf in ("weight", "bias"):
        renamed[f"ln_final.{leaf}"] = state[f"{heart}final_layer_norm.{leaf}"]
        for layer in layers:
            old, new = f"{heart}encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
            for name, other in parts.items():
                renamed[f"{new}{other}.{leaf}"] = state[f"{old}{name}.{leaf}"]
            joined = [state[f"{old}self_attn.{which}_proj.{leaf}"] for which in "qkv"]
            renamed[f"{new}attn.in_proj_{leaf}"] = torch.cat(joined)
    return renamed


def t5(configs: Path) -> State:
    """A T5 of the configured depth with heads of one number each."""
    from backend.nn.t5 import IntegratedT5
    from torch.nn import Linear

    config = json.loads((configs / "config.json").read_text(encoding="utf-8"))
    width, heads = config["d_model"], config["num_heads"]
    model = IntegratedT5({**config, "d_ff": THIN_T5})
    for name, module in model.named_modules():
        if name.endswith("SelfAttention"):
            for which in "qkv":
                setattr(module, which, Linear(width, heads, bias=False))
            module.o = Linear(heads, width, bias=False)
    return {**model.state_dict(), **padding(8)}


def padding(count: int) -> State:
    """Keys of no meaning: Forge takes 16 keys or fewer for "no T5", and refuses the checkpoint."""
    import torch

    return {f"pad.{index}": torch.empty(1) for index in range(count)}


def sd1(webui: Path) -> State:
    configs = webui / CONFIGS
    return {
        **prefixed("model.diffusion_model.", unet(SD1_UNET)),
        **prefixed("cond_stage_model.transformer.", clip(configs / SD1 / "text_encoder")),
        **prefixed("first_stage_model.", vae(configs / SD1)),
    }


def sdxl(webui: Path, network: dict[str, Any] = SDXL_UNET) -> State:
    configs = webui / CONFIGS
    return {
        **prefixed("model.diffusion_model.", unet(network)),
        **prefixed("conditioner.embedders.0.transformer.", clip(configs / SDXL / "text_encoder")),
        **prefixed("conditioner.embedders.1.model.", open_clip(clip(configs / SDXL / "text_encoder_2"))),
        **prefixed("first_stage_model.", vae(configs / SDXL)),
    }


def sdxl_v(webui: Path, network: dict[str, Any] = SDXL_UNET) -> State:
    """v-prediction with zero terminal SNR: two keys that are merely there say so."""
    import torch

    return {**sdxl(webui, network), "v_pred": torch.empty(1), "ztsnr": torch.empty(1)}


def sd35(webui: Path) -> State:
    """SD3.5 whose T5 has no weights: Forge does not call it, as long as its setting "sd3_enable_t5" is off."""
    from backend.nn.mmditx import MMDiTX

    configs = webui / CONFIGS
    side = 192
    depth = 2  # Forge reads it off the width, 64 a block
    context = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 64 * depth}}
    model = MMDiTX(
        input_size=None,
        patch_size=2,
        in_channels=16,
        depth=depth,
        adm_in_channels=2048,
        context_embedder_config=context,
        num_patches=side * side,
        pos_embed_max_size=side,
        pos_embed_scaling_factor=None,
        qk_norm="rms",  # this is what tells 3.5 from 3
    )
    return {
        **prefixed("model.diffusion_model.", dict(model.state_dict())),
        **prefixed("text_encoders.clip_l.transformer.", clip(configs / SD3 / "text_encoder", projected=True)),
        **prefixed("text_encoders.clip_g.transformer.", clip(configs / SD3 / "text_encoder_2", projected=True)),
        **prefixed("text_encoders.t5xxl.", padding(17)),
        **prefixed("first_stage_model.", vae(configs / SD3)),
    }


def flux(webui: Path, variant: str, heads: int = 2, single_blocks: int = 1) -> State:
    """A Flux of one double block. It loads with the helper extension small_flux only."""
    from backend.nn.flux import IntegratedFluxTransformer2DModel

    model = IntegratedFluxTransformer2DModel(
        **sizes(heads, single_blocks), vec_in_dim=768, guidance_embed=variant == "dev"
    )
    folder = webui / CONFIGS / f"{FLUX}{variant}"
    return {
        **prefixed("model.diffusion_model.", dict(model.state_dict())),
        **prefixed("text_encoders.clip_l.transformer.", clip(folder / "text_encoder")),
        **prefixed("text_encoders.t5xxl.", t5(folder / "text_encoder_2")),
        **prefixed("vae.", vae(folder)),
    }


def chroma(webui: Path, heads: int = 2, single_blocks: int = 1, **more: Any) -> State:
    """A Chroma of one double block: T5 only, its modulations made by a network of its own. Loads as Flux does."""
    from backend.nn.chroma import IntegratedChromaTransformer2DModel

    model = IntegratedChromaTransformer2DModel(**sizes(heads, single_blocks), vec_in_dim=None, **more)
    folder = webui / CONFIGS / "Chroma"
    return {
        **prefixed("model.diffusion_model.", thin_guidance(dict(model.state_dict()))),
        **prefixed("text_encoders.t5xxl.", t5(folder / "text_encoder")),
        **prefixed("vae.", vae(folder)),
    }


def sizes(heads: int, single_blocks: int) -> dict[str, Any]:
    """What Flux and Chroma have in common."""
    return {
        "in_channels": 16,
        "context_in_dim": 4096,
        "hidden_size": 128 * heads,
        "mlp_ratio": 4.0,
        "num_heads": heads,
        "depth": 1,
        "depth_single_blocks": single_blocks,
        "axes_dim": [16, 56, 56],
        "theta": 10000,
        "qkv_bias": True,
    }


def thin_guidance(state: State) -> State:
    """Chroma's guidance network with thin layers, for the width of this model; 5120 and 3072 stand in Forge."""
    import torch

    prefix = "distilled_guidance_layer."
    width, hidden = state[prefix + "norms.0.scale"].shape[0], state["img_in.weight"].shape[0]
    thin = {"out_proj.weight": (hidden, width), "out_proj.bias": (hidden,)}
    for layer in range(5):
        thin |= {
            f"layers.{layer}.in_layer.weight": (THIN, width),
            f"layers.{layer}.in_layer.bias": (THIN,),
            f"layers.{layer}.out_layer.weight": (width, THIN),
        }
    return state | {prefix + name: torch.empty(*shape) for name, shape in thin.items()}


def layout(maker: Maker, webui: Path, kind: str) -> State:
    """Names and shapes of one checkpoint, without memory for its numbers."""
    import torch

    with torch.device("meta"):
        return maker.kinds[kind](webui)


def numbers(name: str, shape: Tensor, generator: Generator) -> Tensor:
    """Random content for one tensor: by fan-in, so that activations stay near 1 through any depth."""
    import torch

    if not shape.is_floating_point():
        return torch.arange(shape.shape[-1]).expand(shape.shape).contiguous() if shape.ndim else torch.tensor(0)
    draw = torch.randn(shape.shape, generator=generator)
    if name.endswith("logit_scale"):
        return torch.full(shape.shape, 4.6055)
    if shape.ndim >= 2:
        tables = ("token_embedding", "position_embedding", "positional_embedding", "shared.weight", "pos_embed")
        if any(part in name for part in (*tables, "relative_attention")):
            return draw * 0.5
        return draw * shape[0].numel() ** -0.5 * gain(name)
    if name.endswith(("weight", "scale", "running_var")):
        return 1 + 0.05 * draw
    return 0.05 * draw


def gain(name: str) -> float:
    """What ends a residual branch is kept small, or the sum would grow with the depth."""
    if ".mid.attn_1.proj_out" in name:
        return 0.1
    if any(part in name for part in ("mod.lin", "modulation", "distilled_guidance_layer.out_proj")):
        return 0.3
    return 0.5 if any(end in name for end in ("out_layers.3", "proj_out", "to_out.0", "ff.net.2")) else 1.0


def narrow_posterior(state: State) -> None:
    """Give the VAE's encoder a small variance (log −6), so that img2img starts from the image and not from noise."""
    last = [name for name in state if name.endswith(".quant_conv.bias")]
    for name in last or [name for name in state if name.endswith("encoder.conv_out.bias")]:
        state[name][len(state[name]) // 2 :] = -6


def fill(shapes: State, seed: int) -> State:
    import torch

    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        value = numbers(name, shape, generator)
        state[name] = value.half() if value.is_floating_point() else value
    narrow_posterior(state)
    return state


def control_net(**more: Any) -> State:
    """A ControlNet for the SD1 UNet above."""
    from backend.nn.cnets.cldm import ControlNet

    config = {name: value for name, value in SD1_UNET.items() if name != "out_channels"}
    return dict(ControlNet(**config, hint_channels=3, **more).state_dict())


def build(maker: Maker, webui: Path, data: Path, kind: str, quantized: bool) -> None:
    """Write one checkpoint; with sd15 a LoRA and a ControlNet for it. quantized: Flux as a GGUF file."""
    import torch
    from safetensors.torch import save_file
    from tiny_lora import write_lora

    models = data / "models"
    folder = models / "Stable-diffusion"
    folder.mkdir(parents=True, exist_ok=True)
    shapes = layout(maker, webui, kind)
    if quantized:
        write_gguf(fill(shapes, 1 + list(maker.kinds).index(kind)), models)
        return
    path = folder / f"tiny-{kind}.safetensors"
    save_file(fill(shapes, 1 + list(maker.kinds).index(kind)), path)
    if kind == "sd15v":
        path.with_suffix(".yaml").write_text(maker.v_yaml(webui), encoding="utf-8")
    if kind == "sd15":
        prefix = "model.diffusion_model."
        write_lora({name.removeprefix(prefix): v for name, v in shapes.items() if name.startswith(prefix)}, data)
        (models / "ControlNet").mkdir(exist_ok=True)
        with torch.device("meta"):
            control = maker.control_net()
        save_file(fill(control, 9), models / "ControlNet" / "tiny.safetensors")
    print(f"tiny-{kind}: {path.stat().st_size / 1e6:.0f} MB")


def write_gguf(state: State, models: Path) -> None:
    """A Flux as such files come: the transformer's matrices in Q8_0; text encoders and VAE in files beside it."""
    import gguf
    from safetensors.torch import save_file

    def part(prefix: str) -> State:
        return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

    q8 = gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(models / "Stable-diffusion" / "tiny-flux.gguf", "flux")
    for name, value in part("model.diffusion_model.").items():
        data = value.float().numpy()
        if value.ndim > 1:
            writer.add_tensor(name, gguf.quantize(data, q8), raw_dtype=q8)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    beside = {
        "text_encoder/tiny-clip.safetensors": "text_encoders.clip_l.transformer.",
        "text_encoder/tiny-t5.safetensors": "text_encoders.t5xxl.transformer.",
        "VAE/tiny-vae.safetensors": "vae.",
    }
    for name, prefix in beside.items():
        (models / name).parent.mkdir(exist_ok=True)
        save_file(part(prefix), models / name)


def plan(maker: Maker, webui: Path) -> tuple[list[str], dict[str, str]]:
    """The kinds this machine has memory and disk for, and why not the others."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    disk = shutil.disk_usage(tempfile.gettempdir()).free
    kinds, reasons = [], {}
    for kind in maker.kinds:
        size = BYTES * sum(value.numel() for value in layout(maker, webui, kind).values())
        # The file's own numbers, the same in fp32, and the program.
        needed = 3 * size + PROGRAM
        if needed > memory:
            reasons[kind] = f"needs {needed / 1e9:.1f} GB of memory, this machine has {memory / 1e9:.1f} GB"
        elif size > disk:
            reasons[kind] = f"its checkpoint needs {size / 1e9:.1f} GB of disk, {max(disk, 0) / 1e9:.1f} GB are left"
        else:
            kinds.append(kind)
            disk -= size
    return kinds, reasons


def enter(webui: Path) -> None:
    """Make the WebUI's back end importable: it reads the command line and the current folder while it is imported."""
    os.chdir(webui)
    sys.argv[1:] = FLAGS
    guess = webui / "repositories" / "huggingface_guess"
    sys.path[1:1] = [str(webui), str(webui / "packages_3rdparty"), str(webui / "packages"), str(guess)]


FORGE = Maker(
    kinds={
        "sd15": sd1,
        "sd15v": sd1,
        "sdxl": sdxl,
        "sdxlv": sdxl_v,
        "sd35": sd35,
        "flux": lambda webui: flux(webui, "dev"),
        "schnell": lambda webui: flux(webui, "schnell"),
        "chroma": lambda webui: chroma(webui, guidance_out_dim=3072, guidance_hidden_dim=5120, guidance_n_layers=5),
    },
    control_net=control_net,
    v_yaml=lambda _: "model:\n  params:\n    parameterization: v\n",
    enter=enter,
)


def main(maker: Maker = FORGE, doc: str | None = __doc__) -> None:
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--webui", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plan", action="store_true", help="print the kinds that can be made here, as JSON")
    parser.add_argument("--gguf", action="store_true", help="flux only, as a GGUF file")
    parser.add_argument("kinds", nargs="*")
    options = parser.parse_args()
    webui, data = options.webui.resolve(), options.out and options.out.resolve()
    maker.enter(webui)
    if options.plan:
        kinds, reasons = plan(maker, webui)
        print(json.dumps({"kinds": kinds, "left_out": reasons}))
        return
    for kind in options.kinds or maker.kinds:
        build(maker, webui, data, kind, options.gguf)


if __name__ == "__main__":
    main()
