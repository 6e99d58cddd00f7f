"""What each noise would become: the candidates of a batch after the sampler's first steps, and the choice among them.

Candidates are further runs of the batch's own `p.sample`, before the image's and ended early, each with the same random
numbers. No script's `process` runs again, prompts and conditionings are the image's, and afterwards everything is as it
was. Either the previews are what the user asked for (a request of the page, webui/sheet.py), or each image goes on with
its best variant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from modules import devices, processing, sd_samplers_common, shared
from PIL import Image
from torch import Tensor

from .. import log
from ..config import BY_NAME
from ..core import Critic, Interrupted, Unsupported
from ..core.schedule import DEPTH
from ..core.streams import global_generators, set_global_generators
from ..hosts.isolation import preserved
from ..job import Job, Plan
from ..presets import DISTILLED
from ..webui import infotext, sheet
from ..webui.cost import cost_in_images, injection, rows
from ..webui.options import ERRORS, GOOD
from ..webui.sheet import Sheet
from . import children

if TYPE_CHECKING:
    from .generation import Generation

ONE_STEP = Plan(1, 1)
FULL, CHEAP = 0, 2
"""The hosts' numbers for ways to decode a latent: by the VAE, and by a fixed linear map."""
MISSING = object()
"""Of what a host's p does not have."""


@dataclass
class Candidate:
    """One run of the batch with one variant of the noise.

    denoiser: of this batch, None until its noise is written; denoised: the x̂0 at which the sampler was ended.
    """

    audition: Audition
    variant: int
    plan: Plan = ONE_STEP
    denoiser: Any = None
    denoised: Tensor | None = None
    refusal: str = ""

    def begin(self, p: Any, denoiser: Any) -> None:
        """The noise is written: plan where the preview is."""
        try:
            schedule, planned = denoiser.schedule, self.audition.plan
            distilled = denoiser.family() == DISTILLED
            preview = schedule.preview_steps(self.audition.depth, distilled, bool(planned.sketch))
            switch = refiner_switch(p)
            if switch is not None and preview > switch * schedule.told:
                raise Unsupported(
                    "the refiner takes over before the preview: switch it later, or set Preview at higher"
                )
        except Exception as error:
            # Ended after the first step, nothing is shown and nothing chosen: whole candidates would cost too much.
            self.refuse(str(error) if isinstance(error, Unsupported) else f"{type(error).__name__}: {error}")
            self.audition.hopeless = True
            return
        self.denoiser = denoiser
        self.plan = planned._replace(preview=preview, steps=planned.steps if planned.sketch else schedule.told)
        self.audition.planned(self)

    def refuse(self, reason: str) -> None:
        """The noise of this candidate is as it was, or nothing can be seen of it."""
        self.refusal, self.denoiser = " ".join(reason.split()), None

    def end(self, sampler: Any) -> None:
        """End the sampler once it has evaluated the model in the preview's last step; keep the guided x̂0 it got there.

        Its own `stop_at` does the same, but ersatzForge has none, and AUTOMATIC1111 then gives the x̂0 of the prompt
        alone. `state.sampling_steps` stays the image's: FreeU, ControlNet and others reckon their windows by it.
        """

        def look(state: dict[str, Any]) -> None:
            if state["i"] >= self.plan.preview - 1:
                self.denoised = state.get("denoised")
                raise sd_samplers_common.InterruptedException
            # Looked up only now: ReSharpen puts its own there, after our hook.
            type(sampler).callback_state(sampler, state)

        sampler.callback_state = look


@dataclass
class Shown:
    """The candidates of one batch that were sampled: their scores and, for a sheet, their pictures, by variant."""

    pictures: dict[int, list[Image.Image]] = field(default_factory=dict)
    scores: dict[int, list[float | None]] = field(default_factory=dict)


class Audition:
    """The candidates of a generation.

    contact_sheet: where the previews go that the user asked for; None where each image goes on with its best variant.
    """

    def __init__(self, generation: Generation, contact_sheet: Sheet | None) -> None:
        self.generation, self.sheet = generation, contact_sheet
        self.count = contact_sheet.candidates if contact_sheet is not None else generation.config.audition
        self.depth = contact_sheet.depth if contact_sheet is not None else DEPTH
        self.scored = contact_sheet is None or contact_sheet.scored
        self.plan = ONE_STEP
        self.notes: list[str] = []
        self.cost = 0.0
        self.kept: dict[str, Any] = {}
        self.begun = self.hopeless = self.is_approximate = False

    @property
    def variants(self) -> range:
        first = self.generation.config.first_variant
        return range(first, first + self.count)

    def before_batch(self, p: Any) -> None:
        """Hook `process_batch`: put the candidates into the host's `p.sample`, once, for this batch.

        Other extensions (NAG) put something there as well, before or after; each calls the one that was there.
        """
        state = shared.state
        if not self.begun:
            self.begun = True
            # After `init`, which doubles the count for hires fix; a sheet has no hires pass and no image of its own.
            runs = p.n_iter * self.count
            if self.sheet is not None:
                runs -= p.n_iter * (2 if getattr(p, "enable_hr", False) else 1)
                # The last batch need not be full, and img2img can have fewer images than were asked for.
                self.sheet.images = min(p.n_iter * p.batch_size, len(p.all_seeds))
                self.sheet.variants = tuple(self.variants)
                children.pause_history(self.generation.session)
            state.job_count += runs
        unwrap(p)
        inner, own = p.sample, "sample" in vars(p)

        def sample(*args: Any, **kwargs: Any) -> Any:
            if vars(p).get("sample") is sample:
                unwrap(p)
            return self.sample(p, lambda: inner(*args, **kwargs))

        sample.noiseorder_inner = inner if own else None  # type: ignore[attr-defined]
        p.sample = sample

    def sample(self, p: Any, run: Callable[[], Any]) -> Any:
        """All candidates of the batch, and then the image itself, or in its place the first of the previews."""
        shown, last = Shown(), None
        state = shared.state
        generators, numbers = global_generators(), p.rng
        params = dict(p.extra_generation_params)
        text = state.textinfo
        self.plan = self.planned_for(p)
        try:
            for variant in self.variants:
                if self.is_stopped() or self.hopeless:
                    break
                candidate = Candidate(self, variant)
                state.textinfo = f"Noise Order: candidate {variant - self.variants[0] + 1} of {self.count}"
                p.rng = renewed(numbers)
                set_global_generators(generators)
                with self.running(p, candidate):
                    last = run()
                    self.look(p, candidate, last, shown)
                if not state.interrupted:
                    if self.sheet is None or variant != self.variants[-1]:  # the host counts the last run itself
                        state.nextjob()
                    if state.skipped:
                        state.skipped = False
                        self.note(f"variant {variant} was skipped")
        except Exception as error:
            if self.sheet is not None:
                self.note(f"{type(error).__name__}: {error}")
                self.sheet.done = True
                raise
            # The image that was asked for can still be made.
            log.exception("a candidate failed")
            self.give_up(p, f"{type(error).__name__}: {error}", ". ")
            shown = Shown()
        else:
            self.conclude(p, shown)
        finally:
            state.textinfo = text
            p.rng = renewed(numbers)
            set_global_generators(generators)
            if self.sheet is None:
                restore(p.extra_generation_params, params)
        if self.sheet is None or last is None:  # interrupted before the first candidate
            return run()
        return self.previews(p, shown, last)

    def planned_for(self, p: Any) -> Plan:
        """Whether this batch's candidates are sketches, and how often they will ask the model."""
        generation = self.generation
        adapter = generation.session.adapter
        # A prompt that changes with the steps, "[cat:dog:10]", was encoded for the image's own.
        wanted = generation.options.sketches and not changes(p)
        job = Job(
            steps=p.steps,
            strength=p.denoising_strength if generation.is_img2img else 1.0,
            sampler=p.sampler_name,
            scheduler=getattr(p, "scheduler", None) or "Automatic",
            width=p.width,
            height=p.height,
            img2img=generation.is_img2img,
        )
        plan: Plan | None = adapter.plan(job, self.depth, wanted) if adapter is not None else None
        return plan or ONE_STEP._replace(steps=p.steps)

    def is_stopped(self) -> bool:
        """Whether no more candidates are wanted.

        "Interrupt" can mean "after this image" (AUTOMATIC1111): a sheet then ends with the candidate that runs; without
        one the image is made, with the candidates it needs.
        """
        state = shared.state
        return bool(state.interrupted or (self.sheet is not None and state.stopping_generation))

    @contextmanager
    def running(self, p: Any, candidate: Candidate) -> Iterator[None]:
        """A run after which p, the sampler and what other extensions remember are as before."""
        generation, hires, steps = self.generation, getattr(p, "enable_hr", False), p.steps
        with preserved(p, generation.session.adapter):
            generation.candidate = candidate
            if hires:
                p.enable_hr = False
            p.steps = self.plan.sketch or steps
            try:
                yield
            finally:
                generation.candidate = None
                p.steps = steps
                if hires:
                    p.enable_hr = True
                if p.sampler is not None:
                    # img2img keeps one sampler for all batches.
                    vars(p.sampler).pop("callback_state", None)

    def planned(self, candidate: Candidate) -> None:
        """The steps of the previews are known: reckon what they cost."""
        self.plan = candidate.plan
        generation, denoiser = self.generation, candidate.denoiser
        parts, cfg = len(denoiser.c.batch[0]), denoiser.cfg_scale
        by_sampler, by_us = denoiser.negative_at_cfg_1
        each, scoring = rows(parts, cfg, by_sampler), parts if self.scored else 0
        self.cost = cost_in_images(
            self.count, self.plan, each, injection(generation.config, parts, cfg, by_us), scoring
        )
        if self.sheet is not None:
            self.sheet.plan, self.sheet.cost = self.plan, self.cost

    def look(self, p: Any, candidate: Candidate, samples: Any, shown: Shown) -> None:
        """Keep what one candidate became, and the critic's scores of it."""
        state = shared.state
        if candidate.refusal:
            if not state.interrupted:
                self.note(f"the noise was left as it is: {candidate.refusal}")
            return
        if candidate.denoiser is None or state.interrupted or state.skipped:
            return
        denoised = samples if candidate.denoised is None else candidate.denoised
        scores: list[float | None] = [None] * len(denoised)
        if self.scored:
            scores = self.judge(p, denoised, candidate)
        if state.interrupted or state.skipped:
            return
        shown.scores[candidate.variant] = scores
        if self.sheet is not None:
            pictures = shown.pictures[candidate.variant] = [self.picture(latent) for latent in denoised]
            self.sheet.size = (p.width, p.height)
            indices = self.generation.indices(p)
            for k, (picture, score) in enumerate(zip(pictures, scores, strict=True)):
                config = self.generation.config.with_variant(candidate.variant)
                settings: dict[str, Any] = {"chain": config.chain} if config.chain else {"variant": config.variant}
                preview = sheet.Preview(indices[k], p.seeds[k], candidate.variant, picture, score, settings)
                self.sheet.previews.append(preview)

    def picture(self, latent: Tensor) -> Image.Image:
        """What a candidate became: one after the other, so that it fits where the image's own decoding does."""
        if self.generation.options.preview_quality == GOOD and not self.is_approximate:
            try:
                return decoded(latent)
            except Exception as error:
                self.is_approximate = True
                devices.torch_gc()
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                self.note(f"the previews are approximate: {reason}")
        return approximate(latent)

    def judge(self, p: Any, denoised: Tensor, candidate: Candidate) -> list[float | None]:
        """The critic's scores; None where it fails, which is told, and for what is no number."""
        try:
            # The prompt of the preview's step: "[cat:dog:.5]" may have changed.
            candidate.denoiser.step = candidate.plan.preview - 1
            with torch.no_grad():
                scores = [float(score) for score in critic_of(self.generation)(denoised, candidate.denoiser)]
            if len(scores) != len(denoised):
                raise ValueError(f"the critic gave {len(scores)} scores for {len(denoised)} images")
            return [score if math.isfinite(score) else None for score in scores]
        except Interrupted:
            pass
        except Exception as error:
            log.exception("the critic failed")
            self.generation.say(p, f"The critic failed. {type(error).__name__}: {error}")
            self.note(f"the critic failed: {type(error).__name__}: {error}")
        return [None] * len(denoised)

    def conclude(self, p: Any, shown: Shown) -> None:
        """Let every image of the batch go on with its best variant; a sheet leaves that to its user."""
        state, generation = shared.state, self.generation
        if self.is_stopped():
            self.note("interrupted")
        if self.sheet is not None:
            if self.hopeless:
                state.interrupt()  # other batches would be no better
            return
        if state.interrupted or not shown.scores:
            skipped = all(note.endswith("was skipped") for note in self.notes)
            reason = "every candidate was skipped" if skipped else "the noise was left as it is"
            self.give_up(p, "interrupted" if state.interrupted else reason)
            return
        count = len(p.seeds)
        winners = [self.best(shown, k) for k in range(count)]
        if not any(winner is not None for winner in winners):
            self.give_up(p, "the critic gave no scores")
            return
        first = generation.config.first_variant
        variants = [first if winner is None else winner for winner in winners]
        generation.choose(p, variants, [None if winner is None else self.count for winner in winners])
        self.write_history(p)
        if generation.options.console != ERRORS:
            log.info(
                f"auditioned {self.count} candidates at {self.plan.words} for each image ({self.cost:.1f} images):"
                f" went on with variant {', '.join(map(str, variants))}"
            )

    @staticmethod
    def best(shown: Shown, k: int) -> int | None:
        """The variant with the highest score of an image, the first of equal ones; None where none has a score."""
        variants = list(shown.scores)
        winner = sheet.best([shown.scores[variant][k] for variant in variants])
        return None if winner is None else variants[winner]

    def give_up(self, p: Any, reason: str, between: str = ": ") -> None:
        self.generation.say(p, f"Nothing was auditioned{between}{reason}")

    def note(self, text: str) -> None:
        self.notes.append(text)
        if self.sheet is not None and text not in self.sheet.notes:
            self.sheet.notes.append(text)

    def write_history(self, p: Any) -> None:
        """Write params.txt once more: most hosts have written it before the choice, Neo and ersatzForge will."""
        if p.iteration == 0 and not shared.cmd_opts.no_prompt_history:
            children.write_params_txt(p)

    def previews(self, p: Any, shown: Shown, last: Any) -> Any:
        """In the place of the batch's latents: the first candidate, already decoded. What the host would do to a
        finished image is off, but told in the infotext, which is to make the whole image."""
        assert self.sheet is not None
        adapter = self.generation.session.adapter
        if getattr(p, "enable_hr", False) and adapter is not None:
            p.extra_generation_params.update(adapter.hires_infotext(p))
        if getattr(p, "restore_faces", False):
            p.extra_generation_params["Face restoration"] = getattr(shared.opts, "face_restoration_model", None)
        if not self.kept:
            off = {"restore_faces": False, "do_not_save_grid": True, "do_not_save_samples": True, "_ad_disabled": True}
            self.kept = {name: getattr(p, name, MISSING) for name in off}
            for name, value in off.items():
                setattr(p, name, value)
        if not shown.pictures:
            return last
        first = next(iter(shown.pictures.values()))
        images = [sheet.resize(picture, (p.width, p.height)) for picture in first]
        return processing.DecodedSamples(as_tensor(image) for image in images)

    def finish(self, p: Any, processed: Any) -> None:
        """Hook `postprocess`: the sheet is complete, and the result holds its previews."""
        unwrap(p)
        for name, value in self.kept.items():
            if value is MISSING:
                delattr(p, name)
            else:
                setattr(p, name, value)
        self.kept = {}
        generation = self.generation
        if self.sheet is None:
            return
        children.resume_history(generation.session)
        first = processed.index_of_first_image
        texts = dict(enumerate(processed.infotexts[first:]))
        self.sheet.infotexts = [
            with_settings(texts[preview.image], preview.settings) if preview.image in texts else None
            for preview in self.sheet.previews
        ]
        # Not none at all: the hosts would empty the gallery, and other scripts count on an image.
        count = len(self.sheet.previews) if generation.options.previews_in_gallery else 1
        children.replace_images(processed, self.sheet, count)
        self.sheet.done = True

    def outcome(self) -> str:
        """What was chosen, for the panel's line."""
        generation = self.generation
        if self.sheet is not None:
            return ""
        skipped = [note for note in self.notes if note.endswith("skipped")]
        parts = [", ".join(skipped)] if skipped else []
        variants = dict(generation.chosen)
        chosen = [str(variants[k]) for k, text in generation.images.items() if infotext.AUDITIONED in text]
        if chosen:
            parts.append(f"Went on with variant {', '.join(chosen)}, best of {self.count}")
        return ". ".join(parts)


def critic_of(generation: Generation) -> Critic:
    """The function that chooses: session.set_critic, or this module's `critic`, as versions before 0.8 had it set."""
    critic: Critic = globals().get("critic", generation.session.critic)
    return critic


def changes(p: Any) -> bool:
    """Whether a prompt or negative prompt of this batch changes with the steps."""
    prompts = [part.schedules for parts in p.c.batch for part in parts]
    return any(len(schedules) > 1 for schedules in (*prompts, *(p.uc or ())))


def renewed(numbers: Any) -> Any:
    """The host's random numbers of a batch, `modules.rng.ImageRNG`, as at its beginning."""
    return type(numbers)(
        numbers.shape,
        numbers.seeds,
        subseeds=numbers.subseeds,
        subseed_strength=numbers.subseed_strength,
        seed_resize_from_h=numbers.seed_resize_from_h,
        seed_resize_from_w=numbers.seed_resize_from_w,
    )


def unwrap(p: Any) -> None:
    """Take our function off `p.sample`, where it is still the outermost one."""
    sample = vars(p).get("sample")
    if not hasattr(sample, "noiseorder_inner"):
        return
    if sample.noiseorder_inner is None:
        del p.sample
    else:
        p.sample = sample.noiseorder_inner


def restore(params: dict[str, Any], before: dict[str, Any]) -> None:
    """Take what the runs of candidates wrote into the infotext out again; ours is as it was chosen."""
    for key in [key for key in params if key not in before and key not in infotext.KEYS]:
        del params[key]
    params.update({key: value for key, value in before.items() if key not in infotext.KEYS})


def refiner_switch(p: Any) -> float | None:
    """The share of the steps after which the refiner takes over; None where there is none."""
    if getattr(p, "refiner_checkpoint_info", None) is None:
        return None
    switch = getattr(p, "refiner_switch_at", None)
    return None if switch is None or switch >= 1 else float(switch)


def with_settings(text: str, settings: Mapping[str, Any]) -> str:
    """The infotext of another candidate of the same image."""
    head, line, parameters = text.rpartition("\n")
    for name, value in settings.items():
        key = re.escape(BY_NAME[name].infotext)
        parameters = re.sub(rf"((?:^|, ){key}: )[^,]*(?=,|$)", rf"\g<1>{value}", parameters, count=1)
    return head + line + parameters


def approximate(latent: Tensor) -> Image.Image:
    """A latent as the host's live preview shows it: most of its decoders make one pixel of each of the latent's."""
    frame = latent if latent.ndim == 3 else latent[:, 0]
    try:
        return sd_samplers_common.single_sample_to_image(frame)
    except Exception:  # a decoder that would have to be downloaded
        return sd_samplers_common.single_sample_to_image(frame, CHEAP)


def decoded(latent: Tensor) -> Image.Image:
    """A latent as the image would be: by the VAE, where the host's live preview is no better than its approximations.

    Raises whatever the VAE raises, and Unsupported for a picture that is black all over, which is what NaN becomes.
    """
    if getattr(shared.opts, "show_progress_type", "") == "TAESD":
        return approximate(latent)
    picture = sd_samplers_common.single_sample_to_image(latent, FULL)
    if picture.convert("RGB").getbbox() is None:
        raise Unsupported("the VAE gave a black picture")
    return picture


def as_tensor(image: Image.Image) -> Tensor:
    """(3, H, W) in [−1, 1], as decoders give it; a quarter more, as the hosts cut off what is behind the point."""
    return (torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0).float() + 0.25) / 127.5 - 1
