"""Train a network: python -m lib_noiseorder.playground.train clutter-unet --out PATH (torch >= 2.9)."""

from __future__ import annotations

import argparse
import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .models import MODELS, TIMESTEPS, DiT, PlaygroundModel, UNet, append_dims, timestep_to_sigma
from .world import NULL_TOKEN

BATCH = 48
MUON_FACTOR = 1.5
FINAL_RATE = 0.02
WARM_UP_STEPS = 150
HOLD = 0.2
"""Share of the training before the cosine decay begins."""
EMA = 0.997
DROP_CAPTION = 0.12
GUIDANCE = 3.0
TEACHER_STEPS = 2
"""How many guided steps of the teacher become one of the student."""
OWN_LEVELS = 0.75
"""Share of the student's samples that start where its own steps do; the others start anywhere."""
LAYOUT_SHARE = 0.35
"""Share of the samples moved to the noise levels at which the layout is decided."""
SAVE_EVERY = 120.0
REPORT_EVERY = 200


@dataclass(frozen=True)
class Recipe:
    """How many steps of BATCH images a training takes, and for how many its schedule is laid out.

    One that stops before its schedule ends leaves prompts wrong that a change of the initial noise can put right.
    """

    seed: int
    steps: int
    schedule: int
    rate: float = 1.5e-3
    teacher: str | None = None
    """The model that is distilled, its CFG scale GUIDANCE baked in."""


RECIPES: dict[str, Recipe] = {
    # The shipped two followed their schedule in wall time; these are the steps they had taken, and would have.
    "unet": Recipe(seed=1, steps=2170, schedule=4790),
    "dit": Recipe(seed=1, steps=2540, schedule=5600),
    "few": Recipe(seed=1, steps=200, schedule=200, rate=5e-4, teacher="dit"),
    "clutter-unet": Recipe(seed=1, steps=1616, schedule=2400),
    "clutter-dit": Recipe(seed=1, steps=3200, schedule=3200),
}


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


def distilling_loss(
    network: UNet | DiT, teacher: PlaygroundModel, images: Tensor, tokens: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Squared error per image of the teacher's mean velocity over the next 1/steps of the schedule, and its start.

    The teacher goes there under CFG. Both are (n,).
    """
    count = len(images)
    own = torch.randint(1, steps + 1, (count,)) / steps
    start = torch.where(torch.rand(count) < OWN_LEVELS, own, 1 - torch.rand(count)).to(images.device)
    end = (start - 1 / steps).clamp(min=0)
    t = append_dims(start, images.ndim)
    noisy = (1 - t) * images + t * torch.randn_like(images)
    both, x = torch.cat([tokens, torch.full_like(tokens, NULL_TOKEN)]), noisy
    for step in range(TEACHER_STEPS):
        here, there = (start + (end - start) * k / TEACHER_STEPS for k in (step, step + 1))
        cond, uncond = teacher.denoise(torch.cat([x, x]), here.repeat(2), both).chunk(2)
        along = append_dims((there - here) / here, images.ndim)
        x = x + (x - uncond - GUIDANCE * (cond - uncond)) * along
    target = (noisy - x) / append_dims(start - end, images.ndim)
    return (network(noisy, start, tokens) - target).square().mean((1, 2, 3)), start


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


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up to the recipe's rate, a plateau, then a cosine down to FINAL_RATE of it."""
    progress = step / recipe.schedule
    decay = 0.5 * (1 + math.cos(math.pi * max(0.0, (progress - HOLD) / (1 - HOLD))))
    warm_up = min(1.0, (step + 1) / min(WARM_UP_STEPS, recipe.schedule / 8))
    return recipe.rate * warm_up * (FINAL_RATE + (1 - FINAL_RATE) * decay)


def save(network: nn.Module, path: Path) -> None:
    """Write the weights as fp16 safetensors; a reader never sees a half-written file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    weights = {name: value.detach().half().cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, temporary)
    temporary.replace(path)


def keep(state: dict[str, Any], path: Path) -> None:
    """Write what a training needs to go on; a reader never sees a half-written file."""
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    temporary.replace(path)


def train(name: str, recipe: Recipe, out: Path, device: str) -> None:
    """Train by the recipe from where it was stopped, saving the averaged weights to `out` every SAVE_EVERY seconds."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    world, distilled = MODELS[name].world, MODELS[name].distilled
    network = MODELS[name].network().to(device)
    teacher = PlaygroundModel.load(recipe.teacher, device=device) if recipe.teacher else None
    if teacher:
        network.load_state_dict(teacher.network.state_dict())
    average = copy.deepcopy(network).requires_grad_(False)
    if isinstance(network, UNet):
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    print(f"{name}: {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters", flush=True)
    optims = optimizers(network)
    step, before, state_path = 0, 0.0, out.with_suffix(".state")
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        for optim, values in zip(optims, state["optims"], strict=True):
            optim.load_state_dict(values)
        torch.set_rng_state(state["random"])
        generator.set_state(state["scenes"])
        step, before = state["step"], state["seconds"]
    begin, last_save = time.monotonic() - before, before
    bands = torch.zeros(5, 2)
    while step < recipe.steps:
        rate = learning_rate(step, recipe)
        for optim, factor in zip(optims, (MUON_FACTOR, 1.0), strict=True):
            for group in optim.param_groups:
                group["lr"] = factor * rate
        scenes = world.random_scenes(BATCH, generator)
        images, tokens = world.render(scenes, generator).to(device), world.encode(scenes)
        with torch.autocast(device, torch.bfloat16):
            if teacher and distilled:
                losses, fractions = distilling_loss(network, teacher, images, tokens.to(device), distilled)
            else:
                tokens[torch.rand(BATCH) < DROP_CAPTION] = NULL_TOKEN
                fractions = draw_times(BATCH).to(device)
                losses = loss_of(network, images, tokens.to(device), fractions)
        losses.mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        step += 1
        with torch.no_grad():
            decay = min(EMA, (1 + step) / (15 + step))
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
        band = (5 * fractions.cpu()).long().clamp(max=4)
        bands.index_add_(0, band, torch.stack([losses.detach().float().cpu(), torch.ones(BATCH)], 1))
        elapsed = time.monotonic() - begin
        if step % REPORT_EVERY == 0:
            parts = " ".join(f"{total / max(count, 1):.4f}" for total, count in bands.tolist())
            speed = step * BATCH / elapsed
            print(f"step {step}  {elapsed:.0f} s  {speed:.0f} images/s  loss by time {parts}", flush=True)
            bands.zero_()
        if elapsed - last_save > SAVE_EVERY:
            save(average, out)
            optim_states = [optim.state_dict() for optim in optims]
            keep(
                {
                    "network": network.state_dict(),
                    "average": average.state_dict(),
                    "optims": optim_states,
                    "random": torch.get_rng_state(),
                    "scenes": generator.get_state(),
                    "step": step,
                    "seconds": elapsed,
                },
                state_path,
            )
            last_save = elapsed
    save(average, out)
    state_path.unlink(missing_ok=True)
    print(f"done: {step} steps, {step * BATCH} images, {time.monotonic() - begin:.0f} s", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train(args.name, RECIPES[args.name], args.out, args.device)


if __name__ == "__main__":
    main()
