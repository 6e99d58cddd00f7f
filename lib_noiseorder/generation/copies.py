"""Generations made beside a user's own: copies of the processing object, random numbers nobody misses, images."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from modules import shared

from ..core.streams import Generators, keep_generators, set_global_generators

OURS = "Noise Order"
SETTLED = "_noiseorder_settled"
"""On the processing object of a copy: the images to make, as they came out where it was copied from."""
IMAGES = (
    *("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds", "n_iter", "batch_size"),
    *("all_hr_prompts", "all_hr_negative_prompts"),
)
Images = tuple[list[Any], list[str]]
"""Images and their infotexts."""


@dataclass
class Snapshot:
    """The generation before anything was done for it, and the global random numbers then: img2img's VAE draws there."""

    p: Any
    generators: Generators


def duplicate(p: Any) -> Any:
    """A copy with lists and dicts of its own, that what happens to one does not show in the other."""
    q = copy.copy(p)
    for name, value in list(vars(q).items()):
        # The hosts' caches of encoded prompts are meant to be shared.
        if type(value) in (dict, list) and not name.startswith("cached_"):
            setattr(q, name, copy.copy(value))
    return q


def follow(q: Any, p: Any) -> None:
    """Let a copy make the images that p made: prompts and seeds are resolved, and as many as other scripts wanted."""
    q.prompt, q.negative_prompt, q.styles = as_prompt(p.all_prompts), as_prompt(p.all_negative_prompts), []
    q.seed, q.subseed = list(p.all_seeds), list(p.all_subseeds)
    q.n_iter, q.batch_size = p.n_iter, p.batch_size
    if getattr(p, "enable_hr", False):
        q.hr_prompt, q.hr_negative_prompt = as_prompt(p.all_hr_prompts), as_prompt(p.all_hr_negative_prompts)
    setattr(q, SETTLED, {name: copy.copy(getattr(p, name)) for name in IMAGES if hasattr(p, name)})


def settle(p: Any) -> None:
    """Hook `process`: what scripts that make several prompts of one (Dynamic Prompts) did to a copy is undone."""
    for name, value in getattr(p, SETTLED, {}).items():
        setattr(p, name, copy.copy(value))


def stopped() -> bool:
    state = shared.state
    return bool(state.interrupted or state.skipped or state.stopping_generation)


def images_of(p: Any, processed: Any) -> Images:
    """The images made, without grid and masks, and their infotexts."""
    first = processed.index_of_first_image
    # In inpainting each image can be followed by its mask and by the masked part; infotexts are of images alone.
    masked = getattr(p, "mask_for_overlay", None) is not None
    stride = 1 + (masked and option("return_mask")) + (masked and option("return_mask_composite"))
    texts = processed.infotexts[first:]
    images = processed.images[first::stride][: len(texts)]
    return images, texts[: len(images)]


def option(name: str) -> bool:
    """A setting of the host; ersatzForge has neither masks in its results nor extended names of grids."""
    return bool(getattr(shared.opts, name, False))


def as_prompt(prompts: Sequence[str]) -> str | list[str]:
    """One text if it is that of every image: AUTOMATIC1111's script for comments fails at a list in the hires pass."""
    return prompts[0] if len(set(prompts)) == 1 else list(prompts)


@contextmanager
def undisturbed(snapshot: Snapshot, doing: str) -> Iterator[None]:
    """The global random numbers as they were for the image, and afterwards everything as before."""
    options, state = shared.cmd_opts, shared.state
    no_history, text = options.no_prompt_history, state.textinfo
    # params.txt is to hold what the user asked for, not what is made beside it.
    options.no_prompt_history = True
    state.textinfo = f"{OURS}: {doing}"
    try:
        with keep_generators():
            set_global_generators(snapshot.generators)
            yield
    finally:
        options.no_prompt_history, state.textinfo = no_history, text
