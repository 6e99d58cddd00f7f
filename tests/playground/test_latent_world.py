"""The latent world, its checker, and the layout of its checkpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from latent import checkpoint, layout, sample, train, world
from latent.world import Scene


def scenes_of(count: int, seed: int = 1) -> tuple[list[Scene], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scenes = world.random_scenes(count, generator)
    return scenes, world.render(scenes, generator)


def test_every_phrasing_says_its_scene() -> None:
    for scene in scenes_of(200)[0]:
        for caption in world.captions(scene):
            assert world.parse_caption(caption) == scene


def test_every_word_has_a_token() -> None:
    captions = [caption for scene in scenes_of(200)[0] for caption in world.captions(scene)]
    tokens = layout.tokenize(["", *captions])
    assert tokens.shape == (1 + len(captions), 77)
    assert tokens[0].tolist() == [layout.BEGIN] + 76 * [layout.END]
    assert (layout.thin_tokens(tokens) >= 0).all()


def test_unknown_word_is_named() -> None:
    with pytest.raises(ValueError, match="'cat' is no word"):
        layout.tokenize(["a red cat"])


@pytest.mark.parametrize(
    ("caption", "message"),
    [("a red cat", "'cat' is not a shape"), ("hello", "0 objects"), ("a red circle and a red star", "colours")],
)
def test_captions_of_no_scene_are_refused(caption: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        world.parse_caption(caption)


def test_drawn_scenes_are_read_right() -> None:
    scenes, images = scenes_of(96)
    assert all(reading.right for reading in world.check(images, scenes))
    soft = torch.nn.functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
    assert sum(reading.right for reading in world.check(soft, scenes)) >= 95


def test_other_scenes_are_read_wrong() -> None:
    scenes, images = scenes_of(96)
    readings = world.check(images, scenes[1:] + scenes[:1])
    assert sum(reading.right for reading in readings) <= 2


def test_what_is_too_much_or_missing_is_seen() -> None:
    scene = Scene((("red", "circle"), ("blue", "ring")), relation="left")
    fewer, other = Scene((("red", "circle"),), ground="plain"), Scene((("red", "circle"), ("blue", "ring")), "right")
    image = world.render([scene], torch.Generator().manual_seed(3)).expand(3, -1, -1, -1)
    right, too_much, turned = world.check(image, [scene, fewer, other])
    assert right.right
    assert not too_much.objects
    assert turned.objects
    assert not turned.relation
    assert right.score > turned.score > 0


def test_a_shape_cut_in_half_is_a_blob() -> None:
    scene = Scene((("red", "square"),), ground="plain")
    image = world.render([scene], torch.Generator().manual_seed(3))
    rows = (image[0, 0] - image[0, 1] > 0.5).any(1).nonzero()[:, 0]
    image[..., int(rows.float().mean()) :, :] = image[..., :1, :1]
    assert "red blob" in world.check(image, [scene])[0].words


def thin() -> tuple[layout.AutoencoderKL, layout.TextModel, layout.UNetModel]:
    """Thin networks with random weights everywhere."""
    torch.manual_seed(0)
    parts = layout.AutoencoderKL(), layout.TextModel(), layout.UNetModel()
    for part in parts:
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5)
    return parts


WIDER = checkpoint.FULL


@torch.no_grad()
def test_wide_networks_compute_what_the_thin_ones_do() -> None:
    vae, text, unet = thin()
    wide_vae = layout.AutoencoderKL(128, (1, 2, 4, 4), (2, 2, 2, 2), (3, 3, 3, 3), 32)
    wide_vae.load_state_dict(checkpoint.widen_vae(vae.state_dict(), WIDER))
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    latents = vae.encode(images)
    torch.testing.assert_close(wide_vae.encode(images), latents, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(wide_vae.decode(latents), vae.decode(latents), atol=5e-4, rtol=5e-4)

    wide_text = layout.TextModel(768, 12, 12, layout.VOCABULARY)
    state = checkpoint.widen_text(text.state_dict(), WIDER)
    del state["embeddings.position_ids"]
    wide_text.load_state_dict(state)
    tokens = layout.tokenize(["a red star left of a blue ring", ""])
    context, wide_context = text(layout.thin_tokens(tokens)), wide_text(tokens)
    torch.testing.assert_close(wide_context, context.repeat_interleave(12, -1), atol=1e-4, rtol=1e-4)

    wide_unet = layout.UNetModel(320, context=768)
    wide_unet.load_state_dict(checkpoint.widen_unet(unet.state_dict(), WIDER))
    x, timesteps = torch.randn(2, 4, 16, 16), torch.tensor([20, 900])
    expected = unet(x, timesteps, context)
    torch.testing.assert_close(wide_unet(x, timesteps, wide_context), expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_folding_the_scale_changes_no_picture() -> None:
    vae = thin()[0]
    images = scenes_of(2)[1]
    before = vae.decode(vae.encode(images))
    latents = train.normalise(vae).encode(scenes_of(64)[1]) * layout.SCALE
    torch.testing.assert_close(vae.decode(vae.encode(images)), before, atol=1e-3, rtol=1e-3)
    assert latents.mean((0, 2, 3)).abs().max() < 0.2
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.2


def test_config_tells_the_sizes_as_yaml_and_json() -> None:
    params = json.loads(json.dumps(checkpoint.config(checkpoint.THIN, "folder")))["model"]["params"]
    assert params["scale_factor"] == 0.18215
    assert params["unet_config"]["params"]["model_channels"] == 64
    assert params["first_stage_config"]["params"]["ddconfig"]["ch"] == 128
    assert params["cond_stage_config"]["params"]["version"] == "folder"


def test_the_shipped_vae_keeps_what_is_read() -> None:
    scenes, images = scenes_of(32, seed=5)
    vae = train.load_vae(checkpoint.WEIGHTS)
    with torch.no_grad():
        decoded = vae.decode(vae.encode(images))
    assert sum(reading.right for reading in world.check(decoded, scenes)) >= 31


def test_the_shipped_model_draws_what_is_said() -> None:
    grounds = ("plain", "striped")
    prompts = [f"a {colour} circle on a {ground} background" for colour in world.COLOURS for ground in grounds]
    noise = torch.randn(len(prompts), 4, 16, 16, generator=torch.Generator().manual_seed(1))
    images = sample.Model().sample(noise, prompts, 5.0, 10)
    readings = world.check(images, [world.parse_caption(prompt) for prompt in prompts])
    assert sum(reading.score for reading in readings) > 0.6 * len(prompts)
    assert sum(reading.relation for reading in readings) >= 7
