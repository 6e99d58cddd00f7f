"""What is measured of a noise, against the formulas written out in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib_noiseorder.core.statistics import angle, kurtosis, mean, spectrum


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_mean_and_kurtosis():
    x = torch.stack([randn(4, 8, 8), randn(4, 8, 8).exp() + 3])
    flat = x.flatten(1).numpy()
    centred = flat - flat.mean(1, keepdims=True)
    np.testing.assert_allclose(mean(x), flat.mean(1), rtol=1e-12)
    np.testing.assert_allclose(kurtosis(x), (centred**4).mean(1) / (centred**2).mean(1) ** 2 - 3, rtol=1e-12)


def test_angles_from_none_to_opposite():
    x, y = torch.tensor([[[[3.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]])
    assert [angle(x, other)[0] for other in (x, y, -x, x - y)] == pytest.approx([0, 90, 180, 33.690], abs=1e-3)


def test_kurtosis_of_known_distributions():
    coin = torch.tensor([1.0, -1.0]).repeat(1, 32)
    assert kurtosis(coin) == (-2.0,)
    assert kurtosis(torch.full((1, 4, 8, 8), 3.0)) == (0,)
    assert abs(kurtosis(randn(1, 4, 256, 256))[0]) < 0.05


def by_hand(image):
    """Every frequency of the full transform, one by one."""
    channels, height, width = image.shape
    power = np.abs(np.fft.fft2(image)) ** 2 / (height * width)
    side = min(height, width)
    bands = [[] for _ in range(side // 2 + 1)]
    for channel in range(channels):
        for v in range(height):
            for u in range(width):
                down, across = min(v, height - v) / height, min(u, width - u) / width
                band = min(int(np.rint(np.hypot(down, across) * side)), side // 2)
                bands[band].append(power[channel, v, u])
    return [np.mean(band) for band in bands]


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 7), (8, 12), (9, 6), (5, 8)])
def test_spectrum(height, width):
    x = randn(2, 3, height, width)
    expected = [by_hand(image.numpy()) for image in x]
    np.testing.assert_allclose(spectrum(x).numpy(), expected, rtol=1e-10)


def test_spectrum_of_white_noise_is_one_everywhere():
    power = spectrum(randn(1, 4, 128, 128))[0]
    # The first band has one frequency in each of four channels, the others many.
    assert power[1:].sub(1).abs().max() < 0.45
    assert power[8:].sub(1).abs().max() < 0.15
    assert spectrum(0.5 * randn(1, 4, 128, 128))[0, 8:].mean() == pytest.approx(0.25, rel=0.02)


def test_spectrum_shows_where_the_power_is():
    pixels = torch.arange(16)
    wave = (2 * torch.pi * 3 * pixels / 16).sin().expand(1, 1, 16, 16)
    power = spectrum(wave)[0]
    assert power.argmax() == 3
    assert power[3] / power.sum() > 0.999


def test_spectrum_of_five_dimensions_is_the_mean_over_frames():
    x = randn(2, 4, 3, 8, 8)
    frames = torch.stack([spectrum(x[:, :, k]) for k in range(3)]).mean(0)
    torch.testing.assert_close(spectrum(x), frames)


def test_half_precision_is_measured_in_single():
    x = randn(1, 4, 8, 8)
    torch.testing.assert_close(spectrum(x.half()).double(), spectrum(x), rtol=1e-2, atol=1e-3)
