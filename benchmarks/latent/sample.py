"""How often the latent world's model makes what the prompt says, with a sampler of its own and no WebUI.

    python benchmarks/latent/sample.py [--cfg 3 5 7] [--steps 20] [--count 256] [--sheet FILE.png]

Prints, for each CFG scale, the share that is right by the number of objects, as Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from latent import layout, world
from latent.checkpoint import WEIGHTS, thin_weights

BATCH = 16
SIDE = world.SIZE // layout.FACTOR


class Model:
    """VAE, text encoder and UNet with the trained weights."""

    def __init__(self, folder: Path = WEIGHTS) -> None:
        self.vae, self.text, self.unet = layout.AutoencoderKL(), layout.TextModel(), layout.UNetModel()
        for network, weights in zip((self.vae, self.text, self.unet), thin_weights(folder), strict=True):
            network.load_state_dict(weights)
            network.eval().requires_grad_(False)
        schedule = layout.alphas_cumprod()
        self.log_sigmas = ((1 - schedule) / schedule).sqrt().log()

    def sigmas(self, steps: int) -> Tensor:
        """k-diffusion's sigmas, (steps + 1,), of timesteps spaced evenly from the last, and 0."""
        timesteps = torch.linspace(layout.TIMESTEPS - 1, 0, steps)
        low = timesteps.floor().long()
        high, share = timesteps.ceil().long(), timesteps - low
        return torch.cat([((1 - share) * self.log_sigmas[low] + share * self.log_sigmas[high]).exp(), torch.zeros(1)])

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Prompts as the UNet reads them, (n, 77, width)."""
        return self.text(layout.thin_tokens(layout.tokenize(prompts)))

    def denoise(self, x: Tensor, sigma: float, context: Tensor) -> Tensor:
        """Denoised latents (n, 4, h, w) of x at sigma."""
        timestep = (self.log_sigmas - torch.tensor(sigma).log()).abs().argmin().expand(len(x))
        return x - sigma * self.unet(x / (1 + sigma**2) ** 0.5, timestep, context)

    @torch.no_grad()
    def sample(self, noise: Tensor, prompts: Sequence[str], cfg_scale: float, steps: int) -> Tensor:
        """Images (n, 3, 128, 128) from unit-variance noise (n, 4, 16, 16) by Euler steps, as a WebUI makes them."""
        context = torch.cat([self.encode(prompts), self.encode([""] * len(prompts))])
        sigmas = self.sigmas(steps).tolist()
        x = noise * sigmas[0]
        for sigma, following in pairwise(sigmas):
            cond, uncond = self.denoise(torch.cat([x, x]), sigma, context).chunk(2)
            denoised = uncond + cfg_scale * (cond - uncond)
            x = x + (x - denoised) * ((following - sigma) / sigma)
        return self.decode(x)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images (n, 3, 128, 128) near [-1, 1]."""
        return self.vae.decode(latents / layout.SCALE)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", type=float, nargs="+", default=[3.0, 5.0, 7.0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=3_000_000)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--sheet", type=Path, help="a picture of the first images at the last CFG scale")
    args = parser.parse_args()
    model = Model(args.weights)
    generator = torch.Generator().manual_seed(args.seed)
    scenes = world.random_scenes(args.count, generator)
    prompts = [world.captions(scene)[index % len(world.captions(scene))] for index, scene in enumerate(scenes)]
    noise = torch.randn(args.count, layout.LATENT_CHANNELS, SIDE, SIDE, generator=generator)
    numbers = torch.tensor([len(scene.objects) for scene in scenes])
    names = ["one object", "two", "three", "all", "objects alone", "said of them", "score"]
    print(f"N = {args.count}, {args.steps} steps\n\n| CFG | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for cfg_scale in args.cfg:
        parts = [
            model.sample(noise[k : k + BATCH], prompts[k : k + BATCH], cfg_scale, args.steps)
            for k in range(0, args.count, BATCH)
        ]
        images = torch.cat(parts)
        readings = world.check(images, scenes)
        right = torch.tensor([float(reading.right) for reading in readings])
        shares = [right[numbers == number].mean() for number in (1, 2, 3)] + [right.mean()]
        shares += [
            torch.tensor([float(getattr(reading, name)) for reading in readings]).mean()
            for name in ("objects", "relation", "score")
        ]
        print(f"| {cfg_scale:g} | {' | '.join(f'{share:.3f}' for share in shares)} |", flush=True)
    if args.sheet:
        write_sheet(images[:32], args.sheet)
        for index, (prompt, reading) in enumerate(zip(prompts[:32], readings, strict=False)):
            print(f"{index}: {prompt}: {'right' if reading.right else 'wrong'}: {reading.words}")


def write_sheet(images: Tensor, path: Path, columns: int = 8) -> None:
    """Images beside one another."""
    from PIL import Image

    step = world.SIZE + 2
    sheet = Image.new("RGB", (columns * step, -(-len(images) // columns) * step), "white")
    for index, picture in enumerate(world.pictures_of(images)):
        sheet.paste(picture, (index % columns * step, index // columns * step))
    sheet.save(path)


if __name__ == "__main__":
    main()
