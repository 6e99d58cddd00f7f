"""Ideas of our own for quality.py: what up to six evaluations may do to the noise, and other critics of a preview.

An idea takes the seeds' noise z (B, C, ...) and the host of a batch and returns the noise to start from; a critic takes
x̂0 and the host and returns a score for each image, higher is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lib_noiseorder.core.erasure import erase
from lib_noiseorder.core.injection import inject
from lib_noiseorder.core.modulate import apply_cfg, sample_euler
from lib_noiseorder.core.streams import derive_seed
from lib_noiseorder.playground.host import PlaygroundDenoiser
from lib_noiseorder.playground.world import NULL_TOKEN

REDRAWN = 1 / 3
"""The share of an image that is drawn anew where the model disagrees with itself."""


def draw(host: PlaygroundDenoiser, index: int, stage: str = "ideas") -> Tensor:
    return host.fresh_noise([derive_seed(seed, index, stage=stage) for seed in host.seeds])


def preview(noise: Tensor, host: PlaygroundDenoiser, fractions: Sequence[float], scale: float = 1.0) -> Tensor:
    """The x̂0 of a walk along these levels of the schedule."""
    return sample_euler(noise, [host.level(fraction) for fraction in fractions], host, scale != 1, scale)


def again(denoised: Tensor, host: PlaygroundDenoiser, fraction: float, index: int = 1, scale: float = 1.0) -> Tensor:
    """What the model makes of x̂0 under fresh noise at this level."""
    level = host.level(fraction)
    return apply_cfg(host.denoise(host.noise_scaling(draw(host, index), level, denoised), level, scale != 1), scale)


def disagreement(denoised: Tensor, host: PlaygroundDenoiser, fraction: float) -> Tensor:
    """`mean over channels (x̂0' − x̂0)²`, (B, 1, H, W); one evaluation."""
    return (again(denoised, host, fraction) - denoised).square().mean(dim=1, keepdim=True)


def best(candidates: Sequence[Tensor], errors: Sequence[Tensor]) -> Tensor:
    """Of each image the candidate with the smallest mean error."""
    index = torch.stack([error.flatten(1).mean(dim=1) for error in errors]).argmin(dim=0)
    return torch.stack([candidates[k][image] for image, k in enumerate(index.tolist())])


def candidates_of(noise: Tensor, host: PlaygroundDenoiser, count: int) -> list[Tensor]:
    """The seed's noise and erased variants of it, n = 4."""
    return [noise] + [erase(noise, 4.0, lambda index, k=k: draw(host, 16 * k + index)) for k in range(1, count)]


def choose(
    noise: Tensor, host: PlaygroundDenoiser, count: int, fractions: Sequence[float], fraction: float, scale: float = 1.0
) -> Tensor:
    """Of the candidates the one whose short walk the model agrees with."""
    candidates = candidates_of(noise, host, count)
    return best(candidates, [disagreement(preview(z, host, fractions, scale), host, fraction) for z in candidates])


def redraw(noise: Tensor, host: PlaygroundDenoiser, fractions: Sequence[float], fraction: float) -> Tensor:
    """Fresh noise where the model disagrees most with its own preview, kept where the whole then agrees better."""
    error = disagreement(preview(noise, host, fractions), host, fraction)
    smooth = F.avg_pool2d(error, 5, stride=1, padding=2, count_include_pad=False)
    worst = smooth >= smooth.flatten(1).quantile(1 - REDRAWN, dim=1).view(-1, 1, 1, 1)
    other = torch.where(worst, draw(host, 2), noise)
    return best([noise, other], [error, disagreement(preview(other, host, fractions), host, fraction)])


def correct(noise: Tensor, host: PlaygroundDenoiser, delta: float, fraction: float) -> Tensor:
    """Turned toward what the model would change in its preview, `x̂0' − x̂0`."""
    denoised = preview(noise, host, (1.0, 0.9), host.cfg_scale)
    return inject(noise, [again(denoised, host, fraction, scale=host.cfg_scale) - denoised], [1.0], delta)


def correct_again(
    noise: Tensor, host: PlaygroundDenoiser, rounds: int, delta: float, fractions: Sequence[float], fraction: float
) -> Tensor:
    """Self-correction, again and again, each time of the noise that came of it before."""
    for k in range(1, rounds + 1):
        denoised = preview(noise, host, fractions)
        noise = inject(noise, [again(denoised, host, fraction, k) - denoised], [1.0], delta)
    return noise


def choose_and_correct(
    noise: Tensor, host: PlaygroundDenoiser, count: int, delta: float, fractions: Sequence[float], fraction: float
) -> Tensor:
    """As `choose`, and what was asked for it corrects the one that is chosen."""
    candidates = candidates_of(noise, host, count)
    previews = [preview(z, host, fractions) for z in candidates]
    changes = [again(denoised, host, fraction) - denoised for denoised in previews]
    errors = [change.square() for change in changes]
    return inject(best(candidates, errors), [best(changes, errors)], [1.0], delta)


def mild_look_ahead(noise: Tensor, host: PlaygroundDenoiser, delta: float, scale: float) -> Tensor:
    """Turned toward the x̂0 that a short walk at a low CFG previews."""
    return inject(noise, [preview(noise, host, (1.0, 0.9, 0.8), scale)], [1.0], delta)


IDEAS: dict[str, Callable[[Tensor, PlaygroundDenoiser], Tensor]] = {
    "Idea: choose of 2, prompt alone at 1 → 0.6, asked at 0.4": partial(
        choose, count=2, fractions=(1.0, 0.6), fraction=0.4
    ),
    "Idea: choose of 3, prompt alone at 0.8, asked at 0.5": partial(choose, count=3, fractions=(0.8,), fraction=0.5),
    "Idea: redraw the worst third, keep the better": partial(redraw, fractions=(1.0, 0.6), fraction=0.4),
    "Idea: self-correction with guidance, δ = 0.08": partial(correct, delta=0.08, fraction=0.6),
    "Idea: self-correction twice, prompt alone at 1 → 0.75, δ = 0.1": partial(
        correct_again, rounds=2, delta=0.1, fractions=(1.0, 0.75), fraction=0.6
    ),
    "Idea: self-correction three times, prompt alone at 0.85, δ = 0.1": partial(
        correct_again, rounds=3, delta=0.1, fractions=(0.85,), fraction=0.6
    ),
    "Idea: choose of 2, prompt alone at 1 → 0.75, and self-correct, δ = 0.1": partial(
        choose_and_correct, count=2, delta=0.1, fractions=(1.0, 0.75), fraction=0.6
    ),
    "Idea: look-ahead at CFG 1.5, δ = 0.08": partial(mild_look_ahead, delta=0.08, scale=1.5),
}


def scores(errors: Tensor) -> list[float]:
    return (-errors.flatten(1).mean(dim=1)).tolist()


def consistency(denoised: Tensor, host: PlaygroundDenoiser, fractions: Sequence[float], draws: int = 1) -> list[float]:
    """`−mean (x̂0' − x̂0)²` over levels and draws."""
    errors = [(again(denoised, host, f, k + 1) - denoised).square() for f in fractions for k in range(draws)]
    return scores(torch.stack(errors).mean(dim=0))


def agreement(denoised: Tensor, host: PlaygroundDenoiser, fraction: float) -> list[float]:
    """`−mean (x̂0' − x̂0'')²` of two draws: do they show the same?"""
    return scores((again(denoised, host, fraction, 1) - again(denoised, host, fraction, 2)).square())


def levels(denoised: Tensor, host: PlaygroundDenoiser, high: float, low: float) -> list[float]:
    """`−mean (x̂0'(high) − x̂0'(low))²` of the same draw."""
    return scores((again(denoised, host, high) - again(denoised, host, low)).square())


def busyness(images: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, (B,)."""
    across, down = images.diff(dim=-1).square(), images.diff(dim=-2).square()
    return across.flatten(1).mean(dim=1) + down.flatten(1).mean(dim=1)


def relative(denoised: Tensor, host: PlaygroundDenoiser, fraction: float) -> list[float]:
    """`−mean (x̂0' − x̂0)² / busyness`: the error of a busy image is larger by itself."""
    error = torch.tensor(consistency(denoised, host, (fraction,)))
    return (error / busyness(denoised).float().clamp_min(1e-6)).tolist()


def wish(denoised: Tensor, host: PlaygroundDenoiser, fraction: float) -> list[float]:
    """`−mean (c − u)²`, with and without the prompt, of x̂0 under fresh noise: what does the prompt still change?"""
    level = host.level(fraction)
    answer = host.denoise(host.noise_scaling(draw(host, 1), level, denoised), level, True)
    assert answer.uncond is not None
    return scores((answer.cond - answer.uncond).square())


def words(denoised: Tensor, host: PlaygroundDenoiser, fraction: float) -> list[float]:
    """`−max mean (c − c')²` over all c' whose prompt lacks a word: is there one that the model still has to add?"""
    level = host.level(fraction)
    x = host.noise_scaling(draw(host, 1), level, denoised)
    whole, missing = host.model.denoise(x, level.sigma, host.tokens), []
    for word in range(host.tokens.shape[1]):
        tokens = host.tokens.clone()
        tokens[:, word] = NULL_TOKEN
        missing.append(scores((whole - host.model.denoise(x, level.sigma, tokens)).square()))
    return torch.tensor(missing).amin(dim=0).tolist()


CRITICS: dict[str, tuple[Callable[[Tensor, PlaygroundDenoiser], Sequence[float]], int]] = {
    "two draws": (partial(consistency, fractions=(0.6,), draws=2), 2),
    "levels 0.4, 0.6, 0.8": (partial(consistency, fractions=(0.4, 0.6, 0.8)), 3),
    "level 0.4": (partial(consistency, fractions=(0.4,)), 1),
    "agreement of two draws": (partial(agreement, fraction=0.6), 2),
    "agreement of levels 0.8 and 0.5": (partial(levels, high=0.8, low=0.5), 2),
    "relative to busyness": (partial(relative, fraction=0.6), 1),
}
"""With the evaluations that each takes for an image."""
