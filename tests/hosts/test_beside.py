"""What is made beside the image, in what the hosts resolve and count: seeds, prompts, jobs, random numbers."""

from __future__ import annotations

import copy
import sys
import types

import pytest
import torch
from PIL import Image
from test_compare import ALL, generate, processing, same


def random_seeds(host, monkeypatch):
    """As the hosts do with −1: a seed at random for each processing object, known only once it begins."""
    seeds = iter(range(1000, 2000, 7))
    process = host.script.before_process

    def resolved(p, *args):
        if p.seed == -1:
            p.seed = p.subseed = next(seeds)
        process(p, *args)

    monkeypatch.setattr(host.script, "before_process", resolved, raising=False)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_variants_keep_the_seed_that_was_drawn(host, monkeypatch, batch_size):
    random_seeds(host, monkeypatch)
    size = {"batch_size": batch_size, "do_not_save_grid": True}
    result = generate(host, ALL, seed=-1, **size)
    assert result.all_seeds == [1000 + k for k in range(batch_size)] * 4
    seeds = [text.partition("Seed: ")[2].partition(",")[0] for text in result.infotexts[1:]]
    assert seeds == [str(seed) for seed in result.all_seeds]
    again = generate(host, ALL, seed=1000, subseed=1000, **size)
    assert same(result.images, again.images)
    assert result.infotexts == again.infotexts


def test_the_kept_copy_shares_no_list_with_the_image(host):
    from lib_noiseorder.generation.children import duplicate

    p = processing(host, ALL)
    p.styles, p.override_settings, p.cached_c, p.image = ["a"], {"b": 1}, [1], object()
    q = duplicate(p)
    assert q is not p
    assert (q.styles, q.override_settings) == (["a"], {"b": 1})
    assert q.styles is not p.styles
    assert q.override_settings is not p.override_settings
    assert q.cached_c is p.cached_c, "the hosts' caches of encoded prompts are shared"
    assert q.image is p.image


def test_a_copy_makes_the_images_that_were_made_whatever_scripts_do_to_it(host):
    from lib_noiseorder.generation.children import settle, settled

    names = ["all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds", "n_iter", "batch_size"]
    names += ["all_hr_prompts", "all_hr_negative_prompts"]
    p, q = processing(host, ALL, enable_hr=True), processing(host, ALL)
    for name in names:
        setattr(p, name, 3 if name in ("n_iter", "batch_size") else [name])
    images = settled(p)
    for name in names:
        setattr(q, name, "of another script")
    settle(q, images)
    assert {name: getattr(q, name) for name in names} == {name: getattr(p, name) for name in names}
    assert q.all_seeds is not p.all_seeds


def test_jobs_are_counted(host):
    p = processing(host, ALL, n_iter=2, seeds=[1], all_seeds=[1, 2])
    host.begin(p, ALL)
    assert host.state.job_count == -1, "the host counts its own before the first batch"
    host.state.job_count = 10
    for n in range(2):
        p.iteration = n
        host.script.process_batch(p, ALL)
    assert host.state.job_count == 10 + 3 * 2


@pytest.mark.parametrize(("hires", "added"), [(True, 6), (False, 3)])
def test_a_hires_pass_is_a_job_of_its_own(host, hires, added):
    """Counted in the first batch, when the host has doubled its own count for hires fix."""
    p = processing(host, ALL, enable_hr=hires, seeds=[1], all_seeds=[1])
    host.begin(p, ALL)
    host.state.job_count = 5
    host.script.process_batch(p, ALL)
    assert host.state.job_count == 5 + added


def test_without_variants_no_job_is_counted(host):
    for args in (True, False, {**ALL, "erase": 0}):
        p = processing(host, args)
        host.script.before_process(p, args)
        host.begin(p, args)
        assert host.state.job_count == -1


def test_what_is_made_beside_is_told_on_the_page_while_it_is_made(host):
    states = []
    host.sampled = lambda p: states.append((host.state.textinfo, host.cmd_opts.no_prompt_history))
    generate(host, ALL)
    assert states == [
        ("before", False),
        ("Noise Order: also making original", True),
        ("Noise Order: also making erased", True),
        ("Noise Order: also making injected", True),
    ]
    assert (host.state.textinfo, host.cmd_opts.no_prompt_history) == ("before", False)


def test_random_numbers_begin_anew_for_each_variant(host):
    """The fakes' VAE draws one, and a patched network one more: as in the image."""
    numbers = []
    host.sampled = lambda p: numbers.append(torch.rand(1).item())
    generate(host, ALL)
    assert len(numbers) == 4
    assert len(set(numbers)) == 1


@pytest.mark.parametrize("name", ["interrupted", "skipped", "stopping_generation"])
def test_whatever_stops_the_host_stops_what_is_made_beside(host, name):
    host.sampled = lambda p: setattr(host.state, name, True)
    result = generate(host, ALL)
    assert len(result.images) == 1
    assert "Noise Order: Not made: original: interrupted\n" in result.comments


def test_what_was_not_made_is_told_in_one_line(host, capsys):
    result = generate(host, {**ALL, "inject": 0.0})
    message = "Not made: erased: the same as another image; injected: the same as another image"
    assert result.comments == f"Noise Order: {message}\n"
    assert f"[Noise Order] {message}\n" in capsys.readouterr().out


def test_a_refused_image_is_not_compared_and_the_reason_is_told(host):
    host.network.before = lambda: (_ for _ in ()).throw(RuntimeError("no"))
    result = generate(host, ALL)
    assert result.comments.endswith(
        "Noise Order: Not made: nothing to compare with: the noise was left as it is, or there is no image\n"
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"txt2img_upscale": True}, "the upscale button replaces one image by one"),
        ({}, None),
    ],
)
def test_why_nothing_is_made_beside(host, settings, reason):
    p = processing(host, ALL)
    vars(p).update(settings)
    result = host.process_images(p)
    assert len(result.images) == (1 if reason else 5)
    assert result.comments == (f"Noise Order: Nothing is made beside the image. {reason}\n" if reason else "")


def test_a_copy_of_a_processing_object_begins_anew(host):
    """An X/Y/Z cell is a copy of one object, with what the cell before it left there."""
    p = processing(host, ALL)
    host.script.before_process(p, ALL)
    own = p._noiseorder
    assert own.comparisons is not None
    cell = copy.copy(p)
    host.script.before_process(cell, True)
    assert cell._noiseorder is not own
    assert cell._noiseorder.comparisons is None
    assert p._noiseorder is own
    assert own.comparisons is not None
    assert len(host.process_images(copy.copy(p)).images) == 5


def test_the_global_random_numbers_of_every_device_are_put_back_for_each_variant(host, monkeypatch):
    """Where there is a GPU: what it had drawn before the image, in every device; and what it had after it."""
    generators = ["first", "second"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(generators))
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda states: generators.__setitem__(slice(None), states))
    snapshots = []
    process = host.script.process

    def draws(p, *args):
        snapshots.append(list(generators))
        generators[:] = [f"{state} drawn" for state in generators]
        process(p, *args)

    monkeypatch.setattr(host.script, "process", draws)
    assert len(generate(host, {**ALL, "inject": 0.05}).images) == 5
    assert snapshots == [["first", "second"]] * 4
    assert generators == ["first drawn", "second drawn"]


def script(name, title):
    return types.SimpleNamespace(filename=f"/x/scripts/{name}", title=lambda: title)


@pytest.mark.parametrize(("choice", "images"), [(0, 5), (1, 5), (2, 1), (3, 5), (-1, 5), (None, 5), ("x", 5)], ids=str)
def test_the_chosen_script_decides(host, choice, images):
    """Its place in the list is told from 1 on; 0 is none, and what is no number at all is none either."""
    scripts = [script("xyz_grid.py", "X/Y/Z plot"), script("loopback.py", "Loopback")]
    p = processing(host, ALL, scripts=types.SimpleNamespace(selectable_scripts=scripts))
    p.script_args = (choice, ALL)
    result = host.process_images(p)
    assert len(result.images) == images
    comment = 'Noise Order: Nothing is made beside the image. the script "Loopback" counts on the images it asked for\n'
    assert result.comments == (comment if images == 1 else "")


def test_no_script_arguments_at_all(host):
    from lib_noiseorder.generation import children

    assert children.why_not(processing(host).__class__([], [], [], script_args=(), scripts=None)) == ""


@pytest.mark.parametrize(("mask", "composite"), [(True, False), (False, True), (True, True)])
def test_masks_and_masked_parts_are_no_pictures(host, mask, composite):
    from lib_noiseorder.generation.children import images_of

    if hasattr(host.opts, "return_mask"):
        host.opts.return_mask, host.opts.return_mask_composite = mask, composite
    else:
        mask = composite = False  # ersatzForge has none in its results
    p = processing(host, True, 4.0, 0.05, mask_for_overlay=Image.new("L", (8, 8)))
    stride = 1 + mask + composite
    processed = types.SimpleNamespace(
        index_of_first_image=1, images=list(range(-1, 3 * stride)), infotexts=["grid", "a", "b", "c"]
    )
    assert images_of(p, processed) == ([0, stride, 2 * stride], ["a", "b", "c"])
    p.mask_for_overlay = None
    processed.images = list(range(-1, 2))
    assert images_of(p, processed) == ([0, 1], ["a", "b"])


def test_what_comes_without_infotexts_gets_that_of_the_first_image(host):
    mask = Image.new("RGB", (8, 8), "red")
    host.opts.return_mask = True
    result = generate(
        host, {"inject": 0.05, "compare_original": True}, batch_size=2, mask_for_overlay=mask, do_not_save_grid=True
    )
    _, first, second, *added = result.infotexts
    assert first != second
    assert added[:2] == [first] * 2
    assert all("compare: original" in text for text in added[2:])


def test_the_grid_has_the_infotext_of_the_first_image(host):
    result = generate(host, ALL, batch_size=2, do_not_save_grid=True)
    grid, first, second, *_ = result.infotexts
    assert grid == first != second
    host.opts.enable_pnginfo = False
    result = generate(host, ALL, do_not_save_grid=True)
    assert "parameters" not in result.images[0].info


@pytest.mark.parametrize("extended", [True, False])
def test_the_grid_is_saved_as_the_host_saves_grids(host, monkeypatch, extended):
    saved = []
    if hasattr(host.opts, "grid_extended_filename"):
        host.opts.grid_extended_filename = extended
    else:
        extended = False
    monkeypatch.setattr(
        sys.modules["modules.images"], "save_image", lambda *arguments, **settings: saved.append((arguments, settings))
    )
    result = generate(host, ALL, seed=7, n_iter=2, outpath_grids="there")
    ((arguments, settings),) = saved
    assert arguments[0] is result.images[0]
    assert arguments[1:] == ("there", "grid", 7, "a cat", "png")
    assert isinstance(settings.pop("p"), host.processing)
    assert settings == {"info": result.infotexts[0], "short_filename": not extended, "grid": True}


def test_files_of_variants_are_numbered_where_the_seed_alone_would_name_them(host):
    host.opts.save_images_add_number = False
    p = processing(host, ALL)
    host.process_images(p)
    assert p.override_settings == {}
    assert host.overridden == [("save_images_add_number", True)] * 3


def test_an_image_that_was_refused_without_variants_has_nothing_told_of_comparing(host):
    host.network.before = lambda: (_ for _ in ()).throw(RuntimeError("no"))
    assert "compare" not in generate(host, True, 4.0, 0.05).comments


def test_a_failing_variant_and_a_failing_grid_are_traced_in_the_console(host, capsys):
    def fail(p):
        if p.extra_generation_params.get("Noise Order compare") == "erased":
            raise RuntimeError("the variant")

    host.sampled = fail
    host.draw_grid_annotations = lambda *arguments: 1 / 0
    result = generate(host, ALL)
    console = capsys.readouterr()
    assert "the variant" in console.err
    assert "ZeroDivisionError" in console.err
    assert "Not made: erased: RuntimeError: the variant; grid: ZeroDivisionError" in result.comments


def test_a_name_the_host_does_not_know_is_a_setting_that_is_off(host):
    from lib_noiseorder.generation.children import option

    assert option("no such setting") is False
    host.opts.such_a_setting = 1
    assert option("such_a_setting") is True


def test_nothing_is_made_beside_the_passes_of_adetailer_although_they_are_modulated(host):
    host.opts.data["noiseorder_adetailer"] = True
    p = processing(host, ALL)
    p._ad_inner = True
    result = host.process_images(p)
    assert len(result.images) == 1
    assert "Noise Order: 1" in result.infotexts[0]


@pytest.mark.parametrize(
    ("seeds", "step", "expected"),
    [([5, 6, 7], 1, 5), ([5, 5], 0, 5), ([5], 1, 5), ([5, 7], 1, [5, 7]), ([5, 5], 1, [5, 5]), ([5, 6], 0, [5, 6])],
)
def test_one_seed_where_the_host_counts_up(a1111, seeds, step, expected):
    from lib_noiseorder.generation.children import as_seed

    assert as_seed(seeds, step) == expected


def test_a_comparison_has_the_seeds_of_its_image(host):
    seen = []
    host.sampled = lambda p: seen.append((p.seed, p.subseed, list(p.all_seeds)))
    generate(host, ALL, batch_size=2)
    generate(host, ALL, batch_size=2, seed=[3, 9], subseed=[1, 1])
    assert seen == [(1, 2, [1, 2])] * 4 + [([3, 9], [1, 1], [3, 9])] * 4
