"""The method. torch and the standard library only."""

from .critic import Critic, self_consistency
from .denoiser import Denoised, Denoiser, Interrupted, Level, Unsupported
from .erasure import erase
from .injection import inject
from .inspection import LevelPreview, previews
from .modulate import Modulation, Report, modulate
from .schedule import KeyLevel, key_levels

__all__ = [
    "Critic",
    "Denoised",
    "Denoiser",
    "Interrupted",
    "KeyLevel",
    "Level",
    "LevelPreview",
    "Modulation",
    "Report",
    "Unsupported",
    "erase",
    "inject",
    "key_levels",
    "modulate",
    "previews",
    "self_consistency",
]
