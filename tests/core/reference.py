"""The method once more, in numpy and float64, written from the formulas alone."""

from __future__ import annotations

import math

import numpy as np


def erased(draws: list[np.ndarray], n: float) -> np.ndarray:
    """s = (z_1 + ... + z_floor(n) + sqrt(n - floor(n)) z_{floor(n)+1}) / sqrt(n), draws[0] = z_1."""
    whole = math.floor(n)
    total = sum(draws[:whole])
    if n > whole:
        total = total + math.sqrt(n - whole) * draws[whole]
    return total / math.sqrt(n)


def printed(z: np.ndarray, predictions: list[np.ndarray], weights: list[float], delta: float) -> np.ndarray:
    """eps_agg = sum w_k eps_k / sqrt(sum w_k^2); eps_adj = (z + delta eps_agg) / sqrt(1 + delta^2)."""
    agg = sum(w * e for w, e in zip(weights, predictions, strict=True)) / np.sqrt(np.sum(np.square(weights)))
    return (z + delta * agg) / np.sqrt(1 + delta**2)


def turned(z: np.ndarray, directions: list[np.ndarray], weights: list[float], delta: float) -> np.ndarray:
    """Each direction without its part along z, at unit rms, mixed, the same again; then a rotation by arctan delta."""
    out = np.empty_like(z)
    for image in range(len(z)):
        flat = z[image].ravel()

        def across(d: np.ndarray, flat: np.ndarray = flat) -> np.ndarray:
            basis = flat / np.linalg.norm(flat)
            d = d - basis * (basis @ d)
            return d * np.sqrt(d.size) / np.linalg.norm(d)

        mixed = across(sum(w * across(d[image].ravel()) for w, d in zip(weights, directions, strict=True)))
        angle = math.atan(delta)
        rms = np.sqrt(np.mean(flat**2))
        out[image] = (math.cos(angle) * flat + math.sin(angle) * rms * mixed).reshape(z[image].shape)
    return out
