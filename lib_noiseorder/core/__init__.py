"""The method. torch and the standard library only."""

from .critic import Critic, self_consistency
from .erasure import erase
from .host import Denoised, Host, Interrupted, Level, Unsupported
from .injection import inject
from .inspection import Preview, previews
from .modulate import Report, modulate
from .schedule import KeyLevel, key_levels

__all__ = [
    "Critic",
    "Denoised",
    "Host",
    "Interrupted",
    "KeyLevel",
    "Level",
    "Preview",
    "Report",
    "Unsupported",
    "erase",
    "inject",
    "key_levels",
    "modulate",
    "previews",
    "self_consistency",
]
