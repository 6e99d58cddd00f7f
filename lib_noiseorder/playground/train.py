"""Train a network: python -m lib_noiseorder.playground.train unet --minutes 75 --out PATH (torch >= 2.9)."""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .models import NETWORKS, TIMESTEPS, DiT, UNet, append_dims, timestep_to_sigma
from .scenes import NULL_TOKEN, encode, random_scenes, render

BATCH = 48
LEARNING_RATE = 1.5e-3
MUON_FACTOR = 1.5
FINAL_RATE = 0.02
WARM_UP_STEPS = 150
HOLD = 0.2
"""Share of the training before the cosine decay begins."""
EMA = 0.997
DROP_CAPTION = 0.12
LAYOUT_SHARE = 0.35
"""Share of the samples moved to the noise levels at which the layout is decided."""
SAVE_EVERY = 120.0
REPORT_EVERY = 200


def draw_times(count: int) -> Tensor:
    """Fractions of the schedule in (0, 1), (count,): evenly spread but for LAYOUT_SHARE of them."""
    even = (torch.randperm(count) + torch.rand(count)) / count
    layout = torch.sigmoid(1.2 + 0.8 * torch.randn(count))
    return torch.where(torch.rand(count) < LAYOUT_SHARE, layout, even)


def loss_of(network: UNet | DiT, images: Tensor, tokens: Tensor, fractions: Tensor) -> Tensor:
    """Squared error per image, (n,): of v for the UNet, of the velocity at unit scale for the DiT."""
    noise = torch.randn_like(images)
    if isinstance(network, UNet):
        timestep = (TIMESTEPS * fractions).floor().clamp(max=TIMESTEPS - 1)
        sigma = append_dims(timestep_to_sigma(timestep), images.ndim)
        alpha = (1 + sigma**2).rsqrt()
        x = (alpha * (images + sigma * noise)).contiguous(memory_format=torch.channels_last)
        out = network.body(x, timestep, tokens)
        return (out.float() - alpha * (noise - sigma * images)).square().mean((1, 2, 3))
    t = append_dims(fractions, images.ndim)
    velocity = network((1 - t) * images + t * noise, fractions, tokens)
    return (velocity - (noise - images)).square().mean((1, 2, 3))


def optimizers(network: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the attention blocks, AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        inside = name.startswith(("blocks.", "attend_")) and "modulation" not in name
        (matrices if inside and parameter.ndim == 2 else rest).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=0.0, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=0.0, betas=(0.9, 0.99), weight_decay=0.01),
    ]


def learning_rate(step: int, progress: float) -> float:
    """Linear warm-up to LEARNING_RATE, a plateau, then a cosine down to FINAL_RATE of it."""
    decay = 0.5 * (1 + math.cos(math.pi * max(0.0, (progress - HOLD) / (1 - HOLD))))
    return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * (FINAL_RATE + (1 - FINAL_RATE) * decay)


def save(network: nn.Module, path: Path) -> None:
    """Write the weights as fp16 safetensors; a reader never sees a half-written file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    weights = {name: value.detach().half().cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, temporary)
    temporary.replace(path)


def train(name: str, minutes: float, seed: int, out: Path, device: str) -> None:
    """Train for `minutes` of wall time, saving the averaged weights to `out` every SAVE_EVERY seconds."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = NETWORKS[name]().to(device)
    average = copy.deepcopy(network).requires_grad_(False)
    if name == "unet":
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    print(f"{name}: {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters", flush=True)
    optims = optimizers(network)
    begin, saved, step = time.monotonic(), 0.0, 0
    bands = torch.zeros(5, 2)
    while (elapsed := time.monotonic() - begin) < 60 * minutes:
        rate = learning_rate(step, elapsed / (60 * minutes))
        for optim, factor in zip(optims, (MUON_FACTOR, 1.0), strict=True):
            for group in optim.param_groups:
                group["lr"] = factor * rate
        scenes = random_scenes(BATCH, generator)
        images, tokens = render(scenes, generator).to(device), encode(scenes)
        tokens[torch.rand(BATCH) < DROP_CAPTION] = NULL_TOKEN
        fractions = draw_times(BATCH)
        with torch.autocast(device, torch.bfloat16):
            losses = loss_of(network, images, tokens.to(device), fractions.to(device))
        losses.mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        step += 1
        with torch.no_grad():
            decay = min(EMA, (1 + step) / (15 + step))
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
        band = (5 * fractions).long().clamp(max=4)
        bands.index_add_(0, band, torch.stack([losses.detach().float().cpu(), torch.ones(BATCH)], 1))
        if step % REPORT_EVERY == 0:
            parts = " ".join(f"{total / max(count, 1):.4f}" for total, count in bands.tolist())
            speed = step * BATCH / elapsed
            print(f"step {step}  {elapsed:.0f} s  {speed:.0f} images/s  loss by time {parts}", flush=True)
            bands.zero_()
        if elapsed - saved > SAVE_EVERY:
            save(average, out)
            saved = elapsed
    save(average, out)
    print(f"done: {step} steps, {step * BATCH} images, {time.monotonic() - begin:.0f} s", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(NETWORKS))
    parser.add_argument("--minutes", type=float, default=75.0, help="wall time the schedule spans")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train(args.name, args.minutes, args.seed, args.out, args.device)


if __name__ == "__main__":
    main()
