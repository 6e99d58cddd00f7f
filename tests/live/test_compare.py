"""Also make: original, erased, injected, against independent requests to the real WebUI."""

from __future__ import annotations

import pytest
from test_passes import hires, img2img, make_image
from test_xyz import plot
from webui import Answer, at_once

ALL = {"compare_original": True, "compare_erased": True, "compare_injected": True}
SETTINGS = {"erase": 2.0, "inject": 0.1}
ALONE = [SETTINGS, {**SETTINGS, "enabled": False}, {**SETTINGS, "inject": 0.0}, {**SETTINGS, "erase": 1.0}]
"""The image and its variants, in the order of the answer."""
TWO = pytest.param({"batch_size": 2}, marks=pytest.mark.batches)


def read_names(answer):
    """Which variant each image says it is, "" for the image and the grid."""
    return [text.partition("Noise Order compare: ")[2].partition(",")[0].strip() for text in answer.infotexts]


def assert_each_as_alone(answer, count, generate):
    first = answer.info["index_of_first_image"]
    assert len(answer.images) == len(answer.infotexts) == first + 4 * count
    assert read_names(answer)[first:] == [name for name in ("", "original", "erased", "injected") for _ in range(count)]
    for k, settings in enumerate(ALONE):
        alone = generate(settings)
        start = alone.info["index_of_first_image"]
        for i in range(count):
            ours = answer.pixels[first + k * count + i]
            assert (ours == alone.pixels[start + i]).all(), f"{settings}, image {i + 1}"


@pytest.mark.parametrize("changes", [{}, TWO, {"n_iter": 2}, {"sampler_name": "Euler a", "steps": 3}])
def test_txt2img(server, kind, changes):
    answer = server.txt2img(kind, {**SETTINGS, **ALL}, **changes)
    count = changes.get("batch_size", 1) * changes.get("n_iter", 1)
    assert_each_as_alone(answer, count, lambda settings: server.txt2img(kind, settings, **changes))
    assert answer.info["all_seeds"] == [1 + k for k in range(count)] * 4


def test_grid_is_first_and_labelled(server, kind):
    count = at_once(kind, 2)
    answer = server.txt2img(kind, {**SETTINGS, **ALL}, batch_size=count)
    assert answer.info["index_of_first_image"] == 1, "by the API the host makes no grid of its own unless it saves"
    height, width = answer.pixels[0].shape[:2]
    assert width >= 4 * 64
    assert height > count * 64, "with room for the labels above"
    assert answer.images[0].info["parameters"] == answer.infotexts[0] == answer.infotexts[1]


def test_each_infotext_makes_its_image_again(server, kind):
    count = at_once(kind, 2)
    answer = server.txt2img(kind, {**SETTINGS, **ALL}, batch_size=count)
    images = list(zip(answer.pixels, answer.infotexts, read_names(answer), strict=True))
    for pixels, text, name in images[1 + count :: count]:
        again = server.paste(kind, text)
        assert len(again.images) == 1, name
        assert abs(again.pixels[0].astype(int) - pixels).max() <= 1, name


@pytest.mark.parametrize("changes", [{}, TWO, {"mask": make_image("black", (16, 16, 48, 48)), "inpainting_fill": 1}])
def test_img2img_and_inpainting(server, kind, changes):
    answer = img2img(server, kind, {**SETTINGS, **ALL}, **changes)
    count = changes.get("batch_size", 1)
    assert_each_as_alone(answer, count, lambda settings: img2img(server, kind, settings, **changes))


def test_masks_in_the_answer(server, kind, options):
    each = 3 if server.facts.returns_masks else 1
    if server.facts.returns_masks:
        options(return_mask=True, return_mask_composite=True)
    else:
        assert "return_mask" not in server.get("/sdapi/v1/options")
    count = at_once(kind, 2)
    changes = {"mask": make_image("black", (16, 16, 48, 48)), "inpainting_fill": 1, "batch_size": count}
    answer = img2img(server, kind, {**SETTINGS, "compare_original": True}, **changes)
    plain = img2img(server, kind, {"enabled": False}, **changes)
    assert len(plain.images) == count * each
    assert len(answer.images) == len(answer.infotexts) == 1 + count * each + count
    assert all((a == b).all() for a, b in zip(answer.pixels[-count:], plain.pixels[::each], strict=True))


@pytest.mark.not_inpainting
@pytest.mark.parametrize("passes", ["first", "both"])
def test_hires(server, kind, passes):
    answer = hires(server, kind, {**SETTINGS, **ALL, "passes": passes})
    assert_each_as_alone(answer, 1, lambda settings: hires(server, kind, {**settings, "passes": passes}))


def test_the_next_image_is_as_if_nothing_had_been_compared(server, kind):
    server.txt2img(kind, {**SETTINGS, **ALL})
    assert server.txt2img(kind).digest == server.baselines[kind]
    plain = img2img(server, kind)
    server.txt2img(kind)
    img2img(server, kind, {**SETTINGS, **ALL})
    assert img2img(server, kind).digest == plain.digest


def test_interruption_stops_making_variants(server, kind):
    server.probe(interrupt_variant="erased")
    answer = server.txt2img(kind, {**SETTINGS, **ALL})
    assert read_names(answer) == ["", "", "original"]
    assert "Not made: erased: interrupted" in server.log.read_text(errors="replace")
    server.probe()
    assert server.txt2img(kind).digest == server.baselines[kind]


def test_progress_knows_of_the_variants(server, kind):
    server.txt2img(kind, {**SETTINGS, **ALL}, n_iter=2)
    assert server.get("/noiseorder-probe")["job_counts"] == [8] * 8, "two batches, four times"


def list_files(server):
    return {path for path in server.data.rglob("*.png") if "models" not in path.parts}


@pytest.mark.parametrize(("save", "grids"), [(True, True), (True, False), (False, True)])
def test_files_are_saved_as_the_options_say(server, kind, options, save, grids):
    before = list_files(server)
    options(grid_save=grids, grid_format="png", samples_save=True, save_images_add_number=False)
    answer = server.txt2img(kind, {**SETTINGS, **ALL}, save_images=save)
    new = list_files(server) - before
    in_grids = {path for path in new if "grid" in path.name}
    assert len(new - in_grids) == (4 if save else 0)
    assert len(in_grids) == (save and grids)
    assert len(answer.images) == 5
    for path in new:
        path.unlink()


def test_xyz_cells_show_the_grid(server):
    kind = server.kinds[0]
    plain = Answer(plot(server, kind, "Erase", "2,4").json(), {})
    answer = Answer(plot(server, kind, "Erase", "2,4", x_args=[{"compare_original": True}]).json(), {})
    assert len(answer.images) == len(plain.images)
    for cell, text in zip(answer.pixels[-2:], answer.infotexts[-2:], strict=True):
        assert cell.shape[1] > 2 * 64
        assert "Noise Order compare original: True" in text
