"""Train the latent world's checkpoint: its VAE, its text encoder and UNet together, and its decoder to the end.

    python benchmarks/latent/train.py vae     --work FOLDER
    python benchmarks/latent/train.py unet    --work FOLDER    (beside the next, on another core)
    python benchmarks/latent/train.py decoder --work FOLDER

Each goes on where it was stopped; FOLDER keeps what that needs. Weights are written as fp16 safetensors to
benchmarks/latent/weights, or to --out. It needs torch 2.9 or later.

The shipped UNet is that of step 3,450 of a schedule of 4,500. At 20 steps of Euler it is right in 0.66 of 128 prompts
at CFG 3 and in 0.59 at CFG 5: with one object 0.85 and 0.74, with two 0.54 and 0.50, with three 0.68 and 0.58.

The weights were made on two cores of an AMD EPYC between other work, at the lowest priority: the VAE in 19
minutes, the UNet in 138 and the decoder in 13. Schedules were shortened on the way, so that a new training will differ:
the VAE's first 1,900 steps went by one of 2,000, cut-outs up to step 1,500 and a LATENT_NOISE of 0.1; the UNet's first
250 by one of 4,200, up to step 750 by one of 3,000 and up to 1,530 by one of 2,100; the decoder's first 500 by one of
2,500 and up to 900 by one of 900.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from latent import layout, world
from latent.layout import LATENT_CHANNELS, SCALE, AutoencoderKL, TextModel, UNetModel

WEIGHTS = Path(__file__).parent / "weights"
SAVE_EVERY = 120.0
REPORT_EVERY = 50
EMA = 0.997


@dataclass(frozen=True)
class Recipe:
    """How a training goes: a warm-up, a plateau, then a cosine down to 2 % of the rate at the last step."""

    seed: int
    steps: int
    batch: int
    rate: float
    warm_up: int = 100
    hold: float = 0.3

    def rate_at(self, step: int) -> float:
        """The learning rate of this step."""
        decay = max(0.0, (step / self.steps - self.hold) / (1 - self.hold))
        return self.rate * min(1.0, (step + 1) / self.warm_up) * (0.02 + 0.49 * (1 + math.cos(math.pi * decay)))


VAE = Recipe(seed=1, steps=3600, batch=8, rate=2e-3, hold=0.6)
CROP, CROP_STEPS = 64, 3350
"""Steps on cut-out quarters of pictures, where the objects are, before those on whole pictures."""
DECODER = Recipe(seed=3, steps=1400, batch=8, rate=1e-3, hold=0.3)
COLOUR_WEIGHT = 6.0
"""Of an error where the picture is coloured, which it is in few places, beside 1 elsewhere."""
LATENT_NOISE = 0.06
"""Put on the latents while the VAE learns, so that its decoder forgives a UNet's small errors."""
DECODER_NOISE = 0.06
"""The same while its decoder learns on, of latents of unit variance."""
KL_WEIGHT = 5e-4
LOG_VARIANCE = -8.0
"""Of the encoding, as it is written: next to none."""


UNET = Recipe(seed=2, steps=1780, batch=32, rate=1.5e-3, warm_up=150, hold=0.25)
DROP_CAPTION = 0.1
LAYOUT_SHARE = 0.35
"""Share of the samples moved to the noise levels at which the layout is decided."""
MAX_WEIGHT = 25.0
"""Of a sample's loss. Up to there the loss counts as one of v: an epsilon loss is blind near pure noise."""
CHUNK, FIRST_CHUNKS, CHUNKS, CHUNK_STEPS = 512, 8, 26, 32
"""Encoded pictures: so many at once, so many such chunks at first and at most, one more every few steps."""


def save(state: dict[str, Tensor], path: Path) -> None:
    """Write weights as fp16; a reader never sees a half-written file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    save_file({name: value.detach().half().contiguous() for name, value in state.items()}, temporary)
    temporary.replace(path)


def keep(state: dict[str, Any], path: Path) -> None:
    """Write what a training needs to go on; a reader never sees a half-written file."""
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    temporary.replace(path)


class Training:
    """A network, its average and its optimizers, on the way through a recipe."""

    def __init__(self, network: nn.Module, optims: list[torch.optim.Optimizer], recipe: Recipe, path: Path) -> None:
        self.network, self.optims, self.recipe, self.path = network, optims, recipe, path
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.factors = [optim.param_groups[0]["lr"] for optim in optims]
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.step, before = 0, 0.0
        if path.exists():
            state = torch.load(path, weights_only=True)
            network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            for optim, values in zip(optims, state["optims"], strict=True):
                optim.load_state_dict(values)
            torch.set_rng_state(state["random"])
            self.generator.set_state(state["generator"])
            self.step, before = state["step"], state["seconds"]
        self.begin, self.last_save = time.monotonic() - before, before

    @property
    def seconds(self) -> float:
        """Time spent so far, all runs together."""
        return time.monotonic() - self.begin

    def update(self, loss: Tensor) -> None:
        """One step of every optimizer down this loss."""
        for optim, factor in zip(self.optims, self.factors, strict=True):
            for group in optim.param_groups:
                group["lr"] = factor * self.recipe.rate_at(self.step)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optim in self.optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(EMA, (1 + self.step) / (15 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        if self.seconds - self.last_save > SAVE_EVERY:
            self.keep()

    def keep(self) -> None:
        """Write what is needed to go on."""
        self.last_save = self.seconds
        keep(
            {
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optims": [optim.state_dict() for optim in self.optims],
                "random": torch.get_rng_state(),
                "generator": self.generator.get_state(),
                "step": self.step,
                "seconds": self.seconds,
            },
            self.path,
        )


def optimizers(network: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside transformers, AdamW for everything else; their rates are factors of the recipe's."""
    learned = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in learned:
        inside = "transformer_blocks" in name or ".layers." in name
        (matrices if inside and parameter.ndim == 2 else rest).append(parameter)
    adam = torch.optim.AdamW(rest, lr=1.0, betas=(0.9, 0.99), weight_decay=0.01)
    if not matrices:
        return [adam]
    return [torch.optim.Muon(matrices, lr=1.5, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"), adam]


def draw(count: int, generator: torch.Generator) -> Tensor:
    """Pictures of random scenes, (count, 3, 128, 128)."""
    return world.render(world.random_scenes(count, generator), generator)


def saturation(images: Tensor) -> Tensor:
    """How coloured each pixel is, (n, 1, h, w), about 1 for objects."""
    return (images.amax(1, keepdim=True) - images.amin(1, keepdim=True)).clamp(max=1)


def cut_out(images: Tensor, generator: torch.Generator) -> Tensor:
    """A quarter of each picture, (n, 3, 64, 64), the likelier the more colour it has."""
    colour = torch.nn.functional.avg_pool2d(saturation(images), CROP, 8)[:, 0]
    picks = torch.multinomial(colour.flatten(1), 1, generator=generator)[:, 0]
    tops, lefts = 8 * (picks // colour.shape[2]), 8 * (picks % colour.shape[2])
    places = zip(images, tops.tolist(), lefts.tolist(), strict=True)
    return torch.stack([image[:, top : top + CROP, left : left + CROP] for image, top, left in places])


def picture_loss(decoded: Tensor, images: Tensor) -> tuple[Tensor, float]:
    """Squared and absolute error, weighted where the picture is coloured; and the mean absolute error."""
    error = decoded.float() - images
    weight = 1 + (COLOUR_WEIGHT - 1) * saturation(images)
    return (weight * (error.abs() + error.square())).mean(), error.abs().mean().item()


def train_vae(work: Path, out: Path) -> None:
    """Encoder and decoder together: the error of pictures behind noisy latents, and a pull of the latents to zero."""
    torch.manual_seed(VAE.seed)
    network = AutoencoderKL().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    print(f"vae: {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters", flush=True)
    training = Training(network, optimizers(network), VAE, work / "vae.state")
    total = 0.0
    while training.step < VAE.steps:
        images = draw(VAE.batch, training.generator)
        if training.step < CROP_STEPS:
            images = cut_out(images, training.generator)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latents = network.encode(images)
            decoded = network.decode(latents + LATENT_NOISE * torch.randn_like(latents))
        loss, error = picture_loss(decoded, images)
        training.update(loss + KL_WEIGHT * latents.float().square().mean())
        total += error
        if training.step % REPORT_EVERY == 0:
            speed = training.step * VAE.batch / training.seconds
            spread = latents.float().std().item()
            print(
                f"step {training.step}  {training.seconds:.0f} s  {speed:.1f} images/s  "
                f"error {total / REPORT_EVERY:.4f}  latents {spread:.2f}",
                flush=True,
            )
            total = 0.0
            save(normalise(copy.deepcopy(training.average)).state_dict(), out)
    training.keep()
    vae = normalise(copy.deepcopy(training.average))
    save(vae.state_dict(), out)
    print(f"done: {training.step} steps, {training.seconds:.0f} s; decoded pictures read right: {measure_vae(vae)}")


def train_decoder(work: Path, out: Path) -> None:
    """The decoder alone, on whole pictures, behind the encoder as it is: so the latents stay what the UNet learns."""
    torch.manual_seed(DECODER.seed)
    network = load_vae(out).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for part in (network.encoder, network.quant_conv):
        part.requires_grad_(False)
    training = Training(network, optimizers(network), DECODER, work / "decoder.state")
    total = 0.0
    while training.step < DECODER.steps:
        images = draw(DECODER.batch, training.generator).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = network.encode(images)
            decoded = network.decode(latents + DECODER_NOISE / SCALE * torch.randn_like(latents))
        loss, error = picture_loss(decoded, images)
        training.update(loss)
        total += error
        if training.step % REPORT_EVERY == 0:
            print(f"step {training.step}  {training.seconds:.0f} s  error {total / REPORT_EVERY:.4f}", flush=True)
            total = 0.0
            save(training.average.state_dict(), out / "decoder.safetensors")
    training.keep()
    save(training.average.state_dict(), out / "vae.safetensors")
    print(
        f"done: {training.step} steps, {training.seconds:.0f} s; read right: {measure_vae(load_vae(out))}", flush=True
    )


def load_vae(folder: Path) -> AutoencoderKL:
    """The VAE as written, in float32."""
    vae = AutoencoderKL()
    vae.load_state_dict({name: value.float() for name, value in load_file(folder / "vae.safetensors").items()})
    return vae


@torch.no_grad()
def normalise(vae: AutoencoderKL) -> AutoencoderKL:
    """Fold the latents' mean and deviation into the convs about them: SCALE times a latent then is about N(0, 1)."""
    vae = vae.float()
    latents = torch.cat([vae.encode(draw(32, torch.Generator().manual_seed(k))) for k in range(8)])
    mean, size = latents.mean((0, 2, 3)), latents.std((0, 2, 3)) * SCALE
    quant, back = vae.quant_conv, vae.post_quant_conv
    # decode(z) = back(z size + mean), encode(x) = (quant(x) - mean) / size
    back.bias += back.weight[:, :, 0, 0] @ mean
    back.weight *= size[None, :, None, None]
    quant.weight[:LATENT_CHANNELS] /= size[:, None, None, None]
    quant.bias[:LATENT_CHANNELS] = (quant.bias[:LATENT_CHANNELS] - mean) / size
    quant.weight[LATENT_CHANNELS:] = 0
    quant.bias[LATENT_CHANNELS:] = LOG_VARIANCE
    return vae


@torch.no_grad()
def measure_vae(vae: AutoencoderKL, count: int = 1024, seed: int = 900_000) -> dict[str, float]:
    """What share of drawn scenes is read right as drawn, and behind the VAE."""
    generator = torch.Generator().manual_seed(seed)
    scenes = world.random_scenes(count, generator)
    shares = {"as drawn": 0.0, "behind the VAE": 0.0}
    for start in range(0, count, 32):
        part = scenes[start : start + 32]
        images = world.render(part, generator)
        for name, seen in (("as drawn", images), ("behind the VAE", vae.decode(vae.encode(images)))):
            shares[name] += sum(reading.right for reading in world.check(seen, part)) / count
    return shares


class Pool:
    """Encoded pictures and their prompts, made chunk by chunk; drawn of what is there."""

    def __init__(self, vae: AutoencoderKL, folder: Path) -> None:
        self.vae, self.folder = vae.eval().requires_grad_(False), folder
        folder.mkdir(parents=True, exist_ok=True)
        self.latents: list[Tensor] = []
        self.tokens: list[Tensor] = []

    def grow(self, step: int) -> None:
        """Have all chunks that belong to this step."""
        while len(self.latents) < min(CHUNKS, FIRST_CHUNKS + step // CHUNK_STEPS):
            latents, tokens = self.chunk(len(self.latents))
            self.latents.append(latents)
            self.tokens.append(tokens)

    def chunk(self, index: int) -> tuple[Tensor, Tensor]:
        """Latents (512, 4, 16, 16) fp16 and tokens of four phrasings (512, 4, 77), made once and kept."""
        path = self.folder / f"chunk-{index:03}.pt"
        if not path.exists():
            generator = torch.Generator().manual_seed(1000 + index)
            scenes = world.random_scenes(CHUNK, generator)
            images = world.render(scenes, generator).split(32)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                latents = torch.cat([SCALE * self.vae.encode(part).float() for part in images]).half()
            prompts = [world.captions(scene) for scene in scenes]
            phrased = [said[k % len(said)] for said in prompts for k in range(4)]
            tokens = layout.thin_tokens(layout.tokenize(phrased)).view(CHUNK, 4, layout.LENGTH).to(torch.uint8)
            keep({"latents": latents, "tokens": tokens}, path)
        state = torch.load(path, weights_only=True)
        return state["latents"], state["tokens"]

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents (count, 4, 16, 16) and thin tokens (count, 77), each picture in one of its phrasings."""
        picks = torch.randint(CHUNK * len(self.latents), (count,), generator=generator).tolist()
        phrasings = torch.randint(4, (count,), generator=generator).tolist()
        latents = torch.stack([self.latents[p // CHUNK][p % CHUNK] for p in picks])
        tokens = [self.tokens[p // CHUNK][p % CHUNK, k] for p, k in zip(picks, phrasings, strict=True)]
        return latents.float(), torch.stack(tokens).long()


class Prompted(nn.Module):
    """Text encoder and UNet as one network."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.unet = TextModel(), UNetModel()

    def forward(self, x: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Epsilon for noisy latents (n, 4, h, w), timesteps (n,) and thin tokens (n, 77)."""
        return self.unet(x, timesteps, self.text(tokens))


def draw_timesteps(count: int) -> Tensor:
    """Timesteps in [0, 999], (count,): evenly spread but for LAYOUT_SHARE of them."""
    even = (torch.randperm(count) + torch.rand(count)) / count
    decisive = torch.sigmoid(1.0 + 0.8 * torch.randn(count))
    fractions = torch.where(torch.rand(count) < LAYOUT_SHARE, decisive, even)
    return (layout.TIMESTEPS * fractions).long().clamp(max=layout.TIMESTEPS - 1)


def train_unet(work: Path, out: Path) -> None:
    """Weighted squared error of epsilon, over encoded pictures and their prompts."""
    vae = load_vae(out)
    torch.manual_seed(UNET.seed)
    network = Prompted().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for embedding in network.text.embeddings.values():
        nn.init.normal_(embedding.weight, std=0.3)
    print(f"unet: {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters", flush=True)
    training = Training(network, optimizers(network), UNET, work / "unet.state")
    pool = Pool(vae, work / "pool")
    empty = layout.thin_tokens(layout.tokenize([""]))[0]
    schedule = layout.alphas_cumprod()
    bands = torch.zeros(5, 2)
    while training.step < UNET.steps:
        pool.grow(training.step)
        latents, tokens = pool.draw(UNET.batch, training.generator)
        tokens[torch.rand(UNET.batch) < DROP_CAPTION] = empty
        timesteps = draw_timesteps(UNET.batch)
        alpha = schedule[timesteps][:, None, None, None]
        noise = torch.randn_like(latents)
        x = (alpha.sqrt() * latents + (1 - alpha).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            epsilon = network(x, timesteps, tokens)
        losses = (epsilon.float() - noise).square().mean((1, 2, 3)) * (1 / schedule[timesteps]).clamp(max=MAX_WEIGHT)
        training.update(losses.mean())
        band = 5 * timesteps // layout.TIMESTEPS
        bands.index_add_(0, band, torch.stack([losses.detach(), torch.ones(UNET.batch)], 1))
        if training.step % REPORT_EVERY == 0:
            parts = " ".join(f"{total / max(count, 1):.4f}" for total, count in bands.tolist())
            speed = training.step * UNET.batch / training.seconds
            print(
                f"step {training.step}  {training.seconds:.0f} s  {speed:.1f} images/s  loss by timestep {parts}",
                flush=True,
            )
            bands.zero_()
            save(training.average.state_dict(), out / "unet.safetensors")
    training.keep()
    save(training.average.state_dict(), out / "unet.safetensors")
    print(f"done: {training.step} steps, {training.seconds:.0f} s", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("vae", "unet", "decoder"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.part == "vae":
        train_vae(args.work, args.out / "vae.safetensors")
    elif args.part == "decoder":
        train_decoder(args.work, args.out)
    else:
        train_unet(args.work, args.out)


if __name__ == "__main__":
    main()
