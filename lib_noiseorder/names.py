"""The values that settings and method share by name. They are stored in images and requests: never rename."""

from __future__ import annotations

GUIDANCE, LOOK_AHEAD, DENOISED, NOISE, AUTO = "guidance", "look-ahead", "denoised", "noise", "auto"
SELF_CORRECTION = "self-correction"
MULTI_STEP = (LOOK_AHEAD, SELF_CORRECTION)
"""The directions that are made of all key levels together, so that no level has a weight of its own."""
ORTHONORMAL, AS_PRINTED = "orthonormal", "as printed"
FIRST, HIRES, BOTH = "first", "hires", "both"
EVERYWHERE, INSIDE, OUTSIDE = "everywhere", "inside", "outside"
