"""Candidates, their previews and the choice among them, in the real WebUI."""

from __future__ import annotations

import json
import secrets
import threading
import time

import pytest
import requests
from auditions import AUTOMATIC, SETTINGS, assert_winner_is_the_variant_alone, audition, decode, get_variant
from test_passes import hires, img2img, make_image
from test_xyz import plot
from webui import Answer, at_once

from lib_noiseorder.config import FIELDS

TWO = pytest.param({"batch_size": 2}, marks=pytest.mark.batches)


@pytest.mark.parametrize("changes", [{}, TWO, {"n_iter": 2}, {"sampler_name": "Euler a"}])
def test_the_winner_is_that_variant_alone(server, kind, changes):
    assert_winner_is_the_variant_alone(server, lambda settings: server.txt2img(kind, settings, **changes))


@pytest.mark.parametrize("changes", [{}, {"mask": make_image("black", (16, 16, 48, 48)), "inpainting_fill": 1}])
def test_img2img_and_inpainting(server, kind, changes):
    assert_winner_is_the_variant_alone(server, lambda settings: img2img(server, kind, settings, **changes))


@pytest.mark.not_inpainting
def test_hires(server, kind):
    assert_winner_is_the_variant_alone(server, lambda settings: hires(server, kind, settings))


@pytest.mark.not_inpainting
def test_the_sheet_of_hires_fix_is_of_its_first_pass_and_its_infotexts_have_both(server, kind):
    upscale = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": server.facts.upscaler, "denoising_strength": 0.7}
    if server.facts.is_forge:
        upscale |= {"hr_additional_modules": ["Use same choices"], "hr_cfg": 5}
    sheet = audition(server, kind, **upscale).json()
    assert [decode(each).shape for each in sheet["previews"]] == [(64, 64, 3)] * 3
    assert all("hires upscaler: " in each["infotext"].lower() for each in sheet["previews"])
    assert not any(hook["is_hr_pass"] for hook in server.get("/noiseorder-probe")["hooks"])


def test_params_txt_holds_what_makes_an_image(server, kind):
    server.txt2img(kind, AUTOMATIC)
    path = server.data / ("params-t2i.txt" if server.host == "ersatz" else "params.txt")
    text = path.read_text()
    # The hosts write it before sampling: what a sampler adds (AUTOMATIC1111's of inpainting models) is not in it.
    assert "Noise Order auditioned: 3" in text
    assert "Noise Order audition:" not in text
    audition(server, kind)
    assert path.read_text() == text


def test_img2img_by_the_route(server, kind):
    response = audition(server, kind, init_images=[make_image("white")], denoising_strength=0.6)
    assert response.ok, response.text
    assert response.json()["of"] < 4 or server.host == "ersatz"
    assert len(response.json()["previews"]) == 3


def test_xyz_axis(server):
    answer = Answer(plot(server, server.kinds[0], "Audition", "0,2").json(), {})
    assert ["auditioned" in text for text in answer.infotexts[-2:]] == [False, True]


@pytest.mark.batches
def test_an_image_chooses_in_its_batch_as_alone(server, kind):
    together = server.txt2img(kind, AUTOMATIC, batch_size=2)
    alone = [server.txt2img(kind, AUTOMATIC, seed=seed) for seed in (1, 2)]
    first = together.info["index_of_first_image"]
    assert [get_variant(text) for text in together.infotexts[first:]] == [get_variant(each.infotext) for each in alone]


def test_pasting_the_winner_makes_it_again_and_pays_once(server, kind):
    answer = server.txt2img(kind, AUTOMATIC)
    again = server.paste(kind, answer.infotext)
    assert len(again.images) == 1
    assert abs(again.pixels[0].astype(int) - answer.pixels[0]).max() <= 1
    assert "auditioned" not in again.infotext


def test_the_next_image_is_as_if_nothing_had_been_auditioned(server, kind):
    server.txt2img(kind, AUTOMATIC)
    assert server.txt2img(kind).digest == server.baselines[kind]
    plain = img2img(server, kind)
    server.txt2img(kind)
    img2img(server, kind, AUTOMATIC)
    assert img2img(server, kind).digest == plain.digest


@pytest.mark.batches
def test_one_image_of_a_batch(server, kind):
    """As the page asks for variants of a chosen image: the third of four is that seed's alone."""

    def previews(image, **changes):
        request = {"id": secrets.token_hex(8), "candidates": 2, "depth": 0.75, "image": image, "settings": SETTINGS}
        values = [True, *[field.default for field in FIELDS[1:]], json.dumps(request)]
        return server.txt2img(kind, *values, **changes)

    answer, alone = previews(2, batch_size=2, n_iter=2), previews(None, seed=3)
    assert len(answer.images) == 2
    assert answer.infotexts == alone.infotexts
    assert answer.digest == alone.digest


def test_the_sheet(server, kind):
    count = at_once(kind, 2)
    response = audition(server, kind, batch_size=count, depth=0.6)
    assert response.ok, response.text
    sheet = response.json()
    record = server.get("/noiseorder-probe")
    assert sheet["variants"] == [0, 1, 2]
    assert [(each["image"], each["variant"]) for each in sheet["previews"]] == [
        (k, v) for v in range(3) for k in range(count)
    ]
    assert 1 <= sheet["steps"] < sheet["of"] == 4, sheet["told"]
    assert len({each["picture"] for each in sheet["previews"]}) == 3 * count
    for each in sheet["previews"]:
        assert decode(each).shape == (64, 64, 3)
        assert each["score"] <= 0
        assert get_variant(each["infotext"]) == each["variant"]
    assert record["hooks"][-1]["shape"][0] == count
    winner = server.paste(kind, sheet["previews"][1]["infotext"])
    assert len(winner.images) == 1


def test_the_last_preview_is_the_image(server, kind, options):
    """Looked at after all steps and decoded in full: the x̂0 of the last step, guidance and all, is the image."""
    options(noiseorder_sketches=False)
    sheet = audition(server, kind, depth=0.05, steps=3).json()
    assert sheet["steps"] == sheet["of"] == 3
    for each in sheet["previews"]:
        whole = server.txt2img(kind, {**SETTINGS, "variant": each["variant"]}, steps=3)
        assert abs(decode(each).astype(int) - whole.pixels[0]).max() <= 1


@pytest.mark.parametrize(
    "changes", [{}, {"sampler_name": "Heun"}, {"prompt": "a red cat AND a blue dog"}, {"cfg_scale": 1}]
)
def test_evaluations_are_as_told(server, kind, changes):
    """As the probe counts them in the model: the sampler's own, and the critic's, one for each prompt."""
    sheet = audition(server, kind, **changes).json()
    rows = server.get("/noiseorder-probe")["rows"]
    whole = server.txt2img(kind, SETTINGS, **changes).record["rows"]
    assert sheet["cost"] == pytest.approx(rows / whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": 1}, "must be from 2 to 16"),
        ({"candidates": "many"}, "must be a whole number"),
        ({"depth": 2}, "must be a number from 0.05 to 1"),
        ({"steps": "x"}, "steps"),
        ({"script_name": "X/Y/Z plot"}, "leave script_name out"),
    ],
)
def test_what_cannot_be_asked_is_told(server, changes, message):
    response = audition(server, server.kinds[0], **changes)
    assert response.status_code == 422
    assert message in response.text


@pytest.mark.parametrize("args", [{"erase": 9}, 9])
def test_arguments_that_are_no_list_are_told(server, args):
    body = {**server.request(server.kinds[0]), "alwayson_scripts": {"noise order": {"args": args}}}
    response = requests.post(f"{server.url}/noiseorder/v1/audition", json=body, timeout=300)
    assert (response.status_code, "must be a list" in response.text) == (422, True)


def test_the_route_reads_the_host_s_field_infotext(server, kind):
    """As txt2img does; Forge answers any infotext with an error unless the request has styles."""
    text = server.txt2img(kind, {**SETTINGS, "erase": 9.0, "variant": 4}).infotext
    body = {**server.request(kind), "infotext": text, "styles": [], "candidates": 2}
    previews = server.post("/noiseorder/v1/audition", body)["previews"]
    assert [get_variant(each["infotext"]) for each in previews] == [4, 5]
    assert all("Noise Order erase: 9" in each["infotext"] for each in previews)


def test_settings_that_cannot_be_auditioned_are_told(server):
    for settings, message in (({"erase": 1.0}, "set Erase above 1"), ({"enabled": False}, "switch it on")):
        response = audition(server, server.kinds[0], settings)
        assert response.status_code == 422
        assert message in response.text


@pytest.mark.parametrize("settings", [AUTOMATIC, None])
def test_interrupted_at_any_moment_the_server_goes_on(server, settings):
    kind = server.kinds[0]
    before = server.txt2img(kind).digest
    for delay in (0.02, 0.1, 0.3, 0.6, 1.0):
        answers = []

        def ask(answers=answers):
            if settings is None:
                answers.append(audition(server, kind, steps=30, candidates=8))
            else:
                body = server.request(kind, steps=30)
                body["alwayson_scripts"] = {"noise order": {"args": [{**settings, "audition": 8}]}}
                answers.append(requests.post(f"{server.url}/sdapi/v1/txt2img", json=body, timeout=300))

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(delay)
        server.post("/sdapi/v1/interrupt", {})
        thread.join()
        assert answers[0].ok, f"after {delay} s: {answers[0].status_code} {answers[0].text[:300]}\n{server.tail(30)}"
        assert server.alive()
    assert server.txt2img(kind).digest == before


def test_two_users_at_once(server):
    kind = server.kinds[0]
    expected = [server.txt2img(kind, AUTOMATIC, seed=seed).digest for seed in (3, 4)]
    sheets = [[each["picture"] for each in audition(server, kind, seed=seed).json()["previews"]] for seed in (3, 4)]
    results = {}

    def ask(seed):
        body = server.request(kind, seed=seed)
        body["alwayson_scripts"] = {"noise order": {"args": [AUTOMATIC]}}
        results[seed] = Answer(server.post("/sdapi/v1/txt2img", body), {}).digest
        results[-seed] = [each["picture"] for each in audition(server, kind, seed=seed).json()["previews"]]

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in (3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[3], results[4]] == expected
    assert [results[-3], results[-4]] == sheets


def test_progress_knows_of_the_candidates(server, kind):
    server.txt2img(kind, AUTOMATIC, n_iter=2)
    assert server.get("/noiseorder-probe")["job_counts"] == [8] * 2, "two batches, and three candidates of each before"


@pytest.mark.not_inpainting
def test_progress_knows_that_candidates_have_no_hires_pass(server, kind):
    assert hires(server, kind, AUTOMATIC).record["job_counts"] == [3 + 2]


def test_others_reckon_with_the_steps_of_the_image(server, kind, options):
    """FreeU, ControlNet and others read `state.sampling_steps`; those of a sketch are the whole sketch's."""
    for sketches, steps in ((False, {20}), (True, {7, 20})):
        options(noiseorder_sketches=sketches)
        answer = server.txt2img(kind, AUTOMATIC, steps=20)
        assert "Noise Order auditioned: 3" in answer.infotext
        assert set(answer.record["clock"]) <= steps
        assert 20 in answer.record["clock"]
