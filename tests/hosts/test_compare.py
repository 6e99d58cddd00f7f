"""Also make: original, erased, injected, around whole generations of the fakes."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
from PIL import Image

ALL = {"inject": 0.05, "compare_original": True, "compare_erased": True, "compare_injected": True}


def processing(host, *args, **settings):
    values = {"prompt": "a cat", "negative_prompt": "bad", **settings}
    p = host.processing([], [], values.pop("seeds", []), script_args=(0, *args), **values)
    p.modified_noise = None
    return p


def generate(host, *args, warm=True, **settings):
    """One job from the beginning, as the hosts begin it."""
    host.state.job_count, host.state.job_no = -1, 0
    torch.manual_seed(0)
    return host.process_images(processing(host, *args, **settings))


def pixels(images):
    return [np.asarray(image.convert("RGB")) for image in images]


def same(ours, theirs):
    assert len(ours) == len(theirs)
    return all(np.array_equal(a, b) for a, b in zip(pixels(ours), pixels(theirs), strict=True))


def test_without_being_asked_nothing_is_different(host):
    plain = generate(host, True, 4.0, 0.05)
    assert len(plain.images) == 1
    assert "compare" not in plain.infotexts[0]
    assert host.state.job_count == 1


@pytest.mark.parametrize(("batch_size", "n_iter"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_each_variant_is_the_image_its_own_settings_make(host, batch_size, n_iter):
    size = {"batch_size": batch_size, "n_iter": n_iter, "do_not_save_grid": True}
    n = batch_size * n_iter
    both = generate(host, {**ALL, "erase": 2.0}, **size)
    assert both.index_of_first_image == 1, "our grid, and none of the host's"
    assert len(both.images) == len(both.infotexts) == 1 + 4 * n
    expected = [
        generate(host, *settings, **size)
        for settings in (
            ({"inject": 0.05, "erase": 2.0},),
            (False,),
            ({"erase": 2.0, "inject": 0.0},),
            ({"inject": 0.05, "erase": 1.0},),
        )
    ]
    for k, alone in enumerate(expected):
        assert same(both.images[1 + k * n : 1 + (k + 1) * n], alone.images)
    assert len({image.tobytes() for image in both.images[1:]}) == 4 * n
    assert both.all_seeds == [1 + k for k in range(n)] * 4
    assert both.all_subseeds == [2 + k for k in range(n)] * 4
    assert len(both.all_prompts) == len(both.all_negative_prompts) == 4 * n


def test_infotexts_say_what_each_is_and_how_to_make_it_again(host):
    grid, main, original, erased, injected = generate(host, ALL).infotexts
    assert grid == main
    for name in ("original", "erased", "injected"):
        assert f"Noise Order compare {name}: True" in main
    assert "Noise Order compare: original" in original
    assert "Noise Order: 1" not in original
    for text, name, setting in ((erased, "erased", "inject: 0"), (injected, "injected", "erase: 1")):
        assert f"Noise Order compare: {name}" in text
        assert f"Noise Order {setting}" in text
        assert "Noise Order: 1" in text
        assert "True" not in text, "pasted, it is to make one image"
    assert "Noise Order compare:" not in main


def test_the_grid_is_labelled_and_holds_every_image(host):
    result = generate(host, ALL, batch_size=2, do_not_save_grid=True)
    assert host.labels == [["Noise Order"], ["Original"], ["Erased"], ["Injected"], ["Seed 1"], ["Seed 2"]]
    grid = np.asarray(result.images[0])
    side = result.images[1].width
    order = [result.images[i] for i in (1, 3, 5, 7, 2, 4, 6, 8)]
    for k, image in enumerate(order):
        row, column = divmod(k, 4)
        cell = grid[row * side : (row + 1) * side, column * side : (column + 1) * side]
        assert np.array_equal(cell, np.asarray(image))
    assert result.images[0].info["parameters"] == result.infotexts[0]


def test_the_hosts_own_grid_stays(host):
    result = generate(host, {"inject": 0.05, "compare_original": True}, batch_size=2)
    assert result.index_of_first_image == 2
    assert len(result.images) == len(result.infotexts) == 2 + 4
    assert same(result.images[1:2], generate(host, True, 4.0, 0.05, batch_size=2).images[:1])


@pytest.mark.parametrize(("grid_save", "do_not", "saved"), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_the_grid_is_saved_where_the_host_saves_grids(host, grid_save, do_not, saved):
    host.opts.grid_save = grid_save
    result = generate(host, ALL, do_not_save_grid=do_not)
    assert len(host.saved_grids) == saved
    assert all(settings["info"] == result.infotexts[0] and settings["grid"] for _, settings in host.saved_grids)


def test_only_the_hosts_own_grid_and_ours_are_saved(host):
    generate(host, ALL, batch_size=2)
    assert [image.width for image, _ in host.saved_grids] == [2 * 8, 4 * 8]


def test_nothing_of_the_variants_stays_on_the_processing_object(host):
    """Cells of an X/Y/Z plot share its dicts."""
    p = processing(host, ALL, extra_generation_params={"Mine": 1}, override_settings={"mine": 2})
    p.extra_result_images = []
    host.opts.save_images_add_number = False
    host.sampled = lambda q: (q.comment("hello"), q.extra_result_images.append("x"))
    host.process_images(p)
    assert "Noise Order compare" not in p.extra_generation_params
    assert p.override_settings == {"mine": 2}
    assert p.comments == ["hello"]
    assert p.extra_result_images == ["x"]


def test_show_grid_in_results_off(host):
    host.opts.return_grid = False
    result = generate(host, ALL)
    assert (result.index_of_first_image, len(result.images), len(result.infotexts)) == (0, 4, 4)
    assert len(host.saved_grids) == 1


@pytest.mark.parametrize("do_not", [True, False])
def test_images_are_saved_by_the_host_or_not_at_all(host, do_not):
    generate(host, ALL, do_not_save_samples=do_not)
    assert len(host.saved) == (0 if do_not else 4)
    assert host.overridden == []


def test_files_named_by_the_seed_alone_are_not_overwritten(host):
    host.opts.save_images_add_number = False
    generate(host, ALL)
    assert host.overridden == [("save_images_add_number", True)] * 3


@pytest.mark.parametrize(
    ("settings", "variants", "duplicates"),
    [
        ({"inject": 0.0}, ["original"], ["erased", "injected"]),
        ({"inject": 0.05, "erase": 1.0}, ["original"], ["erased", "injected"]),
        ({"inject": 0.05, "erase": 1.0, "compare_original": False}, ["erased"], ["injected"]),
    ],
)
def test_no_image_is_made_twice(host, settings, variants, duplicates):
    result = generate(host, {**ALL, **settings})
    assert [text.partition("compare: ")[2].split(",")[0] for text in result.infotexts[2:]] == variants
    for name in duplicates:
        assert f"{name}: the same as another image" in result.comments


def test_inactive_settings_are_not_made_active(host):
    result = generate(host, {**ALL, "erase": 1.0, "inject": 0.0})
    assert len(result.images) == 1
    assert "Noise Order" not in result.infotexts[0]


def test_masks_are_no_pictures(host):
    mask = Image.new("RGB", (8, 8), "red")
    options = {"batch_size": 2, "mask_for_overlay": mask, "do_not_save_grid": True}
    # First with the settings as they come: ersatzForge has none for masks in results.
    for masks in range(1 + hasattr(host.opts, "return_mask")):
        if masks:
            host.opts.return_mask = True
        result = generate(host, {"inject": 0.05, "compare_original": True}, **options)
        plain = generate(host, False, **options)
        assert len(result.images) == len(result.infotexts) == 1 + 2 * (1 + masks) + 2
        assert same(result.images[-2:], plain.images[:: 1 + masks])
        assert all("compare: original" in text for text in result.infotexts[-2:])


def test_styles_and_wildcards_are_resolved_once(host):
    script = host.script
    original = script.process

    def wildcard(p, *args):
        p.all_prompts = [text.replace("__pet__", "a dog") for text in p.all_prompts]
        original(p, *args)

    script.process = wildcard
    p = processing(host, {"inject": 0.05, "compare_original": True})
    p.prompt, p.styles = "__pet__", ["painted"]
    result = host.process_images(p)
    assert [text.splitlines()[0] for text in result.infotexts] == ["a dog painted"] * 3


def test_params_txt_holds_what_was_asked_for(host):
    result = generate(host, ALL, batch_size=2)
    assert host.params_txt == result.infotexts[1], "of the first image"
    assert host.cmd_opts.no_prompt_history is False


def test_random_numbers_go_on_as_without(host):
    generate(host, True, 4.0, 0.05)
    expected = torch.get_rng_state()
    generate(host, ALL)
    assert torch.equal(torch.get_rng_state(), expected)


def test_progress_counts_the_variants(host):
    generate(host, ALL, n_iter=2)
    assert host.state.job_count == host.state.job_no == 8
    assert host.state.textinfo == "before"


def test_progress_of_an_xyz_plot_with_hires_fix(host):
    p = processing(host, ALL, n_iter=2, enable_hr=True)
    host.state.job_count, host.state.processing_has_refined_job_count = 8, True
    p.seeds, p.all_seeds = [1], [1, 2]
    host.begin(p, ALL)
    for n in range(2):
        p.iteration = n
        host.script.process_batch(p, ALL)
    assert host.state.job_count == 8 + 2 * 2 * 3
    assert p._noiseorder.comparisons is not None


def test_img2img_knows_of_no_hires_pass(host):
    host.script.is_img2img = True
    p = processing(host, {**ALL, "passes": "both"})
    del p.enable_hr
    result = host.process_images(p)
    assert host.state.job_count == host.state.job_no == 4
    assert len(host.steps_run) == 4
    assert not any("Noise Order error" in text for text in result.infotexts)


def test_hires_prompts_are_resolved_once(host):
    p = processing(host, ALL, enable_hr=True)
    host.script.before_process(p, ALL)
    p.all_prompts, p.all_negative_prompts, p.all_seeds, p.all_subseeds = ["a"], ["b"], [1], [2]
    p.all_hr_prompts, p.all_hr_negative_prompts = ["c"], ["d"]
    q = p._noiseorder.comparisons.child(p, "erased")
    assert (q.prompt, q.negative_prompt, q.hr_prompt, q.hr_negative_prompt) == ("a", "b", "c", "d")
    p.all_prompts, p.all_negative_prompts, p.all_seeds, p.all_subseeds = ["a", "A"], ["b", "b"], [1, 1], [2, 2]
    p.all_hr_prompts, p.all_hr_negative_prompts = ["c", "C"], ["d", "d"]
    q = p._noiseorder.comparisons.child(p, "erased")
    assert (q.prompt, q.negative_prompt, q.hr_prompt, q.hr_negative_prompt) == (["a", "A"], "b", ["c", "C"], "d")


def interrupt_at(host, count, name="interrupted"):
    generations = []

    def sampled(p):
        generations.append(p)
        if len(generations) == count:
            setattr(host.state, name, True)

    host.sampled = sampled


@pytest.mark.parametrize(("at", "images"), [(1, 1), (2, 1), (3, 3)])
def test_interruption_stops_making_further_variants(host, at, images):
    interrupt_at(host, at)
    result = generate(host, ALL)
    assert len(result.images) == images
    assert "interrupted" in result.comments


def test_a_failing_variant_leaves_the_images(host):
    def fail(p):
        if "erased" in str(p.extra_generation_params.get("Noise Order compare")):
            raise RuntimeError("out of memory")

    host.sampled = fail
    result = generate(host, ALL)
    assert len(result.images) == 1 + 3
    assert "erased: RuntimeError: out of memory" in result.comments
    host.sampled = lambda p: None
    assert host.cmd_opts.no_prompt_history is False
    assert len(generate(host, ALL).images) == 5


def test_a_variant_whose_noise_was_left_alone_is_not_shown_as_one(host):
    def fail():
        if host.network.rows >= 2:
            raise RuntimeError("no")

    host.network.before = fail
    result = generate(host, ALL)
    assert [text.partition("compare: ")[2].split(",")[0] for text in result.infotexts[2:]] == ["original", "erased"]
    assert "injected: the noise was left as it is" in result.comments


def test_nothing_is_compared_with_an_image_that_was_refused(host):
    host.network.before = lambda: (_ for _ in ()).throw(RuntimeError("no"))
    result = generate(host, ALL)
    assert len(result.images) == 1
    assert "nothing to compare with" in result.comments


def test_a_failing_grid_leaves_the_images(host):
    host.draw_grid_annotations = lambda *arguments: 1 / 0
    result = generate(host, ALL)
    assert (len(result.images), result.index_of_first_image) == (4, 0)
    assert "grid: ZeroDivisionError" in result.comments


def test_scripts_that_count_on_their_images_are_left_alone(host):
    scripts = [
        types.SimpleNamespace(filename="/x/scripts/sd_upscale.py", title=lambda: "SD upscale"),
        types.SimpleNamespace(filename="/x/scripts/xyz_grid.py", title=lambda: "X/Y/Z plot"),
    ]
    for choice, images in ((1, 1), (2, 5)):
        p = processing(host, ALL, scripts=types.SimpleNamespace(selectable_scripts=scripts))
        p.script_args = (choice, ALL)
        result = host.process_images(p)
        assert len(result.images) == images
        assert ("SD upscale" in result.comments) is (choice == 1)


def test_the_upscale_button_and_adetailer_are_left_alone(host):
    for name in ("txt2img_upscale", "_ad_inner"):
        p = processing(host, ALL)
        setattr(p, name, True)
        assert len(host.process_images(p).images) == 1


def test_bad_settings_are_told_once(host):
    result = generate(host, {**ALL, "erase": 0.5})
    assert len(result.images) == 1
    assert result.comments.count("erase") == 1


def test_what_the_host_shows_besides_is_untouched(forge):
    p = processing(forge, ALL)
    p.extra_result_images = ["a map"]
    result = forge.process_images(p)
    assert result.extra_images == ["a map"]
    assert len(result.images) == 5


def combinatorial(host, monkeypatch, before):
    """Dynamic Prompts: three prompts of one, made in its `process`, also for what is made beside the image."""
    ours = host.script.process

    def theirs(p):
        p.all_prompts = [f"{p.all_prompts[0]} {word}" for word in ("red", "blue", "green")]
        p.all_negative_prompts = p.all_negative_prompts[:1] * 3
        p.all_seeds, p.all_subseeds = ([seeds[0]] * 3 for seeds in (p.all_seeds, p.all_subseeds))
        p.n_iter = 3

    def process(p, *args):
        if before:
            theirs(p)
        ours(p, *args)
        if not before:
            theirs(p)

    monkeypatch.setattr(host.script, "process", process)


def test_variants_follow_what_other_scripts_made_of_the_prompt(host, monkeypatch):
    combinatorial(host, monkeypatch, before=True)
    result = generate(host, ALL)
    assert "Not made" not in result.comments
    texts = [text.splitlines()[0] for text in result.infotexts[result.index_of_first_image :]]
    assert texts == ["a cat red", "a cat blue", "a cat green"] * 4


def test_a_script_after_us_that_makes_other_images_is_named_as_the_reason(host, monkeypatch):
    counts = iter([1, 3, 3, 3])
    ours = host.script.process

    def process(p, *args):
        ours(p, *args)
        p.n_iter = count = next(counts)
        p.all_prompts, p.all_negative_prompts = p.all_prompts[:1] * count, p.all_negative_prompts[:1] * count
        p.all_seeds, p.all_subseeds = p.all_seeds[:1] * count, p.all_subseeds[:1] * count

    monkeypatch.setattr(host.script, "process", process)
    result = generate(host, ALL)
    assert "original: 3 instead of 1 images, by another script" in result.comments
    assert "the noise was left" not in result.comments


@pytest.mark.parametrize("strength", [0, 0.5])
def test_a_comparison_has_one_seed_where_the_host_counts_up_from_it(a1111, monkeypatch, strength):
    """Dynamic Prompts fails at a list. With a variation seed the host gives all images the same one."""
    from lib_noiseorder.generation import children

    seen, adopt = [], children.Comparisons.child

    def child(self, p, name):
        q = adopt(self, p, name)
        seen.append((q.seed, q.all_seeds))
        return q

    monkeypatch.setattr(children.Comparisons, "child", child)
    generate(a1111, ALL, batch_size=2, seed=5, subseed_strength=strength)
    assert [seed for seed, _ in seen] == [5] * 3
