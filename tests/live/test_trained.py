"""Pictures that mean something, with the trained checkpoint of benchmarks/latent. Only with --trained N: N prompts.

The same prompts and noises are sampled without a WebUI, by benchmarks/latent/sample.py and the noise's formula in
float32; the WebUI's images have to show the same scenes. The figures printed are shares of right images.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from auditions import decode, get_variant
from webui import ROOT, WebUI

from lib_noiseorder.chain import read_chain
from lib_noiseorder.core.erasure import box_mask, erase
from lib_noiseorder.core.streams import derive_seed

sys.path.insert(0, str(ROOT / "benchmarks"))

from latent import sample, world

FILE = "latent-world.safetensors"
STEPS, CFG_SCALE = 20, 5.0
CHAIN = "1.5 v3; 4 v2 @ 0.5 0 1 1"
REQUEST = {"steps": STEPS, "cfg_scale": CFG_SCALE, "width": world.SIZE, "height": world.SIZE, "negative_prompt": ""}
DETERMINISTIC = ("Euler", "DPM++ 2M", "Heun", "DDIM", "UniPC")
LIKE = {"DDIM": 0.87, "UniPC in neo": 0.7}
"""DDIM's own first seven steps of 20 are no more like their image: 0.86. Looked at a step early it was 0.859. UniPC in
Neo goes by sigmas, at an order that so few steps do not bear: 0.74 with Karras on 16 prompts, 0.81 on 32, and 0.81 for
its own first seven steps. Images of two variants: 0.09."""


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    """A WebUI with this extension that loads models of real sizes; the wide networks have them."""
    option = request.config.getoption
    python = option("webui_python") or option("webui") / "venv" / "bin" / "python"
    webui = WebUI(option("webui"), python, tmp_path_factory.mktemp("trained"))
    webui.neighbours, webui.small = option("extensions"), False
    webui.make_checkpoints(["sd15"])
    with webui.running(extension=True):
        yield webui


@pytest.fixture(scope="module")
def trained(server, request):
    """Makes an image of the trained checkpoint, loaded into the WebUI."""
    target = server.data / "models" / "Stable-diffusion" / FILE
    command = [server.python, ROOT / "benchmarks" / "latent" / "checkpoint.py", target]
    if server.host == "a1111":
        command += ["--thin", "--clip", server.data / "latent-clip"]
    if merges := request.config.getoption("merges"):
        command += ["--merges", merges]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    server.post("/sdapi/v1/refresh-checkpoints", {})
    server.post("/sdapi/v1/options", {"sd_model_checkpoint": FILE})
    server.loaded = FILE

    def generate(prompt, seed, *settings, **changes):
        return server.txt2img(FILE, *settings, **{**REQUEST, "prompt": prompt, "seed": seed, **changes})

    return generate


@pytest.fixture(scope="module")
def prompts(request):
    scenes = world.random_scenes(request.config.getoption("trained"), torch.Generator().manual_seed(6_500_000))
    return [world.captions(scene)[0] for scene in scenes]


@pytest.fixture(scope="module")
def model():
    return sample.Model()


def draw(seed):
    """The WebUI's noise of a seed."""
    return torch.randn(1, 4, sample.SIDE, sample.SIDE, generator=torch.Generator().manual_seed(seed))


def walk(seed, links):
    """The noise at the end of a chain from a seed's."""
    noise = draw(seed)
    for k, link in enumerate(links):
        stage = f"link{k}" if k else ""
        mask = None if link.box is None else box_mask(link.box, noise)
        noise = erase(noise, link.n, lambda i, k=link, s=stage: draw(derive_seed(seed, i, k.variant, s)), mask)
    return noise


def right(images, prompts):
    return np.array(world.right(images, prompts))


def compare(generate, model, prompts, settings, links, say):
    """The WebUI's images and those sampled without it, prompt by prompt."""
    found, expected = [], []
    for seed, prompt in enumerate(prompts, 1):
        answer = generate(prompt, seed, *settings)
        assert "Noise Order error" not in answer.infotext
        found.append(answer.images[0])
        expected += world.pictures_of(model.sample(walk(seed, links), [prompt], CFG_SCALE, STEPS))
    for theirs, ours in zip(found, expected, strict=True):
        likeness = np.corrcoef(np.asarray(theirs.convert("RGB")).ravel(), np.asarray(ours).ravel())[0, 1]
        assert likeness > 0.99
    shares = right(found, prompts).mean(), right(expected, prompts).mean()
    say(f"right by the WebUI {shares[0]:.3f}, without it {shares[1]:.3f}")
    assert abs(shares[0] - shares[1]) <= 1 / len(prompts)
    assert shares[0] >= 0.3, "trained: a model that draws anything draws fewer than one in a hundred right"


@pytest.fixture
def say(capsys):
    def told(text):
        with capsys.disabled():
            print(f"\n{text}", end=" ")

    return told


def test_plain_images_show_their_prompts(trained, model, prompts, say):
    compare(trained, model, prompts, (), (), say)


def test_the_noise_at_the_end_of_a_chain_is_that_of_the_formula(trained, model, prompts, say):
    settings = {"erase": 2.0, "variant": 1, "chain": CHAIN}
    compare(trained, model, prompts, (settings,), (*read_chain("2 v1"), *read_chain(CHAIN)), say)


def test_the_variant_that_is_chosen_is_the_image_of_the_formula(trained, model, prompts, say):
    found, expected = [], []
    for seed, prompt in enumerate(prompts, 1):
        answer = trained(prompt, seed, {"erase": 4.0, "inject": 0.0, "audition": 4})
        found.append(answer.images[0])
        links = read_chain(f"4 v{get_variant(answer.infotext)}")
        expected += world.pictures_of(model.sample(walk(seed, links), [prompt], CFG_SCALE, STEPS))
    shares = right(found, prompts).mean(), right(expected, prompts).mean()
    say(f"right as the critic chooses {shares[0]:.3f}, without the WebUI {shares[1]:.3f}")
    assert abs(shares[0] - shares[1]) <= 1 / len(prompts)


@pytest.mark.parametrize("scheduler", ["Automatic", "Karras"])
@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_a_sketch_is_like_the_finished_image(server, trained, prompts, say, sampler, scheduler):
    """Medians of 0.90 to 0.95 were seen but for those in LIKE; of 8 prompts they are uncertain: ask for 16 or more."""
    changes = {"sampler_name": sampler, "scheduler": scheduler}
    likeness, sketched = [], set()
    for seed, prompt in enumerate(prompts, 1):
        body = server.request(FILE, **{**REQUEST, **changes, "prompt": prompt, "seed": seed, "candidates": 2})
        body["alwayson_scripts"] = {"noise order": {"args": [{"erase": 4.0, "inject": 0.0}]}}
        sheet = server.post("/noiseorder/v1/audition", body)
        sketched.add(sheet["sketch"])
        preview = sheet["previews"][1]
        whole = trained(prompt, seed, {"erase": 4.0, "inject": 0.0, "variant": preview["variant"]}, **changes)
        likeness.append(np.corrcoef(decode(preview).ravel(), whole.pixels[0].ravel())[0, 1])
    say(json.dumps({"sampler": sampler, "scheduler": scheduler, "median": round(float(np.median(likeness)), 3)}))
    assert sketched == {True}
    assert np.median(likeness) >= LIKE.get(f"{sampler} in {server.host}", LIKE.get(sampler, 0.9))
