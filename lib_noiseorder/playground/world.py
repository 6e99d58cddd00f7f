"""What the playground's worlds have in common: small captioned scenes, drawn exactly and read back exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

SIZE = 16
CHANNELS = 3
CONTRAST = 1.5
"""Images span about [-CONTRAST, CONTRAST], so that their spread is near that of the unit-variance noise."""
NULL_TOKEN = 0


@dataclass(frozen=True)
class CheckResult:
    """What the checker found in one image, against the scene it was asked for."""

    objects: bool
    relation: bool
    score: float
    words: str

    @property
    def both(self) -> bool:
        """Objects and relation are right."""
        return self.objects and self.relation

    @property
    def verdict(self) -> str:
        """Whether it is right, and what was found."""
        return f"{'right' if self.both else 'wrong'}: {self.words}"


class World(Protocol):
    """One kind of scene. A module with these names is a world; a scene is what its `parse_caption` returns."""

    ABOUT: str
    """The world in a sentence, as Markdown."""
    EXAMPLES: tuple[str, ...]
    """Captions to begin with."""
    RELATION: str
    """What `CheckResult.relation` speaks of, in one word."""
    VOCABULARY: tuple[str, ...]
    TOKENS: int

    def random_scenes(self, count: int, generator: torch.Generator) -> list[Any]:
        """Draw `count` scenes."""

    def caption(self, scene: Any) -> str:
        """The scene in words; `parse_caption` inverts it."""

    def parse_caption(self, text: str) -> Any:
        """Read a caption; raise ValueError naming the word that was not understood and what is allowed there."""

    def encode(self, scenes: Sequence[Any]) -> torch.Tensor:
        """Tokens of the scenes, (n, TOKENS) int64."""

    def null_tokens(self, count: int) -> torch.Tensor:
        """Tokens of the empty caption, (count, TOKENS) int64."""

    def render(self, scenes: Sequence[Any], generator: torch.Generator) -> torch.Tensor:
        """Draw the scenes, (n, CHANNELS, SIZE, SIZE) float32; what no caption says is up to the generator."""

    def check(self, images: torch.Tensor, scenes: Sequence[Any]) -> list[CheckResult]:
        """Read each image back and compare it with its scene; ValueError if the counts differ."""


def to_uint8(images: torch.Tensor, factor: int = 1) -> np.ndarray:
    """Images (n, 3, h, w) as uint8 RGB (n, h * factor, w * factor, 3), enlarged by nearest neighbour."""
    scaled = ((images.detach().float().cpu() / CONTRAST).clamp(-1, 1) + 1) * 127.5
    pixels = scaled.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)
