"""Candidates, their previews and the choice among them, around whole generations of the fakes."""

from __future__ import annotations

import json
import re
import threading
import types

import pytest
import torch
from test_adapters import adapter
from test_compare import generate, pixels, processing, same

SETTINGS = {"erase": 2.0, "inject": 0.05}


def ticket(host, **changes):
    from lib_noiseorder.config import FIELDS

    values = [True, 2.0, 0.05]
    defaults = [field.default for field in FIELDS[3:]]
    return [*values, *defaults, json.dumps({"id": "a", "candidates": 3, "depth": 0.75, "scored": True, **changes})]


def audition_of(host):
    return __import__("lib_noiseorder.generation.audition", fromlist=["audition"])


def sheets(host):
    return host.loaded.session.sheets.by_id


def with_scores(host, scores):
    """A critic that gives these, in the order it is asked."""
    queue = list(scores)
    audition_of(host).critic = lambda denoised, batch: [queue.pop(0) for _ in denoised]


def variant_of(text):
    return int(text.partition("Noise Order variant: ")[2].partition(",")[0])


SKETCHED = {"sampler_name": "Euler", "steps": 20}


def test_off_is_absent(host):
    result = generate(host, SETTINGS)
    assert "audition" not in result.infotexts[0]
    assert host.steps_run == [10]
    assert "denoised" not in str(vars(host.state))


@pytest.mark.parametrize(("batch_size", "n_iter"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_every_image_goes_on_with_its_best(host, batch_size, n_iter):
    """The scores come batch by batch and within it variant by variant."""
    size = {"batch_size": batch_size, "n_iter": n_iter, "do_not_save_grid": True}
    count = batch_size * n_iter
    winners = [2, 0, 1, 2][:count]
    scores = [
        float(winners[n * batch_size + k] == candidate)
        for n in range(n_iter)
        for candidate in range(3)
        for k in range(batch_size)
    ]
    with_scores(host, scores)
    result = generate(host, {**SETTINGS, "audition": 3, "variant": 4}, **size)
    assert [variant_of(text) for text in result.infotexts] == [4 + w for w in winners]
    assert all("Noise Order auditioned: 3" in text for text in result.infotexts)
    assert not any("Noise Order audition:" in text for text in result.infotexts)
    for k, winner in enumerate(winners):
        alone = generate(host, {**SETTINGS, "variant": 4 + winner}, seed=1 + k, do_not_save_grid=True)
        # The image itself; in its first pixel the fakes put what the VAE drew.
        assert (pixels(result.images)[k].ravel()[3:] == pixels(alone.images)[0].ravel()[3:]).all()


def test_the_chosen_variant_is_the_image_of_that_variant(host):
    result = generate(host, {**SETTINGS, "audition": 4})
    alone = generate(host, {**SETTINGS, "variant": variant_of(result.infotexts[0])})
    assert same(result.images, alone.images)


def test_the_built_in_critic_is_asked_and_the_same_image_chooses_the_same_in_any_batch(host):
    together = generate(host, {**SETTINGS, "audition": 4}, batch_size=3, do_not_save_grid=True)
    alone = [generate(host, {**SETTINGS, "audition": 4}, seed=seed) for seed in (1, 2, 3)]
    assert [variant_of(text) for text in together.infotexts] == [variant_of(each.infotexts[0]) for each in alone]


def test_evaluations_are_as_told(host, capsys):
    generate(host, {**SETTINGS, "audition": 4})
    console = capsys.readouterr().out
    steps = host.steps_run[0]
    assert host.steps_run == [steps] * 4 + [10]
    assert f"auditioned 4 candidates at {steps} of 10 steps for each image" in console
    # Of the fakes' samplers the steps cost nothing: five times two for the noise, and four for the critic.
    assert host.network.rows == 5 * 2 + 4


def test_depth_is_a_position_on_the_samplers_own_schedule(host):
    def preview_steps(positions, depth, distilled=False):
        indices = tuple(round(1000 * position) for position in positions)
        return host.schedules.Schedule(torch.zeros(1001), indices, 1000, len(indices)).preview_steps(depth, distilled)

    assert preview_steps([1.0, 0.9, 0.8, 0.7, 0.6], 0.75) == 4
    assert preview_steps([1.0, 0.9, 0.8, 0.7, 0.6], 1.0) == 2
    assert preview_steps([1.0, 0.9, 0.8], 0.5) == 3, "never below: all of them"
    assert preview_steps([1.0, 0.75, 0.5, 0.25], 0.75, True) == 1
    assert preview_steps([k / 20 for k in range(20, 0, -1)], 0.75, True) == 7
    assert [preview_steps([1.0] * count, 0.75, True) for count in (8, 9)] == [1, 9]
    assert preview_steps([1.0, 0.75, 0.5, 0.25], 0.4, True) == 4, "deeper than by default, as asked for"
    generate(host, {**SETTINGS, "audition": 2})
    from fakes import Sampler

    table = host.sigmas.double()
    sigmas = Sampler(host.network).get_sigmas(None, 10)[:-1].double()
    positions = [int((table - sigma).abs().argmin()) / 999 for sigma in sigmas]
    assert host.steps_run[0] == next(k for k, position in enumerate(positions) if position < 0.75) + 1


def test_random_numbers_and_states_go_on_as_without(host):
    generate(host, {**SETTINGS, "variant": 0})
    expected = torch.get_rng_state()
    with_scores(host, [1.0, 0.0])
    result = generate(host, {**SETTINGS, "audition": 2})
    assert torch.equal(torch.get_rng_state(), expected)
    assert host.state.textinfo == "before"
    assert host.cmd_opts.no_prompt_history is False
    assert host.state.job_no == host.state.job_count == 3
    assert host.params_txt == result.infotexts[0]


def test_a_random_seed_is_drawn_once(host):
    result = generate(host, {**SETTINGS, "audition": 2}, seed=-1)
    assert "Seed: 4711" in result.infotexts[0]
    assert same(
        result.images, generate(host, {**SETTINGS, "variant": variant_of(result.infotexts[0])}, seed=4711).images
    )


def test_nothing_of_the_candidates_is_saved_or_shown(host):
    result = generate(host, {**SETTINGS, "audition": 3}, batch_size=2)
    assert len(host.saved) == 2
    assert len(result.images) == 3
    assert len(host.saved_grids) == 1


@pytest.mark.parametrize("args", [[{**SETTINGS, "audition": 3}], None])
def test_candidates_are_no_files(host, args):
    """Without numbers in their names they would overwrite each other, and the finished image of their seed."""
    host.opts.save_incomplete_images = True
    host.opts.save_images_add_number = False
    generate(host, *(args or ticket(host)))
    assert [seed for seed, _ in host.saved] == ([1] if args else [])
    assert host.saved_grids == []


def test_compared_images_have_the_winners_variant(host):
    with_scores(host, [0.0, 0.0, 1.0])
    result = generate(host, {**SETTINGS, "audition": 3, "compare_erased": True, "compare_original": True})
    alone = generate(host, {**SETTINGS, "variant": 2, "compare_erased": True, "compare_original": True})
    assert same(result.images[1:], alone.images[1:])
    assert len(host.steps_run) == 3 + 3 + 3
    assert variant_of(result.infotexts[-1]) == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_scores_that_are_no_numbers_do_not_win(host, bad):
    audition = audition_of(host)
    scores = iter([bad, -3.0, -2.0])
    audition.critic = lambda denoised, batch: [next(scores)]
    result = generate(host, {**SETTINGS, "audition": 3})
    # A score that is none at all is a failing critic: nobody else's score is lost.
    assert variant_of(result.infotexts[0]) == 2


def test_scores_that_are_no_numbers_are_none_in_a_sheet(host):
    with_scores(host, [float("nan"), float("inf"), -2.0])
    generate(host, *ticket(host))
    assert [preview.score for preview in sheets(host)["a"].previews] == [None, None, -2.0]


def test_an_image_without_scores_claims_no_audition(host):
    host.monkeypatch.setattr(audition_of(host).Audition, "judge", lambda self, p, denoised, candidate: [None, 1.0])
    result = generate(host, {**SETTINGS, "audition": 3, "variant": 1}, batch_size=2, do_not_save_grid=True)
    assert ["Noise Order auditioned: 3" in text for text in result.infotexts] == [False, True]
    assert "None" not in result.infotexts[0]
    assert [variant_of(text) for text in result.infotexts] == [1, 1]
    assert "Went on with variant 1, best of 3" in host.loaded.session.outcomes["txt2img", None]


@pytest.mark.parametrize("score", [float("nan"), None])
def test_where_no_image_has_a_score_nothing_is_claimed(host, score, capsys):
    audition_of(host).critic = lambda denoised, batch: [score] * len(denoised)
    result = generate(host, {**SETTINGS, "audition": 3}, batch_size=2)
    assert "auditioned" not in "".join(result.infotexts)
    assert "Nothing was auditioned: the critic gave no scores" in capsys.readouterr().out


def test_a_failing_critic_leaves_the_image(host, capsys):
    audition_of(host).critic = lambda denoised, batch: 1 / 0
    result = generate(host, {**SETTINGS, "audition": 3})
    console = capsys.readouterr().out
    assert console.count("The critic failed. ZeroDivisionError: division by zero\n") == 3
    assert "Nothing was auditioned: the critic gave no scores" in console
    assert "auditioned" not in result.infotexts[0]
    assert same(result.images, generate(host, SETTINGS).images)
    assert variant_of(result.infotexts[0]) == 0
    generate(host, *ticket(host))
    assert sheets(host)["a"].notes == ["the critic failed: ZeroDivisionError: division by zero"]


def test_a_failing_candidate_leaves_the_image(host, capfd):
    def fail(p):
        if p._noiseorder.candidate is not None:
            raise RuntimeError("out of memory")

    host.sampled = fail
    result = generate(host, {**SETTINGS, "audition": 3})
    assert "Nothing was auditioned. RuntimeError: out of memory" in result.comments
    console = "".join(capfd.readouterr())
    assert console.count("a candidate failed\n") == 1
    assert console.count("RuntimeError: out of memory") >= 2, "with the way to it"
    assert "auditioned:" not in result.infotexts[0]
    host.sampled = lambda p: None
    assert same(result.images, generate(host, SETTINGS).images)


def test_refused_noise_is_not_auditioned(host):
    host.network.before = lambda: (_ for _ in ()).throw(RuntimeError("no"))
    result = generate(host, {**SETTINGS, "audition": 3})
    assert "Noise Order error" in result.infotexts[0]
    assert "auditioned:" not in result.infotexts[0]
    assert host.steps_run == [1, 1, 1, 10]


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_interruption(host, at):
    generations = []

    def interrupt(p):
        generations.append(p)
        if len(generations) == at:
            host.state.interrupted = True

    host.sampled = interrupt
    result = generate(host, {**SETTINGS, "audition": 3})
    # The host gives what it has of an image that is interrupted.
    assert len(result.images) == 1
    assert ("auditioned: 3" in result.infotexts[0]) is (at == 4)
    assert ("Nothing was auditioned: interrupted\n" in result.comments) is (at < 4)
    host.sampled, host.state.interrupted = (lambda p: None), False
    assert len(generate(host, {**SETTINGS, "audition": 3}).images) == 1


def skip(host, *at):
    """Skip these candidates while they are sampled."""

    def skipping(p):
        candidate = p._noiseorder.candidate
        if candidate is not None and candidate.variant in at:
            host.state.skipped = True

    host.sampled = skipping


def test_skipping_every_candidate_ends_the_audition_alone(host):
    skip(host, 0, 1, 2)
    result = generate(host, {**SETTINGS, "audition": 3})
    assert len(result.images) == 1
    assert "auditioned:" not in result.infotexts[0]
    assert host.steps_run[-1] == 10
    assert re.search("Nothing was auditioned: every candidate was skipped$", result.comments.strip(), re.MULTILINE)


def test_a_skipped_candidate_is_told(host):
    skip(host, 1)
    generate(host, {**SETTINGS, "audition": 3})
    assert host.loaded.session.outcomes["txt2img", None].count("variant 1 was skipped") == 1
    generate(host, *ticket(host))
    assert sheets(host)["a"].notes == ["variant 1 was skipped"]


@pytest.mark.parametrize(("at", "variant"), [(0, 2), (1, 2)])
def test_a_skipped_candidate_takes_no_other_ones_score(host, at, variant):
    skip(host, at)
    with_scores(host, [0.0, 1.0])
    assert variant_of(generate(host, {**SETTINGS, "audition": 3}).infotexts[0]) == variant


def test_previews_behind_a_skipped_candidate_are_told_as_what_they_are(host):
    skip(host, 1)
    generate(host, *ticket(host), batch_size=2)
    sheet = sheets(host)["a"]
    assert [(each.image, each.seed, each.variant) for each in sheet.previews] == [
        (k, 1 + k, v) for v in (0, 2) for k in (0, 1)
    ]
    assert [variant_of(text) for text in sheet.infotexts] == [0, 0, 2, 2]


def test_a_sheet_tells_why_a_candidate_is_missing(host):
    errors = [RuntimeError("no more"), RuntimeError("no")]

    def fail():
        if errors:
            raise errors.pop()

    host.network.before = fail
    generate(host, *ticket(host))
    sheet = sheets(host)["a"]
    assert sheet.notes == [f"the noise was left as it is: RuntimeError: {text}" for text in ("no", "no more")]
    assert [each.variant for each in sheet.previews] == [variant_of(text) for text in sheet.infotexts] == [2]


def test_where_the_noise_of_the_candidates_is_left_the_image_is_made_and_told(host):
    errors = [RuntimeError("no")]

    def fail():
        if errors:
            raise errors.pop()

    host.network.before = fail
    p = processing(host, {**SETTINGS, "audition": 2})
    host.process_images(p)
    # The other candidate is judged all the same.
    assert "Noise Order auditioned" in p.extra_generation_params
    errors += [RuntimeError("no")] * 2
    p = processing(host, {**SETTINGS, "audition": 2})
    host.process_images(p)
    assert p.comments[-1] == "Noise Order: Nothing was auditioned: the noise was left as it is"
    assert "Noise Order auditioned" not in p.extra_generation_params


def test_the_upscale_button_and_adetailer_do_not_audition(host):
    for name in ("txt2img_upscale", "_ad_inner"):
        p = processing(host, {**SETTINGS, "audition": 3})
        setattr(p, name, True)
        host.process_images(p)
        assert host.steps_run == [10]
        host.steps_run.clear()


def test_a_sheet_is_the_tabs_own_generation(host):
    result = generate(host, *ticket(host), batch_size=2)
    sheet = sheets(host)["a"]
    steps = host.steps_run[0]
    assert host.steps_run == [steps] * 3
    assert (sheet.plan.preview, sheet.plan.steps, sheet.plan.sketch) == (steps, 10, 0)
    assert (sheet.images, sheet.variants) == (2, (0, 1, 2))
    assert sheet.done
    assert len(result.images) == len(sheet.previews) == 6, "and no grid"
    assert [(each.image, each.variant) for each in sheet.previews] == [(k, v) for v in range(3) for k in range(2)]
    assert [each.seed for each in sheet.previews] == [1, 2] * 3
    assert all(each.score < 0 for each in sheet.previews)
    assert sheet.infotexts == result.infotexts
    assert host.params_txt == "", "that is for images"
    assert host.cmd_opts.no_prompt_history is False
    for text, each in zip(result.infotexts, sheet.previews, strict=True):
        assert variant_of(text) == each.variant
        assert f"Seed: {each.seed}" in text
        assert "auditioned" not in text
    assert same([each.picture for each in sheet.previews], result.images)
    assert host.state.job_no == host.state.job_count == 3
    # Two evaluations for each step and for the noise, and one for the critic.
    assert sheet.cost == pytest.approx(3 * (2 * steps + 2 + 1) / (2 * 10 + 2))


def test_the_gallery_can_have_the_first_preview_alone(host):
    """None at all empties it in the hosts."""
    whole = generate(host, *ticket(host), batch_size=2)
    host.opts.data["noiseorder_previews_in_gallery"] = False
    result = generate(host, *ticket(host, id="b"), batch_size=2)
    assert same(result.images, whole.images[:1])
    assert result.infotexts == whole.infotexts[:1]
    assert result.all_seeds == [1]
    assert result.images[0].info["parameters"] == result.infotexts[0]
    sheet = sheets(host)["b"]
    assert len(sheet.previews) == 6
    assert sheet.infotexts == whole.infotexts, "programs get them all"


def test_one_image_of_a_batch(host):
    """What is refined is the chosen one: its prompt, its seed."""
    prompts = ["a cat", "a dog", "a red cat", "a blue dog"]
    batch = {"prompt": prompts, "batch_size": 2, "n_iter": 2}
    settings = {"chain": "1.2 v0"}
    p = processing(host, *ticket(host, image=2, settings=settings), **batch)
    result = host.process_images(p)
    assert (p.all_prompts, p.all_seeds, p.all_subseeds) == (["a red cat"], [3], [4]), "and nothing of the next one"
    sheet = sheets(host)["a"]
    assert host.steps_run == [host.steps_run[0]] * 3
    assert (sheet.images, sheet.notes) == (1, [])
    assert [(each.image, each.seed, each.variant) for each in sheet.previews] == [(0, 3, v) for v in range(3)]
    alone = generate(host, *ticket(host, id="b", settings=settings), prompt="a red cat", seed=3, subseed=4)
    assert same(result.images, alone.images)
    assert result.infotexts == alone.infotexts
    assert all(text.startswith("a red cat") for text in sheet.infotexts)


def test_an_image_that_the_batch_no_longer_has_is_refused(host):
    result = generate(host, *ticket(host, image=2), batch_size=2)
    sheet = sheets(host)["a"]
    assert sheet.done
    assert sheet.previews == []
    assert sheet.notes[0].startswith("the chosen preview is of image 3, and the tab makes 2 now: set Batch count and")
    assert result.images == []
    assert host.steps_run == []


def test_the_cost_without_a_negative_prompt(forge):
    generate(forge, *ticket(forge), cfg_scale=1)
    sheet = sheets(forge)["a"]
    assert sheet.cost == pytest.approx(3 * (sheet.plan.preview + 1 + 1) / (10 + 1))


def test_a_ticket_is_good_once(host):
    generate(host, *ticket(host))
    result = generate(host, *ticket(host))
    assert host.steps_run[3:] == [10]
    assert len(result.images) == 1
    generate(host, *ticket(host, id="b"))
    assert len(host.steps_run) == 4 + 3


def test_old_sheets_are_forgotten(host):
    for k in range(10):
        generate(host, *ticket(host, id=str(k), candidates=2))
    assert list(sheets(host)) == [str(k) for k in range(6, 10)]


def test_what_is_seen_is_what_the_image_shows_at_that_step(host):
    """The fakes' x̂0 is the noise and the step: guided, as the callback tells it."""
    generate(host, *ticket(host))
    for k, preview in enumerate(sheets(host)["a"].previews):
        alone = generate(host, {**SETTINGS, "variant": k})
        assert (pixels([preview.picture])[0][1:] == pixels(alone.images)[0][1:]).all()


def test_the_checkpoint_s_vae_decodes(host):
    generate(host, *ticket(host, candidates=2))
    assert host.approximations == [0, 0]
    assert sheets(host)["a"].notes == []


@pytest.mark.parametrize("black", [False, True])
def test_where_the_vae_fails_the_rest_of_the_sheet_is_approximate(host, black):
    """Half a VAE in half precision gives NaN, which is black."""
    host.black, host.vae_error = black, None if black else RuntimeError("CUDA out of memory")
    generate(host, *ticket(host, candidates=3))
    assert host.approximations == [0, None, None, None]
    assert len(sheets(host)["a"].previews) == 3
    reason = "the VAE gave a black picture" if black else "CUDA out of memory"
    assert sheets(host)["a"].notes == [f"the previews are approximate: {reason}"]


def test_live_previews_by_taesd_are_good_enough(host):
    host.opts.show_progress_type = "TAESD"
    generate(host, *ticket(host, candidates=2))
    assert host.approximations == [None, None]


def test_as_the_live_preview_by_the_cheap_one_where_its_decoder_is_missing(host):
    host.opts.data["noiseorder_preview_quality"] = "as the live preview"
    generate(host, *ticket(host, candidates=2))
    assert host.approximations == [None, None]
    host.no_decoder = True
    generate(host, *ticket(host, candidates=2, id="b"))
    assert host.approximations[2:] == [None, 2, None, 2]


def test_previews_have_the_size_of_the_image(host):
    result = generate(host, *ticket(host), width=64, height=32)
    assert {image.size for image in result.images} == {(64, 32)}
    sheet = sheets(host)["a"]
    assert sheet.size == (64, 32)
    assert {each.picture.size for each in sheet.previews} == {(8, 8)}, "kept small"


def test_hires_fix_is_left_out_and_told(host):
    p = processing(host, *ticket(host), enable_hr=True)
    host.state.job_count = 2  # the host counts a job for each pass
    host.process_images(p)
    assert host.hires_run == []
    assert p.enable_hr is True, "the infotext is to make the whole image"
    assert host.state.job_no == host.state.job_count == 3


def test_jobs_with_hires_fix(host):
    p = processing(host, {**SETTINGS, "audition": 6}, enable_hr=True, n_iter=2)
    host.state.job_count = 4
    host.process_images(p)
    assert host.hires_run == [[1], [2]]
    assert host.state.job_no == host.state.job_count == 2 * 6 + 4, "the bar ends at its end"


def test_a_preview_names_the_hires_pass_that_the_host_would_name_only_then(host):
    p = processing(host, *ticket(host), enable_hr=True)
    if not hasattr(p, "hr_upscaler"):
        host.process_images(p)
        assert not any(key.startswith("Hires") for key in p.extra_generation_params)
        return
    p.hr_sampler_name, p.hr_scheduler, p.hr_second_pass_steps = "Euler", "Automatic", 7
    host.process_images(p)
    infotext = {key: value for key, value in p.extra_generation_params.items() if key[:5] in ("Hires", "Denoi")}
    assert (infotext.pop("Hires prompt")(), infotext.pop("Hires negative prompt")()) == ("hires prompt", "")
    assert infotext == {
        "Hires sampler": "Euler",
        "Hires upscaler": "Latent",
        "Hires steps": 7,
        "Hires CFG Scale": 3.0,
        "Denoising strength": 0.5,
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"candidates": 1}, "must be from 2 to 16"),
        ({"candidates": 17}, "must be from 2 to 16"),
        ({"candidates": 2.5}, "must be a whole number from 2 to 16"),
        ({"depth": 0}, "must be a number from 0.05 to 1"),
        ({"depth": "deep"}, "must be a number from 0.05 to 1"),
    ],
)
def test_a_ticket_that_cannot_be(host, changes, reason):
    result = generate(host, *ticket(host, **changes))
    assert reason in result.comments
    assert result.images == []
    host.state.interrupted = False
    assert len(generate(host, SETTINGS).images) == 1


def test_tickets_are_told_what_is_wrong(host):
    first, *rest = ticket(host)
    cases = [
        ([False, *rest], "switch it on"),
        ([first, 1.0, *rest[1:]], "set Erase above 1"),
        ([first, 0.5, *rest[1:]], "Erase (erase) = 0.5"),
        ([*ticket(host)[:-1], "?"], "cannot be read"),
    ]
    for number, (args, reason) in enumerate(cases):
        args[-1] = args[-1].replace('"a"', f'"{number}"')
        p = processing(host, *args, batch_size=2, n_iter=2)
        result = host.process_images(p)
        assert reason in result.comments
        assert result.images == []
        assert (p.n_iter, p.batch_size, p.steps) == (1, 1, 1), "what the host still does is little"
        if reason != "cannot be read":
            sheet = sheets(host)[str(number)]
            (note,) = sheet.notes
            assert reason in note
            assert sheet.done, "the page does not wait for more"
        host.state.interrupted = False
    p = processing(host, *ticket(host, id="x"))
    p.script_args = (2, *p.script_args[1:])
    assert 'a script is chosen under "Script"' in host.process_images(p).comments


def test_interrupting_a_sheet_keeps_what_is_there(host):
    def interrupt(p):
        host.state.interrupted = p._noiseorder.candidate.variant == 1

    host.sampled = interrupt
    generate(host, *ticket(host))
    sheet = sheets(host)["a"]
    assert [each.variant for each in sheet.previews] == [0]
    assert sheet.done
    assert sheet.notes == ["interrupted"]


@pytest.mark.parametrize("depth", [0.5, 0.75, 1.0])
def test_the_estimate_is_what_is_then_run(host, depth):
    from lib_noiseorder.job import Job

    arguments = Job(10, sampler="Euler a", width=8, height=8), depth
    assert host.loaded.session.adapter.plan(*arguments) is None, "no model is loaded"
    p = processing(host, *ticket(host, depth=depth))
    host.process_images(p)
    host.model_data.sd_model = p.sd_model
    steps = host.steps_run[0]
    assert host.loaded.session.adapter.plan(*arguments) == (steps, 10, tuple(range(1, 11)), 10, 0)
    host.steps_run.clear()
    host.process_images(processing(host, *ticket(host, id="b", depth=depth), **SKETCHED))
    plan = host.loaded.session.adapter.plan(Job(20, width=8, height=8), depth)
    sketch = (tuple(range(1, 8)), 20, 7) if depth < 1 else (tuple(range(1, 21)), 20, 0)  # as dear: the image's own
    assert plan == (host.steps_run[0], 20, *sketch)


def test_the_estimate_asks_for_the_schedule_of_this_image(host, monkeypatch):
    """Some samplers' begin below pure noise, and some depend on the size."""
    from fakes import Sampler

    from lib_noiseorder.job import Job

    calls = []

    def get_sigmas(self, p, steps):
        calls.append((p.width, p.height, p.steps, p.denoising_strength))
        return torch.cat([self.table[torch.linspace(800, 0, steps).long()], torch.zeros(1)])

    monkeypatch.setattr(Sampler, "get_sigmas", get_sigmas)
    p = processing(host, *ticket(host, depth=0.7))
    host.process_images(p)
    host.model_data.sd_model = p.sd_model
    calls.clear()
    plan = host.loaded.session.adapter.plan(Job(10, sampler="Euler a", width=64, height=32), 0.7)
    assert plan[:2] == (host.steps_run[0], 10)
    assert set(calls) == {(64, 32, 10, None)}


def test_a_sampler_that_cannot_be_tried_counts_as_its_entry_says(host):
    """As the hosts' tables of samplers say it; some of them say nothing."""
    by_entry = host.schedules.by_entry
    cases = [{"second_order": True}, {"second_order": False}, {}, None]
    traces = [by_entry(type("Data", (), {"options": options})(), 3) for options in cases]
    assert [trace.calls for trace in traces] == [(1, 3, 5), (1, 2, 3), (1, 2, 3), (1, 2, 3)]
    assert [trace.total for trace in traces] == [5, 3, 3, 3]
    assert by_entry(None, 2).draws, "never sketched"


def heun(model, x, sigmas, extra_args, callback, disable, s_churn=0.0):
    """Evaluates twice but in its last step; draws noise where s_churn is set."""
    for step in range(len(sigmas) - 1):
        callback({"i": step, "denoised": model(x, sigmas[step])})
        if sigmas[step + 1] > 0:
            x = (x + model(x, sigmas[step + 1])) / 2
        if s_churn:
            x = x + torch.randn_like(x)
    return x


def corrected(model, x, sigmas, extra_args, callback, disable):
    """Evaluates once more after each step."""
    for step in range(len(sigmas) - 1):
        callback({"i": step, "denoised": model(x, sigmas[step])})
        x = (x + model(x, sigmas[step + 1])) / 2
    return x


def multistep(model, x, timesteps, extra_args, callback, disable, is_img2img=False):
    """As A1111's UniPC: one evaluation before the first step, none in the last."""
    denoised = model(x, model.inner_model.inner_model.alphas_cumprod[timesteps[0]])
    for step in range(len(timesteps)):
        if step < len(timesteps) - 1:
            denoised = model(x, timesteps[step])
        callback({"i": step, "denoised": denoised})
    return x + denoised


def lcm(model, x, sigmas, extra_args, callback, disable, noise_sampler=None):
    """Draws from what it is given, which else would be a tree of Brownian motion."""
    for step in range(len(sigmas) - 1):
        callback({"i": step, "denoised": model(x, sigmas[step])})
        x = x + noise_sampler(sigmas[step], sigmas[step + 1])
    return x


@pytest.mark.parametrize(
    ("func", "options", "calls", "total", "draws"),
    [
        (heun, {}, (1, 3, 5), 5, False),
        (heun, {"s_churn": 1.0}, (1, 3, 5), 5, True),
        (corrected, {}, (1, 3, 5), 6, False),
        (multistep, {}, (2, 3, 3), 3, False),
        (lcm, {}, (1, 2, 3), 3, True),
    ],
    ids=["heun", "churning", "corrected", "multistep", "lcm"],
)
def test_a_sampler_is_tried_with_a_model_that_costs_nothing(host, func, options, calls, total, draws):
    p = host.processing(["a"], [""], [1], denoising_strength=None, **{})
    for name, value in options.items():
        setattr(p, name, value)
    before = torch.get_rng_state()
    sampler = type("Tried", (), {"func": staticmethod(func), "extra_params": ["s_churn"]})()
    run = torch.tensor([3, 2, 1]) if func is multistep else torch.tensor([3.0, 2.0, 1.0, 0.0])
    found = host.schedules.trace(sampler, p, run, host.sigmas)
    assert (found.calls, found.total, found.draws) == (calls, total, draws)
    assert torch.equal(torch.get_rng_state(), before)
    assert host.network.rows == 0


@pytest.mark.parametrize(
    ("job", "sketch"),
    [
        ({"steps": 20}, (4, 7)),
        ({"steps": 50}, (4, 7)),
        ({"steps": 30, "img2img": True, "strength": 0.75}, (4, 9)),
        ({"steps": 10}, (4, 0)),
        ({"steps": 7}, (3, 0)),
        ({"steps": 20, "img2img": True, "strength": 0.5}, (None, 0)),
    ],
    ids=str,
)
def test_a_sketch_has_few_steps_whatever_the_image_has(host, job, sketch):
    """None where the image's own first steps are as cheap."""
    from lib_noiseorder.job import Job

    host.model_data.sd_model = host.model(host.processing([], [], []))
    plan = host.loaded.session.estimate(Job(**job), 0.75)
    if type(host).__name__ != "Ersatz" or not job.get("img2img"):  # its img2img has a step less
        assert plan.sketch == sketch[1]
        assert sketch[0] in (plan.preview, None)
    if plan.sketch:
        own = host.loaded.session.adapter.plan(Job(**job), 0.75, False)
        assert plan.preview_cost < own.preview_cost


def test_a_sketch_of_a_distilled_model_goes_as_deep_as_others(host):
    from lib_noiseorder.job import Job

    def estimate():
        host.model_data.sd_model = host.model(host.processing([], [], []))
        return host.loaded.session.estimate(Job(20), 0.86)

    ordinary = estimate()
    assert ordinary.sketch
    host.checkpoint = "fast-turbo.safetensors"
    assert estimate() == ordinary
    assert host.loaded.session.adapter.family() == "distilled"
    host.process_images(processing(host, *ticket(host, depth=0.86), **SKETCHED))
    assert host.steps_run == [ordinary.preview] * 3


@pytest.mark.parametrize(
    "name", ["k_diffusion.sampling", "k_diff.k_diffusion.sampling", "ldm_patched.k_diffusion.sampling"]
)
def test_the_hosts_own_torch_is_put_back(host, monkeypatch, name):
    """A1111's draws from the numbers of the last generation, which may be the one that goes on."""
    import sys
    import types

    class Hijack:
        def randn_like(self, x):
            raise AssertionError("its numbers are the image's")

    module = types.SimpleNamespace(torch=Hijack())
    monkeypatch.setitem(sys.modules, name, module)
    hijack = module.torch

    def euler(model, x, sigmas, extra_args, callback, disable):
        callback({"i": 0, "denoised": model(x, sigmas[0])})
        return x + module.torch.randn_like(x)

    sampler = type("Tried", (), {"func": staticmethod(euler)})()
    assert host.schedules.trace(sampler, None, torch.tensor([1.0, 0.0]), host.sigmas).draws
    assert module.torch is hijack


def test_nothing_is_estimated_while_the_host_samples(host):
    """What is tried puts k-diffusion's torch aside, which the sampler that runs may need."""
    import sys

    from lib_noiseorder.job import Job

    session = host.loaded.session
    host.model_data.sd_model = host.model(host.processing([], [], []))
    lock = sys.modules["modules.call_queue"].queue_lock
    assert session.estimate(Job(10, sampler="Euler a"), 0.75) is not None
    with lock:
        assert session.estimate(Job(10), 0.75) is None
    assert session.estimate(Job(20), 0.75).sketch == 7
    lock.acquire()
    threading.Timer(0.05, lock.release).start()
    assert session.estimate(Job(20), 0.75).sketch == 7, "the other tab of a page asks at the same time"
    host.opts.data["noiseorder_sketches"] = False
    assert session.estimate(Job(20), 0.75).sketch == 0


@pytest.mark.parametrize("hires", [False, True])
def test_a_sketch_is_a_coarser_run_of_which_nothing_stays(host, hires):
    """What counts in fractions of the steps sees its own; afterwards they are the image's again."""
    seen = []

    def look(p):
        generation = p._noiseorder
        seen.append((generation.candidate is not None, p.steps, p.enable_hr))

    host.sampled = look
    torch.manual_seed(0)
    p = processing(host, {**SETTINGS, "audition": 3}, **SKETCHED, enable_hr=hires)
    result = host.process_images(p)
    assert seen == [(True, 7, False)] * 3 + [(False, 20, hires)]
    assert host.steps_run[:4] == [4, 4, 4, 20]
    assert p.steps == 20
    variant = variant_of(result.infotexts[0])
    alone = generate(host, {**SETTINGS, "variant": variant}, **SKETCHED, enable_hr=hires)
    assert same(result.images, alone.images)


def test_a_sheet_of_sketches_says_so(host):
    generate(host, *ticket(host), **SKETCHED)
    sheet = sheets(host)["a"]
    assert sheet.told.startswith("3 candidates at step 4 of a sketch of 7 steps: ")
    assert sheet.cost == pytest.approx(3 * (2 * 4 + 2 + 1) / (2 * 20 + 2))


def test_after_an_error_in_a_sketch_the_steps_are_the_image_s(host):
    def fail(p):
        if p._noiseorder.candidate is not None:
            raise ValueError("no")

    host.sampled = fail
    p = processing(host, {**SETTINGS, "audition": 3}, **SKETCHED)
    host.process_images(p)
    assert p.steps == 20
    assert host.steps_run == [20]


@pytest.mark.parametrize("prompts", [{"prompt": "[a:b:.5]"}, {"negative_prompt": "[a:b:.5]"}])
def test_a_prompt_that_changes_with_the_steps_is_shown_at_the_image_s_own(host, prompts):
    generate(host, {**SETTINGS, "audition": 2}, **SKETCHED, **prompts)
    assert host.steps_run == [6, 6, 20]


def test_the_estimate_of_img2img_begins_where_it_does(host):
    from lib_noiseorder.job import Job

    host.model_data.sd_model = host.model(processing(host, False))
    job = Job(10, sampler="Euler a", strength=0.5, width=8, height=8)
    steps, of, calls, total, _ = host.loaded.session.adapter.plan(job, 0.75)
    assert of == {"Ersatz": 10}.get(type(host).__name__, 6)
    assert (calls, total) == (tuple(range(1, of + 1)), of)
    assert 1 < steps < of


@pytest.mark.parametrize("args", [[{**SETTINGS, "audition": 3, "passes": "hires"}], None])
def test_the_first_pass_has_to_be_ours(host, args):
    if args is None:
        args = ticket(host)
        args[12] = "hires"
    p = processing(host, *args, enable_hr=True)
    host.process_images(p)
    assert any('set it to "first" or "both"' in text for text in p.comments)
    assert host.steps_run == [10] * (len(args) == 1)


def test_img2img_has_one_pass(host):
    """There is no hires fix there, whatever the settings say."""
    host.script.is_img2img = True
    result = generate(host, {**SETTINGS, "audition": 2, "passes": "hires"})
    assert "Noise Order auditioned: 2" in result.infotexts[0]


def test_no_inspector_and_nothing_beside_a_sheet(host):
    host.opts.data["noiseorder_inspector"] = True
    args = ticket(host)
    args[14] = True
    generate(host, *args)
    assert len(host.steps_run) == 3
    assert host.loaded.session.inspections.last == {}


def test_infotexts_that_another_script_took_away_are_missing(a1111):
    p = processing(a1111, *ticket(a1111), batch_size=2)
    postprocess = a1111.script.postprocess

    def without_the_last(p, result, *args):
        del result.infotexts[1:]
        postprocess(p, result, *args)

    a1111.script.postprocess = without_the_last
    a1111.process_images(p)
    sheet = sheets(a1111)["a"]
    assert [text is None for text in sheet.infotexts] == [preview.image == 1 for preview in sheet.previews]


def test_stopping_after_this_batch_keeps_it(host):
    def stop(p):
        host.state.stopping_generation = True

    host.sampled = stop
    generate(host, *ticket(host), n_iter=2)
    sheet = sheets(host)["a"]
    assert [(each.image, each.variant) for each in sheet.previews] == [(0, 0)], (
        "AUTOMATIC1111's Interrupt, as it is set"
    )
    assert sheet.notes == ["interrupted"]
    host.state.stopping_generation = False
    # The image that was asked for is made whole, as the host does, and by its best candidate.
    host.steps_run.clear()
    result = generate(host, {**SETTINGS, "audition": 3}, n_iter=2)
    assert "Noise Order auditioned: 3" in result.infotexts[0]
    assert len(result.infotexts) == 1


def test_a_failure_before_the_first_step_leaves_the_hosts_history_alone(host):
    def fail(*call):
        raise RuntimeError("no")

    original = host.process_before_every_sampling
    for args in ([{**SETTINGS, "audition": 3}], ticket(host)):
        host.process_before_every_sampling = fail
        with pytest.raises(RuntimeError, match="no"):
            generate(host, *args)
        host.process_before_every_sampling = original
        result = generate(host, SETTINGS)
        assert host.cmd_opts.no_prompt_history is False
        assert host.params_txt == result.infotexts[0]


def test_a_webui_that_is_not_supported_makes_no_candidates(host):
    host.loaded.session.adapter = None
    result = generate(host, *ticket(host))
    assert "not supported" in result.comments
    assert host.steps_run == []


def draw_prompts(host, monkeypatch, word):
    """A script that writes prompts of its own in `process`, as Dynamic Prompts does; it may come before or after us."""
    process = host.script.process

    def drawing(p, *args):
        p.all_prompts = [f"{text} {word(k)}" for k, text in enumerate(p.all_prompts)]
        process(p, *args)

    monkeypatch.setattr(host.script, "process", drawing, raising=False)


def test_prompts_drawn_at_random_are_the_images(host, monkeypatch):
    """They are drawn once: candidates are runs of the batch itself."""
    words = iter(range(100))
    draw_prompts(host, monkeypatch, lambda k: next(words))
    result = generate(host, {**SETTINGS, "audition": 2}, batch_size=2, do_not_save_grid=True)
    assert [text.splitlines()[0] for text in result.infotexts] == ["a cat 0", "a cat 1"]
    assert all("Noise Order auditioned: 2" in text for text in result.infotexts)
    generate(host, *ticket(host), batch_size=2)
    sheet = sheets(host)["a"]
    assert [text.splitlines()[0] for text in sheet.infotexts] == ["a cat 2", "a cat 3"] * 3
    assert sheet.notes == []


def test_one_processing_object_makes_one_sheet(host):
    """The Batch tab of img2img sends one through the host for every file of a folder."""
    p = processing(host, *ticket(host))
    host.process_images(p)
    sheet = sheets(host)["a"]
    assert (len(sheet.previews), sheet.done) == (3, True)
    host.steps_run.clear()
    # With "PNG info" it also sets the seed and the prompt of each file.
    p.seed, p.prompt, p.all_prompts = 99, "a dog", None
    result = host.process_images(p)
    assert host.steps_run == []
    assert result.images == []
    assert "an audition makes one sheet" in result.comments
    assert (len(sheet.previews), sheet.done) == (3, True)


def test_one_processing_object_auditions_itself_each_time(host):
    """Of the seed and the prompt it has then, as the Batch tab sets them by "PNG info"; nothing of a run is left."""
    p = processing(host, {**SETTINGS, "audition": 2}, batch_size=2, do_not_save_grid=True)
    with_scores(host, [1, 0, 0, 1, 0, 1])
    for seed, prompt, size, winners in ((1, "a cat", 2, [0, 1]), (99, "a dog", 1, [1])):
        p.seed, p.prompt, p.all_prompts, p.batch_size = seed, prompt, None, size
        host.steps_run.clear()
        host.state.job_no, host.state.job_count = 0, 1
        result = host.process_images(p)
        assert len(host.steps_run) == 3
        assert host.state.job_no == host.state.job_count == 3
        assert [variant_of(text) for text in result.infotexts] == winners
        told = f"Went on with variant {', '.join(map(str, winners))}, best of 2"
        assert host.loaded.session.outcomes["txt2img", None].endswith(told)
        for k, winner in enumerate(winners):
            alone = generate(host, {**SETTINGS, "variant": winner}, seed=seed + k, prompt=prompt)
            assert result.infotexts[k].startswith(prompt)
            assert (pixels(result.images)[k].ravel()[3:] == pixels(alone.images)[0].ravel()[3:]).all()


def test_a_batch_that_the_host_makes_smaller(host):
    """img2img with fewer images to start from than the batch size: `init` sets the batch size to their number."""
    result = generate(host, {**SETTINGS, "audition": 3}, batch_size=4, init_images=2, do_not_save_grid=True)
    assert len(result.infotexts) == 2
    for k, text in enumerate(result.infotexts):
        alone = generate(host, {**SETTINGS, "audition": 3}, seed=1 + k)
        assert variant_of(text) == variant_of(alone.infotexts[0])
    generate(host, *ticket(host), batch_size=4, init_images=2)
    assert [(each.image, each.seed, each.variant) for each in sheets(host)["a"].previews] == [
        (k, 1 + k, variant) for variant in range(3) for k in range(2)
    ]


def test_a_last_batch_that_is_not_full(host):
    """Prompt matrix asks for as many prompts as there are, whatever the batch size."""
    with_scores(host, [0, 0, 0, 1, 1, 1, 0, 1])
    prompts = ["a", "b", "c", "d"]
    result = generate(host, {**SETTINGS, "audition": 2}, batch_size=3, n_iter=2, all_prompts=prompts)
    assert [variant_of(text) for text in result.infotexts[1:]] == [1, 1, 1, 1]
    assert len(host.steps_run) == 2 * 3
    generate(host, *ticket(host, candidates=2), batch_size=3, n_iter=2, all_prompts=prompts)
    assert sheets(host)["a"].images == 4
    assert [each.image for each in sheets(host)["a"].previews] == [0, 1, 2, 0, 1, 2, 3, 3]


def test_a_grid_names_the_first_image(host):
    with_scores(host, [0, 1, 1, 0])
    result = generate(host, {**SETTINGS, "audition": 2}, n_iter=2)
    assert [variant_of(text) for text in result.infotexts] == [1, 1, 0], "the grid, and the images"
    (_, saved), *_ = host.saved_grids
    assert (variant_of(saved["info"]), "Seed: 1," in saved["info"]) == (1, True)


def test_an_error_of_one_batch_is_told_of_its_image_alone(host):
    errors = [RuntimeError("no")]

    def fail():
        if errors:
            raise errors.pop()

    host.network.before = fail
    result = generate(host, SETTINGS, n_iter=2)
    assert ["Noise Order error" in text for text in result.infotexts] == [True, True, False]
    assert ["Noise Order erase" in text for text in result.infotexts] == [False, False, True]


@pytest.mark.parametrize(("job", "steps"), [({}, {10}), (SKETCHED, {7, 20})], ids=["image", "sketch"])
def test_others_reckon_with_the_steps_of_the_image(host, job, steps):
    """FreeU, ControlNet and others read `state.sampling_steps`; their windows are those of the image, or those of a
    whole sketch."""
    seen = []
    sampler = __import__("fakes").Sampler
    original = sampler.sample

    def sample(self, p, noise):
        step = self.callback_state

        def look(values):
            seen.append(host.state.sampling_steps)
            step(values)

        self.callback_state = look
        return original(self, p, noise)

    host.monkeypatch.setattr(sampler, "sample", sample)
    generate(host, {**SETTINGS, "audition": 2}, **job)
    assert set(seen) == steps


def test_another_extension_that_wraps_sample(host, monkeypatch):
    """NAG does, before us or after."""
    expected = generate(host, {**SETTINGS, "audition": 3})
    calls = []
    for first in (True, False):
        process_batch = host.script.process_batch

        def wrap(p, first=first):
            inner = p.sample

            def sample(**arguments):
                calls.append(first)
                return inner(**arguments)

            p.sample = sample

        def both(p, *args, first=first, ours=process_batch, wrap=wrap, **kwargs):
            if first:
                wrap(p)
            ours(p, *args, **kwargs)
            if not first:
                wrap(p)

        monkeypatch.setattr(host.script, "process_batch", both, raising=False)
        assert same(generate(host, {**SETTINGS, "audition": 3}).images, expected.images)
        monkeypatch.setattr(host.script, "process_batch", process_batch, raising=False)
    assert calls == [True] * 4 + [False]


def test_a_script_that_makes_one_image_of_several(host):
    """SD upscale: every tile would choose a variant of its own, and one infotext speaks of all."""
    script = type("Upscale", (), {"filename": "/webui/scripts/sd_upscale.py", "title": lambda self: "SD upscale"})()
    scripts = type("Runner", (), {"selectable_scripts": [script], "alwayson_scripts": []})()
    for args in ([{**SETTINGS, "audition": 3}], ticket(host)):
        p = processing(host, *args, scripts=scripts, do_not_save_samples=True)
        p.script_args = (1, *p.script_args[1:])
        host.steps_run.clear()
        result = host.process_images(p)
        assert host.steps_run == [10] * (len(args) == 1)
        assert ("SD upscale" in result.comments) is (len(args) == 1)
        assert "auditioned" not in "".join(result.infotexts)


@pytest.mark.parametrize(
    ("name", "saved", "auditions"),
    [
        *(
            (name, saved, True)
            for name in ("prompt_matrix", "prompts_from_file", "loopback")
            for saved in (True, False)
        ),
        ("another", True, True),
        ("another", False, False),
    ],
)
def test_a_script_that_makes_whole_images(host, name, saved, auditions):
    """A request to the API need not have them saved; of another script one cannot know then."""
    script = type("Script", (), {"filename": f"/webui/scripts/{name}.py", "title": lambda self: name})()
    scripts = type("Runner", (), {"selectable_scripts": [script], "alwayson_scripts": []})()
    p = processing(host, {**SETTINGS, "audition": 3}, scripts=scripts, do_not_save_samples=not saved)
    p.script_args = (1, *p.script_args[1:])
    assert ("auditioned: 3" in host.process_images(p).infotexts[0]) is auditions


def test_a_refiner_that_takes_over_before_the_preview(host):
    switches = {"refiner_checkpoint_info": object(), "refiner_switch_at": 0.2}
    result = generate(host, {**SETTINGS, "audition": 3}, **switches)
    assert host.steps_run == [1, 10], "nothing is spent on the other candidates"
    assert "auditioned: 3" not in result.infotexts[0]
    host.steps_run.clear()
    generate(host, *ticket(host), n_iter=3, **switches)
    assert host.steps_run == [1]
    assert "the refiner takes over before the preview" in sheets(host)["a"].notes[0]
    host.state.interrupted = False
    later = generate(host, {**SETTINGS, "audition": 3}, refiner_checkpoint_info=object(), refiner_switch_at=0.9)
    assert "auditioned: 3" in later.infotexts[0]


def test_the_critic_is_asked_with_the_prompt_of_the_previews_step(host):
    """ "[cat:dog:.5]" changes at step 2 of the fakes."""
    from fakes import encode

    generate(host, {**SETTINGS, "inject": 0.0, "audition": 2}, prompt="[cat:dog:.5]")
    asked = [cond.flatten()[0].item() for _, _, cond in host.network.inputs]
    assert asked == [encode("dog").flatten()[0].item()] * 2


def test_what_a_sheet_leaves_out_is_told_in_its_infotexts(host):
    host.opts.face_restoration_model = "GFPGAN"
    p, left_out = processing(host, *ticket(host), restore_faces=True), []
    post_sample = host.script.post_sample

    def look(p, *args):
        """After this the host would restore the faces, and ADetailer would find them."""
        left_out.append((p.restore_faces, getattr(p, "_ad_disabled", False), p.do_not_save_samples))
        post_sample(p, *args)

    host.monkeypatch.setattr(host.script, "post_sample", look, raising=False)
    host.process_images(p)
    assert left_out == [(False, True, True)]
    assert all("Face restoration: GFPGAN" in text for text in sheets(host)["a"].infotexts)
    assert p.restore_faces is True
    assert host.restored == []
    assert not hasattr(p, "_ad_disabled")


@pytest.mark.parametrize(("steps", "strength"), [(20, 0.04), (2, 0.4), (4, 0.2)])
def test_a_single_step_around_an_image(host, steps, strength):
    """It can begin at the very end of the table, and is what there is to preview."""
    from lib_noiseorder.job import Job

    batch = adapter(host, latent=0.3, steps=steps, denoising_strength=strength)
    indices = batch.schedule.indices
    if type(host).__name__ == "Ersatz":  # its img2img runs the steps that were asked for
        assert len(indices) == steps
        return
    assert indices == (0,)
    assert batch.schedule.preview_steps(0.75) == 1
    host.model_data.sd_model = batch.p.sd_model
    for sampler in ("Euler", "Euler a"):
        job = Job(steps, sampler=sampler, strength=strength, width=8, height=8, img2img=True)
        assert host.loaded.session.adapter.plan(job, 0.75) == (1, 1, (1,), 1, 0)


def test_a_critic_of_ones_own(host):
    """Set by the function for it, or as versions before 0.8 had it."""
    from lib_noiseorder.session import set_critic

    set_critic(lambda denoised, batch: [-batch.rows] * len(denoised))
    assert variant_of(generate(host, {**SETTINGS, "audition": 2}).infotexts[0]) == 0
    scores = iter([0.0, 1.0])
    audition_of(host).critic = lambda denoised, batch: [next(scores)]
    assert variant_of(generate(host, {**SETTINGS, "audition": 2}).infotexts[0]) == 1


@pytest.mark.parametrize("choice", ["stop", "continue"])
def test_a_setting_that_a_request_overrides(host, choice):
    """The hosts set it after `before_process`."""
    override = {"noiseorder_on_failure": choice}
    result = generate(host, {**SETTINGS, "erase": 99}, n_iter=2, override_settings=override, do_not_save_grid=True)
    assert len(result.images) == {"stop": 1, "continue": 2}[choice]


def test_interrupting_a_sheet_while_the_model_is_evaluated(host):
    host.network.before = lambda: setattr(host.state, "interrupted", True)
    result = generate(host, *ticket(host))
    sheet = sheets(host)["a"]
    assert (sheet.notes, sheet.previews, sheet.done) == (["interrupted"], [], True)
    assert result.images == []


def test_a_picture_becomes_the_numbers_a_host_makes_it_of_again(a1111):
    """The hosts cut off what is behind the point: (x + 1) / 2 · 255, as A1111 has it, in float32."""
    from PIL import Image

    picture = Image.new("RGB", (256, 1))
    picture.putdata([(k, 255 - k, k) for k in range(256)])
    latent = audition_of(a1111).as_tensor(picture)
    assert latent.shape == (3, 1, 256)
    again = (torch.clamp((latent + 1) / 2, 0, 1).mul(255)).to(torch.uint8)
    assert again[0, 0].tolist() == list(range(256))
    assert again[1, 0].tolist() == list(range(255, -1, -1))
    assert latent[0, 0, [0, 255]].tolist() == pytest.approx([-1, 1], abs=0.01)


def test_what_candidates_wrote_into_the_infotext_is_taken_out(a1111):
    params = {"Theirs": 2, "New": 1, "Noise Order variant": 5}
    audition_of(a1111).restore(params, {"Theirs": 1, "Gone": 3, "Noise Order variant": 0})
    assert params == {"Theirs": 1, "Gone": 3, "Noise Order variant": 5}


def test_a_sheet_s_first_preview_is_the_first_image_of_the_result(a1111):
    """Whatever stood before it, as a grid does."""
    from PIL import Image

    from lib_noiseorder.generation import children

    of_sheet = types.SimpleNamespace(
        previews=[types.SimpleNamespace(picture=Image.new("RGB", (8, 8)), image=0)], infotexts=["a"], size=(8, 8)
    )
    lists = {name: [1] for name in children.LISTS}
    processed = types.SimpleNamespace(images=[None, None], infotexts=["grid", "a"], index_of_first_image=1, **lists)
    children.replace_images(processed, of_sheet, 1)
    assert (len(processed.images), processed.infotexts, processed.index_of_first_image) == (1, ["a"], 0)


def test_a_host_without_schedulers_has_the_automatic_one(a1111):
    jobs = []
    adapter = a1111.loaded.session.adapter
    a1111.monkeypatch.setattr(adapter, "plan", classmethod(lambda cls, job, *rest: jobs.append(job)))
    p = processing(a1111, *ticket(a1111))
    assert not hasattr(p, "scheduler")
    a1111.process_images(p)
    assert {job.scheduler for job in jobs} == {"Automatic"}


@pytest.mark.parametrize(("audition", "n_iter"), [(3, 1), (3, 2), (2, 2)])
def test_the_progress_bar_names_each_candidate(a1111, audition, n_iter):
    seen = []
    sample = a1111.sampled
    a1111.monkeypatch.setattr(a1111, "sampled", lambda p: (seen.append(a1111.state.textinfo), sample(p)))
    generate(a1111, {**SETTINGS, "audition": audition}, n_iter=n_iter)
    told = [text for text in seen if text and "candidate" in text]
    assert told == [f"Noise Order: candidate {k + 1} of {audition}" for k in range(audition)] * n_iter


@pytest.mark.parametrize(
    ("engine", "key"),
    [
        ({"use_shift": True}, "Hires Shift"),
        ({"use_distilled_cfg_scale": True}, "Hires Distilled CFG Scale"),
        ({}, None),
    ],
)
def test_the_shift_and_distilled_cfg_of_neo_s_hires_pass_are_named(neo, engine, key):
    p = processing(neo, hr_cfg=3.0)
    p.sd_model = types.SimpleNamespace(**engine)
    names = ("hr_sampler_name", "hr_scheduler", "scheduler", "hr_upscaler", "get_hr_prompt", "get_hr_negative_prompt")
    vars(p).update(dict.fromkeys(names), hr_distilled_cfg=9.0)
    told = neo.loaded.session.adapter.hires_infotext(p)
    assert {name: value for name, value in told.items() if value == 9.0} == ({key: 9.0} if key else {})


@pytest.mark.parametrize(
    ("checkpoint", "at", "switch"),
    [(None, 0.5, None), ("r", None, None), ("r", 0.5, 0.5), ("r", 1, None), ("r", 1.5, None)],
)
def test_a_refiner_that_takes_over_at_the_end_is_none(a1111, checkpoint, at, switch):
    p = processing(a1111, refiner_checkpoint_info=checkpoint, refiner_switch_at=at)
    assert audition_of(a1111).refiner_switch(p) == switch


def test_the_sampler_that_img2img_keeps_has_nothing_of_ours_afterwards(a1111):
    a1111.fresh_sampler, a1111.script.is_img2img = False, True
    samplers = []
    a1111.monkeypatch.setattr(a1111, "sampled", lambda p: samplers.append(p.sampler))
    for settings in ({**SETTINGS, "audition": 3}, SETTINGS):
        generate(a1111, settings)
    first, second = samplers[0], samplers[-1]
    assert [each is first for each in samplers] == [True] * 4 + [False], "one for all that is made of a request"
    assert set(vars(first)) == set(vars(second))


@pytest.mark.parametrize("count", [1, 3])
def test_a_critic_that_gives_too_few_or_too_many_scores_has_failed(a1111, count):
    audition_of(a1111).critic = lambda denoised, batch: [1.0] * count
    result = generate(a1111, {**SETTINGS, "audition": 3}, batch_size=2)
    reason = f"ValueError: the critic gave {count} scores for 2 images"
    assert f"The critic failed. {reason}" in result.comments
    generate(a1111, *ticket(a1111), batch_size=2)
    assert sheets(a1111)["a"].notes == [f"the critic failed: {reason}"]


@pytest.mark.parametrize("sheet", [True, False])
def test_the_progress_bar_moves_on_with_each_candidate(a1111, sheet):
    seen = []
    a1111.monkeypatch.setattr(a1111, "sampled", lambda p: seen.append(a1111.state.job_no))
    generate(a1111, *(ticket(a1111) if sheet else [{**SETTINGS, "audition": 3}]))
    assert seen == list(range(3 if sheet else 4))
    assert a1111.state.job_no == a1111.state.job_count == len(seen)


@pytest.mark.parametrize(("strength", "told"), [(None, False), (0.5, True)])
def test_a_sampler_is_told_whether_it_starts_from_an_image(a1111, strength, told):
    """A1111's UniPC asks; `p.denoising_strength` is how the host tells."""
    seen = []

    def unipc(model, x, timesteps, extra_args, callback, disable, is_img2img=None):
        seen.append(is_img2img)
        callback({"i": 0, "denoised": model(x, timesteps[0])})
        return x

    p = a1111.processing(["a"], [""], [1], denoising_strength=strength)
    sampler = type("Tried", (), {"func": staticmethod(unipc)})()
    a1111.schedules.trace(sampler, p, torch.tensor([3, 2]), a1111.sigmas)
    assert set(seen) == {told}


def test_skipped_while_the_critic_is_asked(a1111):
    def critic(denoised, batch):
        a1111.state.skipped = not seen
        seen.append(1)
        return [1.0] * len(denoised)

    seen = []
    audition_of(a1111).critic = critic
    result = generate(a1111, {**SETTINGS, "audition": 3})
    assert variant_of(result.infotexts[0]) == 1, "the first one is left out, the others are alike"


def test_why_the_vae_failed_is_told_in_so_many_characters(a1111):
    a1111.vae_error = RuntimeError("x" * 300)
    generate(a1111, *ticket(a1111))
    assert sheets(a1111)["a"].notes == [f"the previews are approximate: {'x' * 200}"]


def test_after_a_refused_audition_the_host_makes_no_grid(a1111):
    p = processing(a1111, *ticket(a1111, candidates=99))
    a1111.process_images(p)
    assert p.do_not_save_grid is True
    assert (p.n_iter, p.batch_size, p.steps) == (1, 1, 1)


@pytest.mark.parametrize(("checkpoint", "preview"), [("fast-turbo.safetensors", 1), ("plain.safetensors", None)])
def test_of_few_steps_a_distilled_model_shows_its_first(a1111, checkpoint, preview):
    from lib_noiseorder.job import Job

    a1111.checkpoint = checkpoint
    a1111.model_data.sd_model = a1111.model(a1111.processing([], [], []))
    plan = a1111.loaded.session.estimate(Job(6), 0.75)
    generate(a1111, *ticket(a1111), steps=6)
    assert a1111.steps_run == [plan.preview] * 3
    assert (plan.preview == 1) is (preview == 1)


def test_what_stands_in_a_prompt_is_no_setting(a1111):
    prompt = "a cat, Noise Order variant: 9"
    text = f"{prompt}\nSteps: 4, Noise Order variant: 0, Seed: 1"
    told = audition_of(a1111).with_settings(text, {"variant": 3})
    assert told == f"{prompt}\nSteps: 4, Noise Order variant: 3, Seed: 1"


def test_the_critic_is_at_the_previews_own_step(a1111):
    steps = []

    def critic(denoised, batch):
        steps.append(batch.step)
        return [1.0] * len(denoised)

    audition_of(a1111).critic = critic
    generate(a1111, {**SETTINGS, "audition": 3})
    assert steps == [a1111.steps_run[0] - 1] * 3


def test_what_was_done_is_told_in_its_own_tab(a1111):
    a1111.script.is_img2img = True
    generate(a1111, SETTINGS)
    assert list(a1111.loaded.session.outcomes) == [("img2img", None)]
