"""Auditions and comparisons beside other extensions' cells, and in batches as long as they really are; real WebUI."""

from __future__ import annotations

import numpy as np
import pytest
import requests
from test_passes import img2img, make_image
from test_xyz import plot_body
from webui import Answer

AUDITION = {"erase": 4.0, "inject": 0.0, "audition": 3}
CHOSEN = {"erase": 4.0, "inject": 0.0}


def variant_of(text):
    return int(text.partition("Noise Order variant: ")[2].partition(",")[0])


def sharpen(value):
    return {"resharpen": {"args": [True, value, "Flat", 0.0, "Flat"]}}


@pytest.mark.beside("sd-webui-resharpen")
@pytest.mark.parametrize("settings", [AUDITION, {**CHOSEN, "compare_original": True}], ids=["audition", "compare"])
def test_a_cell_of_resharpen_is_that_value_alone(server, sd15, settings):
    """It keeps the cell's value where its first `process` takes it."""
    server.load(sd15)
    body = plot_body(server, sd15, "[ReSharpen] Sharpness", "0.5,1.0", steps=8)
    body["alwayson_scripts"] = {"noise order": {"args": [settings]}, **sharpen(0.9)}
    response = requests.post(f"{server.url}/sdapi/v1/txt2img", json=body, timeout=600)
    assert response.ok, response.text
    answer = Answer(response.json(), {})
    cells = [k for k, text in enumerate(answer.infotexts) if "Resharpen Sharpness" in text][-2:]
    seen = []
    for value, k in zip((0.5, 1.0), cells, strict=True):
        text = answer.infotexts[k]
        assert f"Resharpen Sharpness: {value:g}" in text.replace("1.0", "1")
        scripts = {"noise order": {"args": [settings]}, **sharpen(value)}
        alone = server.txt2img(sd15, alwayson_scripts=scripts, steps=8)
        assert (answer.pixels[k] == alone.pixels[0]).all(), value
        seen.append(answer.pixels[k])
        if settings is AUDITION:
            own = {"noise order": {"args": [{**CHOSEN, "variant": variant_of(text)}]}, **sharpen(value)}
            assert (answer.pixels[k] == server.txt2img(sd15, alwayson_scripts=own, steps=8).pixels[-1]).all()
    assert (seen[0] != seen[1]).any()


@pytest.mark.batches
def test_fewer_images_to_start_from_than_the_batch(server, kind):
    images = [make_image("white"), make_image("red")]
    answer = img2img(server, kind, AUDITION, init_images=images, batch_size=4, do_not_save_grid=True)
    texts = answer.infotexts[-2:]
    assert len(answer.infotexts) - answer.info["index_of_first_image"] == 2
    for k, text in enumerate(texts):
        assert "Noise Order auditioned: 3" in text
        settings = {**CHOSEN, "variant": variant_of(text)}
        alone = img2img(server, kind, settings, init_images=images, batch_size=4, do_not_save_grid=True)
        first, own = answer.info["index_of_first_image"], alone.info["index_of_first_image"]
        assert (answer.pixels[first + k] == alone.pixels[own + k]).all()


@pytest.mark.beside("sd-dynamic-prompts")
def test_prompts_drawn_at_random_are_drawn_once(server, sd15):
    """Candidates and image have the prompt that was drawn for the image."""
    scripts = {
        "noise order": {"args": [AUDITION]},
        # Dynamic Prompts: on, not combinatorial, and its other arguments as they are.
        "dynamic prompts v2.17.1": {"args": [True, False]},
    }
    prompt = "a {red|blue|green|black|white} {cat|dog|bird|fish|horse}"
    answer = server.txt2img(sd15, alwayson_scripts=scripts, prompt=prompt)
    text = answer.infotext
    assert "{" not in text.splitlines()[0]
    assert "Noise Order auditioned: 3" in text
    settings = {**CHOSEN, "variant": variant_of(text)}
    alone = server.txt2img(sd15, settings, prompt=text.splitlines()[0])
    assert (answer.pixels[-1] == alone.pixels[-1]).all()


def test_the_grid_names_its_first_image(server, kind, options):
    options(grid_save=True, samples_save=False)
    answer = server.txt2img(kind, AUDITION, n_iter=3, save_images=True)
    assert answer.info["index_of_first_image"] == 1
    grid, first, *_ = answer.infotexts
    assert variant_of(grid) == variant_of(first)
    assert len({int(np.sum(pixels)) for pixels in answer.pixels[1:]}) == 3


def test_a_single_step_around_an_image_has_a_preview(server, kind):
    answer = img2img(server, kind, AUDITION, steps=20, denoising_strength=0.04)
    assert "Noise Order auditioned: 3" in answer.infotext or "error" in answer.infotext
    settings = {**CHOSEN, "variant": variant_of(answer.infotext)}
    alone = img2img(server, kind, settings, steps=20, denoising_strength=0.04)
    assert (answer.pixels[-1] == alone.pixels[-1]).all()


@pytest.mark.only("a1111", "forge")  # Neo and ersatzForge make another grid of it
def test_a_prompt_matrix_is_as_long_as_its_prompts(server, kind):
    """Four prompts in batches of three: the second batch has one image, and each image is its variant asked for."""
    matrix = {
        "prompt": "a cat|red|on grass",
        "batch_size": 3,
        "script_name": "Prompt matrix",
        "script_args": [False, False, "positive", "comma", 0],
    }
    answer = server.txt2img(kind, AUDITION, **matrix)
    assert answer.info["index_of_first_image"] == 1
    texts, images = answer.infotexts[1:], answer.pixels[1:]
    prompts = ["a cat", "a cat, red", "a cat, on grass", "a cat, red, on grass"]
    assert [text.splitlines()[0] for text in texts] == prompts
    # Two batches, and three candidates of each before.
    assert answer.record["job_counts"] == [8] * 2
    for k, text in enumerate(texts):
        assert "Noise Order auditioned: 3" in text
        alone = server.txt2img(kind, {**CHOSEN, "variant": variant_of(text)}, **matrix)
        assert (images[k] == alone.pixels[1 + k]).all(), prompts[k]


OUTPAINTING = {
    "Outpainting mk2": ["", 64, 4, ["left", "right"], 1.0, 0.05],
    "Poor man's outpainting": [64, 4, 0, ["left", "right"]],
}


@pytest.mark.only("a1111", "forge")  # the other hosts have no outpainting
@pytest.mark.parametrize("script", ["SD upscale", *OUTPAINTING])
@pytest.mark.parametrize("saved", [False, True])
def test_an_image_made_of_several_generations_has_no_candidates(server, kind, script, saved):
    """Said in the console; the image is made without them, at the price of an image."""
    answers, said = {}, []
    sentence = f'Nothing was auditioned. the script "{script}" makes one image of several generations'
    server.load(kind)
    for name, settings in (("alone", CHOSEN), ("auditioned", AUDITION)):
        server.txt2img(kind)
        server.probe()
        body = server.request(kind, init_images=[make_image((90, 120, 60), side=128)], denoising_strength=0.7)
        body |= {"script_name": script, "script_args": list(OUTPAINTING.get(script, server.facts.upscale))}
        # The tiles of SD upscale are 64 x 64.
        body |= {"width": 128, "height": 128, "save_images": saved} if script in OUTPAINTING else {"save_images": saved}
        body["alwayson_scripts"] = {"noise order": {"args": [settings]}}
        # Outpainting mk2 draws colours from numpy's global generator: numbers of evaluations are compared, not images.
        answers[name] = Answer(server.post("/sdapi/v1/img2img", body), server.get("/noiseorder-probe"))
        said.append(server.log.read_text(errors="replace").count(sentence))
    assert "auditioned" not in "".join(answers["auditioned"].infotexts)
    rows = [answer.record["all_rows"] for answer in answers.values()]
    assert rows[0] == rows[1] > 0
    assert said[0] < said[1]
