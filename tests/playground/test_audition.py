"""The playground's audition: the previews of a walk, what the checker finds in them, and the command line's sheet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.core import modulate
from lib_noiseorder.job import Plan
from lib_noiseorder.modulation import modulation
from lib_noiseorder.playground.__main__ import main
from lib_noiseorder.playground.audition import audition
from lib_noiseorder.playground.comparison import load
from lib_noiseorder.playground.host import PlaygroundDenoiser, seed_noise
from lib_noiseorder.playground.picture import FRAME, contact_sheet
from lib_noiseorder.playground.scenes import encode, null_tokens, parse_caption
from lib_noiseorder.playground.world import to_uint8

PROMPT = "a red cross left of a blue ring"
SETTINGS = NoiseOrderConfig(True, inject=0.05, audition=3, variant=5)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("unet", SETTINGS), ("dit", SETTINGS), ("dit", SETTINGS.replace(variant=1, chain="2 v3; 1.2 v5"))],
)
def test_a_preview_is_what_its_whole_image_shows_at_that_step(name, settings):
    """The last erasure has the variants: of a chain its last link."""
    model = load(name)
    result = audition(model, PROMPT, "", [1, 2], 8, 3.0, settings, enlarge=1)
    assert (result.plan, result.variants, result.seeds) == (Plan(4, 8), (5, 6, 7), (1, 2))
    assert result.cost == pytest.approx(3 * (8 + 2) / (16 + 2))
    tokens, uncond = encode([parse_caption(PROMPT)]), null_tokens(1)
    for k, (seed, variant) in enumerate((seed, variant) for seed in (1, 2) for variant in (5, 6, 7)):
        host = PlaygroundDenoiser(model, [seed], tokens, uncond, 3.0)
        noise, _ = modulate(seed_noise([seed]), modulation(settings.with_variant(variant)), host)
        steps = []
        model.sample(noise, tokens, uncond, 3.0, 8, lambda step, total, denoised, steps=steps: steps.append(denoised))
        assert abs(to_uint8(steps[3], 1)[0].astype(int) - result.images[k]).max() <= 1
        assert torch.isfinite(torch.tensor(result.scores[k]))
    assert result.best(1) == max(range(3), key=lambda column: result.scores[3 + column])


def test_a_preview_of_an_image_of_many_steps_is_a_sketch():
    model = load("unet")
    result = audition(model, PROMPT, "", [1], 20, 3.0, SETTINGS, enlarge=1)
    assert result.plan == Plan(4, 20, sketch=7)
    assert result.cost == pytest.approx(3 * (8 + 2) / (40 + 2))
    tokens, uncond = encode([parse_caption(PROMPT)]), null_tokens(1)
    host = PlaygroundDenoiser(model, [1], tokens, uncond, 3.0)
    noise, _ = modulate(seed_noise([1]), modulation(SETTINGS), host)
    steps = []
    model.sample(noise, tokens, uncond, 3.0, 7, lambda step, total, denoised: steps.append(denoised))
    assert abs(to_uint8(steps[3], 1)[0].astype(int) - result.images[0]).max() <= 1


def test_the_command_line_saves_the_sheet(tmp_path, capsys):
    target = tmp_path / "sheet.png"
    main(["--prompt", PROMPT, "--count", "2", "--steps", "4", "--audition", "8", "--save", str(target)])
    output = capsys.readouterr().out
    assert "Audition: 8 candidates at 3 of 4 steps: 6.0 images per seed. Right: " in output
    with Image.open(target) as sheet:
        assert sheet.width > 8 * 128
        assert sheet.height > 2 * 128


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--erase", "1"], "set Erase above 1"), (["--count", "0"], "no seeds"), (["--audition", "1"], "from 2 to 16")],
)
def test_what_cannot_be_auditioned_is_told_in_one_line(tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(["--prompt", PROMPT, "--audition", "2", "--save", str(tmp_path / "sheet.png"), *arguments])
    assert not list(tmp_path.iterdir())


def test_the_sheet_frames_what_the_critic_takes():
    result = audition(load("unet"), PROMPT, "", [1], 4, 1.5, SETTINGS)
    sheet = contact_sheet(result, "title")
    frame = (np.asarray(sheet) == FRAME).all(-1).any(0).nonzero()[0]
    x = 60 + result.best(0) * (144 + 8)
    assert (frame.min(), frame.max()) == (x - 4, x + 128 + 3)
