"""Lets a host store and compute in half precision on a CPU, as by itself on a GPU only; linked with --precision."""

from __future__ import annotations

import os
from importlib.util import find_spec

if find_spec("ldm_patched"):
    from ldm_patched.modules import model_management as management
else:
    from backend import memory_management as management

PRECISION = os.environ["NOISEORDER_PRECISION"]
management.should_use_fp16 = lambda *_, **__: PRECISION == "fp16"
management.should_use_bf16 = lambda *_, **__: PRECISION == "bf16"
