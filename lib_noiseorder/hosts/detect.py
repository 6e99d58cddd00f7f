"""Which WebUI this is. Called once, while the WebUI loads the script."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any


def host_class() -> type[Any] | None:
    """The adapter of the running WebUI, None for one that has none yet."""
    if find_spec("ldm_patched") is not None:
        try:
            from .reforge import ReForgeHost
        except ImportError:
            return None  # the first Forge and Forge Classic: an older copy of that back end

        return ReForgeHost
    if find_spec("backend") is not None and find_spec("modules_forge") is not None:
        if find_spec("backend.diffusion_engine.qwen") is not None:
            from .neo import NeoHost

            return NeoHost
        if find_spec("modules_forge.colour_code") is not None:
            from .ersatz import ErsatzHost

            return ErsatzHost
        from .forge import ForgeHost

        return ForgeHost
    from .a1111 import A1111Host

    return A1111Host
