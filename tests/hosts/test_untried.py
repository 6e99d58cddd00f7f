"""Models nobody tried here: allowed by what they are, told once, and their answers looked at before they are used."""

from __future__ import annotations

import pytest
import torch
from fakes import Ersatz, Forge, ForgeFlow, Neo, NeoUntried, ReForge
from test_asked import refused

NOTICE = "[Noise Order] not tried by us on "


class ReForgeUntried(ReForge):
    engine = "Lotus"


class ForgeUntried(ForgeFlow):
    engine = "Lumina2"


class ErsatzUntried(Ersatz):
    engine = "QwenImage21"
    kind = "const"


UNTRIED = [NeoUntried, ForgeUntried, ErsatzUntried, ReForgeUntried]


@pytest.fixture(params=UNTRIED, ids=lambda fake: fake.__name__)
def untried(request, monkeypatch):
    return request.param(monkeypatch)


def changed(result):
    return not torch.equal(result.noise, result.untouched)


@pytest.mark.parametrize("direction", ["guidance", "denoised", "noise", "look-ahead", "self-correction"])
def test_a_model_of_a_kind_nobody_tried_works(untried, direction):
    result = untried.txt2img({"inject": 0.05, "direction": direction, "levels": 2})
    assert changed(result)
    assert (result.errors, result.comments) == ([], [])
    assert result.infotext["Noise Order"] == "1"


def test_it_is_told_once_in_the_console(untried, capsys):
    for _ in range(3):
        untried.txt2img(True, 4.0, 0.05)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(NOTICE)]
    assert len(lines) == 1
    assert f'"{untried.engine}"' in lines[0]
    assert untried.loaded.session.adapter.name in lines[0]


def test_each_kind_is_told(monkeypatch, capsys):
    host = NeoUntried(monkeypatch)
    for engine in ("QwenImage21", "Other", "QwenImage21", "QwenImage"):
        host.engine = engine
        assert changed(host.txt2img(True, 4.0, 0.05))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(NOTICE)]
    assert [line.split('"')[1] for line in lines] == ["QwenImage21", "Other"]


@pytest.mark.parametrize(
    ("fake", "engines"),
    [
        (Forge, ["StableDiffusion", "StableDiffusionXL", "StableDiffusion3", "Flux", "Chroma"]),
        (
            Neo,
            [
                *("StableDiffusion", "StableDiffusionXL", "Flux", "Flux2", "Chroma", "ZImage", "QwenImage", "Anima"),
                *("Wan", "Lumina2", "Krea2", "ErnieImage", "Mugen"),
            ],
        ),
        (
            Ersatz,
            [
                *("StableDiffusion", "StableDiffusionXL", "Flux", "Chroma", "Zimage", "Lumina2", "Krea2", "Flux2"),
                *("ERNIE", "Anima", "StableDiffusion3"),
            ],
        ),
        (ReForge, ["BaseModel", "SDXL"]),
    ],
)
def test_nothing_is_told_of_models_that_were_tried(monkeypatch, capsys, fake, engines):
    host = fake(monkeypatch)
    for engine in engines:
        host.engine = engine
        assert changed(host.txt2img(True, 4.0, 0.05))
    assert NOTICE not in capsys.readouterr().out


@pytest.mark.parametrize("direction", ["guidance", "denoised"])
def test_a_model_whose_answer_does_not_move_with_the_prompt_is_refused_each_time(untried, direction):
    answer = type(untried.network).__call__

    class Deaf(type(untried.network)):
        def __call__(self, x, sigma, cond):
            return answer(self, x, sigma, torch.zeros_like(cond))

    untried.network.__class__ = Deaf
    for _ in range(2):
        assert refused(
            untried.txt2img({"inject": 0.05, "direction": direction}),
            "the same to the prompt and to the negative prompt",
        )


def test_the_answer_is_looked_at_until_it_has_moved_once(untried):
    rows = []
    for _ in range(2):
        before = untried.network.rows
        assert changed(untried.txt2img({"inject": 0.05, "direction": "denoised", "levels": 2}))
        rows.append(untried.network.rows - before)
    assert rows == [3, 2]


@pytest.mark.parametrize("fake", [NeoUntried, ForgeUntried, ErsatzUntried])
def test_without_a_negative_prompt_there_is_nothing_to_compare(monkeypatch, fake):
    host = fake(monkeypatch)
    assert changed(host.txt2img({"inject": 0.05, "direction": "denoised"}, cfg_scale=1))
    assert host.network.rows == 1


def test_an_answer_of_another_shape_is_refused(untried):
    answer = type(untried.network).__call__

    class Wide(type(untried.network)):
        def __call__(self, x, sigma, cond):
            return answer(self, x, sigma, cond).repeat(2, *[1] * (x.ndim - 1))

    untried.network.__class__ = Wide
    assert refused(untried.txt2img(True, 4.0, 0.05), "answered with the shape")


def test_an_answer_that_is_not_finite_is_refused(untried):
    answer = type(untried.network).__call__

    class Spoiled(type(untried.network)):
        def __call__(self, x, sigma, cond):
            return answer(self, x, sigma, cond) / 0

    untried.network.__class__ = Spoiled
    for _ in range(2):
        assert refused(untried.txt2img(True, 4.0, 0.05), "NaN or infinity")


@pytest.mark.parametrize("fake", [NeoUntried, ForgeUntried, ErsatzUntried])
@pytest.mark.parametrize("kind", ["epsilon", "const"])
def test_a_predictor_is_known_by_what_it_does_and_not_by_its_name_alone(monkeypatch, fake, kind):
    """Cosmos on ersatzForge says ε, but gives its network x / (σ + 1)."""

    class Other(fake):
        def calculate_input(self, sigma, x):
            return x / (sigma + 1)

    monkeypatch.setattr(Other, "kind", kind)
    host = Other(monkeypatch)
    assert refused(host.txt2img(True, 4.0, 0.05), f'mixes noise and image in a way that is not known of "{kind}"')
    assert host.network.calls == 0


@pytest.mark.parametrize("fake", [NeoUntried, ForgeUntried, ErsatzUntried])
def test_a_mixture_of_noise_and_image_of_its_own_is_refused(monkeypatch, fake):
    class Other(fake):
        def noise_scaling(self, sigma, noise, latent):
            return super().noise_scaling(sigma, 2 * noise, latent)

    host = Other(monkeypatch)
    assert refused(host.txt2img(True, 4.0, 0.05), "mixes noise and image in a way that is not known")


def test_what_is_known_not_to_work_is_refused_with_the_reason(neo):
    """PiD: works on the pixels of a finished image, through windows of its own."""
    neo.engine = "PiD"
    assert refused(neo.txt2img(True, 4.0, 0.05), 'models of the class "PiD"')
    assert neo.network.calls == 0
    assert changed(neo.txt2img({"inject": 0}))


@pytest.mark.parametrize("shape", [(4, 8), (2, 4, 2, 8, 8), (16, 3, 8, 8)])
@pytest.mark.parametrize("fake", [NeoUntried, ForgeUntried])
def test_latents_that_are_no_single_images_are_refused(monkeypatch, fake, shape):
    monkeypatch.setattr(fake, "shape", shape)
    result = fake(monkeypatch).txt2img({"inject": 0})
    assert refused(result, "only single images" if len(shape) == 4 else f"latents of {len(shape) + 1} dimensions")
