"""Generations made beside a person's own: copies of the processing object, random numbers nobody misses, pictures."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from modules import shared

from ..core.streams import Generators, kept_generators, set_global_generators

OURS = "Noise Order"
Pictures = tuple[list[Any], list[str]]
"""Images and their infotexts."""


@dataclass
class Kept:
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


def stopped() -> bool:
    state = shared.state
    return bool(state.interrupted or state.skipped or state.stopping_generation)


def pictures(p: Any, processed: Any) -> Pictures:
    """The images made, without grid and masks, and their infotexts."""
    first = processed.index_of_first_image
    # In inpainting each image can be followed by its mask and by the masked part; infotexts are of images alone.
    masked = getattr(p, "mask_for_overlay", None) is not None
    stride = 1 + (masked and option("return_mask")) + (masked and option("return_mask_composite"))
    texts = processed.infotexts[first:]
    found = processed.images[first::stride][: len(texts)]
    return found, texts[: len(found)]


def option(name: str) -> bool:
    """A setting of the host; ersatzForge has neither masks in its results nor extended names of grids."""
    return bool(getattr(shared.opts, name, False))


def resolved(prompts: Sequence[str]) -> str | list[str]:
    """One text if it is that of every image: AUTOMATIC1111's script for comments fails at a list in the hires pass."""
    return prompts[0] if len(set(prompts)) == 1 else list(prompts)


@contextmanager
def undisturbed(kept: Kept, doing: str) -> Iterator[None]:
    """The global random numbers as they were for the picture, and afterwards everything as before."""
    options, state = shared.cmd_opts, shared.state
    no_history, text = options.no_prompt_history, state.textinfo
    # params.txt is to hold what the person asked for, not what is made beside it.
    options.no_prompt_history = True
    state.textinfo = f"{OURS}: {doing}"
    try:
        with kept_generators():
            set_global_generators(kept.generators)
            yield
    finally:
        options.no_prompt_history, state.textinfo = no_history, text
