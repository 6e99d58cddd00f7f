"""What each noise would become: the candidates of an image after the sampler's first steps, and the choice among them.

The candidates are a generation of the host's own in which every batch of the user's comes once for each variant, with
the same prompts, seeds and neighbours, and the sampler is ended after a few steps. Either it is the generation that the
user asked for with a ticket (webui/sheet.py), or it runs before theirs, from a copy, and each image then goes on with
its best variant.
"""

from __future__ import annotations

import traceback
import types
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modules import processing, sd_models, sd_samplers, sd_samplers_common, shared
from PIL import Image
from torch import Tensor

from ..config import BOTH, COMPARE, FIELDS, FIRST, HIRES, NoiseOrderConfig, SettingError, parse
from ..core import Critic, Interrupted, self_consistency
from ..core.schedule import DEPTH, first_below
from ..core.streams import global_generators
from ..webui import sheet, xyz
from ..webui.cost import Job, Plan, cost_in_images, injection, rows
from ..webui.options import ERRORS
from ..webui.sheet import Sheet
from . import hook
from .copies import OURS, Snapshot, duplicate, option, stopped, undisturbed

STATE = "_noiseorder_audition"
"""On the processing object of candidates: their Audition; else None."""
PROMPTS = "_noiseorder_audition_prompts"
"""On the processing object: of each image the prompts its candidates had."""
REDRAWN = (
    "another script draws prompts at random, so that the candidates of an image had different ones; "
    "switch it off and write out the prompt you want to audition"
)
FEW = 8
"""Up to so many steps, one step of a few-step model is a preview."""
ONE_STEP = Plan(1, 1)
critic: Critic = self_consistency
"""Who chooses where nobody looks. Put another function here to bring your own: docs/audition.md."""


history: list[bool] = []
"""The host's --no-prompt-history while candidates are not to be written to params.txt."""


@dataclass
class Audition:
    """A generation of candidates.

    config: the user's settings; images, batch: how many images and how many of them at once; plan: the steps of a
    preview and of an image; scores: of the candidates that were judged, by their places; denoised: the x̂0 at which
    the sampler was ended; host: of this batch.
    """

    config: NoiseOrderConfig
    count: int
    depth: float
    images: int
    batch: int
    sheet: Sheet | None = None
    plan: Plan = ONE_STEP
    host: Any = None
    denoised: Tensor | None = None
    scores: dict[int, float | None] = field(default_factory=dict)

    @property
    def scored(self) -> bool:
        return self.sheet is None or self.sheet.scored

    def image(self, candidate: int) -> int:
        """Of which image a candidate is."""
        return candidate // (self.batch * self.count) * self.batch + candidate % self.batch

    def groups(self) -> list[list[int]]:
        """The candidates of every image."""
        groups: list[list[int]] = [[] for _ in range(self.images)]
        for candidate in range(self.images * self.count):
            groups[self.image(candidate)].append(candidate)
        return groups

    def variant(self, candidate: int) -> int:
        return self.config.variant + candidate // self.batch % self.count

    @property
    def cost(self) -> float:
        """Of all candidates of one image, in images: evaluations of the model over those of an image."""
        if self.host is None:
            return 0.0
        parts, cfg = len(self.host.c.batch[0]), self.host.cfg_scale
        by_sampler, by_us = self.host.negative_at_cfg_1
        injection_cost = injection(self.config, parts, cfg, by_us)
        return cost_in_images(
            self.count, self.plan, rows(parts, cfg, by_sampler), injection_cost, parts if self.scored else 0
        )


def begin(p: Any, args: Sequence[Any], host: type[Any] | None) -> None:
    """Hook `before_process`: make this the generation of the candidates, or audition before it. Nothing of another
    script has happened yet, so a generation inside this one disturbs none."""
    if hasattr(p, hook.VARIANT) or getattr(p, "_ad_inner", False):
        return
    write_history()
    for name in (STATE, PROMPTS, hook.VARIANTS, hook.AUDITIONED):
        setattr(p, name, None)
    try:
        contact_sheet = sheet.redeem(args[len(FIELDS)] if len(args) > len(FIELDS) else None)
    except SettingError as error:
        give_up(p, None, str(error))
        return
    try:
        config = parse(args, xyz.overrides(p))
        if contact_sheet is not None:
            if host is None:
                raise SettingError("this WebUI is not supported yet")
            ask(p, contact_sheet, config)
    except SettingError as error:
        if contact_sheet is not None:
            give_up(p, contact_sheet, str(error))
        return  # else told in `process`
    if contact_sheet is not None or not config.audition or host is None or getattr(p, "txt2img_upscale", False):
        return
    try:
        check_pass(p, config)
    except SettingError as error:
        hook.say(p, f"Nothing was auditioned. {error}")
    else:
        choose(p, config)


def ask(p: Any, contact_sheet: Sheet, config: NoiseOrderConfig) -> None:
    """Make the generation that of the candidates a ticket asks for."""
    if not config.active:
        raise SettingError("Noise Order is off, or changes nothing: switch it on, and set Erase above 1")
    config.check_candidates(contact_sheet.candidates)
    check_pass(p, config)
    if getattr(p, "txt2img_upscale", False):
        raise SettingError("the upscale button has no noise to choose: press Audition instead of it")
    if p.script_args and isinstance(p.script_args[0], int) and p.script_args[0] > 0:
        raise SettingError('a script is chosen under "Script": set it to None')
    audition = expand(p, config, contact_sheet.candidates, contact_sheet.depth)
    audition.sheet = contact_sheet
    if getattr(shared.opts, "temp_dir", ""):
        # Images that are not saved go there on their way to the gallery, and Neo does not make its own.
        Path(shared.opts.temp_dir).mkdir(parents=True, exist_ok=True)
    contact_sheet.images = audition.images
    contact_sheet.variants = tuple(range(config.variant, config.variant + contact_sheet.candidates))


def check_pass(p: Any, config: NoiseOrderConfig) -> None:
    """It is the first pass that is auditioned."""
    if config.passes == HIRES and getattr(p, "enable_hr", False):
        raise SettingError(f'Pass is "{HIRES}", so all first passes are the same: set it to "{FIRST}" or "{BOTH}"')


def give_up(p: Any, contact_sheet: Sheet | None, reason: str) -> None:
    """End the generation that a ticket asked for: a user who wants previews does not want the whole images."""
    hook.say(p, f"No audition. {reason}")
    if contact_sheet is not None:
        contact_sheet.notes.append(reason)
        contact_sheet.done = True
    p.do_not_save_grid = True
    p.n_iter, p.batch_size, p.steps = 1, 1, 1
    shared.state.interrupt()


def expand(p: Any, config: NoiseOrderConfig, count: int, depth: float) -> Audition:
    """Every batch `count` times, one variant after the other: nothing else differs within an image's candidates."""
    images, batch = p.batch_size * p.n_iter, p.batch_size

    def each(values: Sequence[Any]) -> list[Any]:
        return [value for k in range(0, images, batch) for value in list(values[k : k + batch]) * count]

    fix_seeds(p)
    for name in ("seed", "subseed"):
        value = getattr(p, name)
        step = 0 if name == "seed" and p.subseed_strength else 1
        setattr(p, name, each(value if isinstance(value, list) else [int(value) + step * k for k in range(images)]))
    for name in ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt"):
        value = getattr(p, name, None)
        if isinstance(value, list):
            setattr(p, name, each(value))
    p.n_iter *= count
    p.restore_faces = False
    p._ad_disabled = True
    p.do_not_save_grid = True
    p.do_not_save_samples = p.do_not_save_samples or not option("save_incomplete_images")
    audition = Audition(config, count, depth, images, batch)
    setattr(p, STATE, audition)
    # No inspector and nothing made beside it.
    setattr(p, hook.VARIANT, "audition")
    setattr(p, hook.VARIANTS, [audition.variant(k) for k in range(images * count)])
    xyz.put(p, {"audition": 0, **dict.fromkeys(COMPARE, False)})
    return audition


def fix_seeds(p: Any) -> None:
    """A random seed is drawn now, that candidates and image have the same."""
    p.seed, p.subseed = processing.get_fixed_seed(p.seed), processing.get_fixed_seed(p.subseed)


def choose(p: Any, config: NoiseOrderConfig) -> None:
    """Audition every image's candidates and give it the best of them; where that fails, the image is made without."""
    fix_seeds(p)
    snapshot = Snapshot(duplicate(p), global_generators())
    q, state = snapshot.p, shared.state
    audition = expand(q, config, config.audition, DEPTH)
    q.enable_hr = False
    if state.job_count == -1:
        state.job_count = p.n_iter
    state.job_count += q.n_iter
    try:
        with closing(q), undisturbed(snapshot, f"auditioning {config.audition} candidates"):
            processing.process_images(q)
    except Exception as error:  # the image that was asked for can still be made
        traceback.print_exc()
        hook.say(p, f"Nothing was auditioned. {type(error).__name__}: {error}")
        return
    job = getattr(q, hook.STATE, None)
    if stopped() or job is None or job.refusals:
        hook.say(p, "Nothing was auditioned: " + ("interrupted" if stopped() else "the noise was left as it is"))
        return
    groups = audition.groups()
    winners = [sheet.best([audition.scores.get(k) for k in group]) for group in groups]
    if not any(winner is not None for winner in winners):
        hook.say(p, "Nothing was auditioned: the critic gave no scores")
        return
    setattr(p, PROMPTS, candidate_prompts(q, groups))
    variants = [
        config.variant if winner is None else audition.variant(group[winner])
        for group, winner in zip(groups, winners, strict=True)
    ]
    setattr(p, hook.VARIANTS, variants)
    setattr(p, hook.AUDITIONED, [None if winner is None else str(audition.count) for winner in winners])
    if job.options.console != ERRORS:
        steps = f"{audition.plan.preview} of {audition.plan.steps} steps"
        print(
            f"[{OURS}] auditioned {audition.count} candidates at {steps} for each image ({audition.cost:.1f} images):"
            f" went on with variant {', '.join(map(str, variants))}"
        )


def candidate_prompts(p: Any, groups: list[list[int]]) -> list[set[tuple[str, str]]]:
    """Of every image the prompts and negative prompts its candidates had: one pair, but where a script draws them."""
    pairs = list(zip(p.all_prompts, p.all_negative_prompts, strict=True))
    return [{pairs[k] for k in group if k < len(pairs)} for group in groups]


def check_prompts(p: Any) -> None:
    """Hook `process_batch`, when all scripts have had their say in the prompts: candidates of other prompts (Dynamic
    Prompts draws at random each time) choose for no image."""
    expected = getattr(p, PROMPTS, None)
    if expected is None or expected == [{pair} for pair in zip(p.all_prompts, p.all_negative_prompts, strict=True)]:
        return
    for name in (PROMPTS, hook.VARIANTS, hook.AUDITIONED):
        setattr(p, name, None)
    hook.say(p, f"Nothing was auditioned: {REDRAWN}")


def before_batch(p: Any) -> None:
    """Hook `process_batch`, after which the hosts write params.txt, Neo rather late: it is to hold what makes an
    image."""
    audition = getattr(p, STATE, None)
    if audition is not None and audition.sheet is not None and not history:
        history.append(shared.cmd_opts.no_prompt_history)
        shared.cmd_opts.no_prompt_history = True


def write_history() -> None:
    """Undo that, when the generation has ended or another begins."""
    if history:
        shared.cmd_opts.no_prompt_history = history.pop()


def before_sampling(p: Any, host: type[Any] | None, x: Any, noise: Any, c: Any, uc: Any) -> None:
    """Hook `process_before_every_sampling`, after the noise was written: have the sampler end where the preview is."""
    audition, job = getattr(p, STATE, None), getattr(p, hook.STATE, None)
    if audition is None or host is None or noise is None:
        return
    if getattr(p, "enable_hr", False):
        # Only now: the infotext of a preview is to make the whole image, with its hires pass.
        p.enable_hr = False
        p.extra_generation_params.update(host.hires_infotext(p))
        shared.state.job_count //= 2
    audition.host, audition.denoised, audition.plan = None, None, ONE_STEP
    try:
        if job is not None and not job.refused:
            audition.config = job.config  # "auto" is settled
            audition.host = host(p, noise, c, uc, latent=None if x is noise else x)
            positions = audition.host.positions()
            preview = preview_steps(positions, audition.depth, audition.host.family())
            audition.plan = Plan(preview, len(positions), order(getattr(p.sampler, "config", None)))
    except Exception:
        # Ended after the first step, nothing is shown and nothing chosen: the whole candidates would cost too much.
        traceback.print_exc()
        audition.host = None
    if audition.sheet is not None:
        contact_sheet = audition.sheet
        contact_sheet.steps, contact_sheet.of = audition.plan.preview, audition.plan.steps
        contact_sheet.cost = audition.cost
    end_after(p.sampler, audition)


def preview_steps(positions: Sequence[float], depth: float, family: str | None = None) -> int:
    """Steps until the first below this position of the schedule has seen the image; one of a few-step model."""
    if family == "few" and len(positions) <= FEW:
        return 1
    return first_below(positions, depth)


def plan(host: type[Any] | None, job: Job, depth: float) -> Plan | None:
    """Of what the page is set to, for the lines that tell the cost; None where it cannot be told.

    The schedule of a few models depends on what they last made.
    """
    try:
        return make_plan(host, job, depth)
    except Exception:  # of a sampler without such a schedule, or while a model is being loaded
        return None


def make_plan(host: type[Any] | None, job: Job, depth: float) -> Plan | None:
    model = sd_models.model_data.sd_model
    # Not by `create_sampler`, which extensions replace while their generation runs.
    config = sd_samplers.find_sampler_config(job.sampler)
    if host is None or host.prediction(model) is None or config is None:
        return None
    sampler = config.constructor(model)
    sampler.config = config
    p = types.SimpleNamespace(
        steps=job.steps,
        scheduler=job.scheduler,
        width=job.width,
        height=job.height,
        denoising_strength=job.strength,
        sampler=sampler,
        sampler_noise_scheduler_override=None,
        extra_generation_params={},
        is_hr_pass=False,
        sd_model=model,
    )
    positions = host.for_schedule(p, around=job.strength < 1).positions()
    return Plan(preview_steps(positions, depth, host.family()), len(positions), order(config))


def order(sampler: Any) -> int:
    """How often a step of a sampler, told by the host's entry of it, asks the model."""
    return 2 if (getattr(sampler, "options", None) or {}).get("second_order") else 1


def end_after(sampler: Any, audition: Audition) -> None:
    """End the sampler once it has asked the model in this step, and keep the x̂0 it got there, guidance and all.

    Its own `stop_at` does the same, but ersatzForge has none, and AUTOMATIC1111 then gives the x̂0 of the prompt alone.
    """
    callback, steps = type(sampler).callback_state, audition.plan.preview

    def look(state: dict[str, Any]) -> None:
        if state["i"] >= steps - 1:
            audition.denoised = state.get("denoised")
            raise sd_samplers_common.InterruptedException
        callback(sampler, state)
        shared.state.sampling_steps = steps

    sampler.callback_state = look


@torch.no_grad()
def after_sampling(p: Any, arguments: Any) -> None:
    """Hook `post_sample`: judge the batch's x̂0, and give the host small images of them, already decoded."""
    audition = getattr(p, STATE, None)
    # Not where only the next batches are not to be made: this one is whole.
    if audition is None or shared.state.interrupted or shared.state.skipped:
        return
    denoised = arguments.samples if audition.denoised is None else audition.denoised
    audition.denoised = None
    scores: list[float | None] = [None] * len(denoised)
    if audition.host is not None and audition.scored:
        scores = judge(p, denoised, audition)
    if shared.state.interrupted or shared.state.skipped:
        return
    images = [small_image(latent) for latent in denoised]
    if audition.host is not None:
        # Not after those judged before: a batch of candidates can be skipped.
        for k, (image, score) in enumerate(zip(images, scores, strict=True)):
            at = p.iteration * audition.batch + k
            audition.scores[at] = score
            if audition.sheet is not None:
                audition.sheet.previews.append(
                    sheet.Preview(audition.image(at), p.seeds[k], audition.variant(at), image, score)
                )
    size = (p.width, p.height)
    if audition.sheet is not None:
        audition.sheet.size = size
    arguments.samples = processing.DecodedSamples(as_tensor(sheet.resize(image, size)) for image in images)


def judge(p: Any, denoised: Tensor, audition: Audition) -> list[float | None]:
    """The critic's scores; none where it fails, which is told."""
    try:
        scores = [float(score) for score in critic(denoised, audition.host)]
        if len(scores) != len(denoised):
            raise ValueError(f"the critic gave {len(scores)} scores for {len(denoised)} images")
        return list(scores)
    except Interrupted:
        pass
    except Exception as error:
        traceback.print_exc()
        hook.say(p, f"The critic failed. {type(error).__name__}: {error}")
        if audition.sheet is not None:
            audition.sheet.notes.append(f"the critic failed: {type(error).__name__}: {error}")
    return [None] * len(denoised)


def small_image(latent: Tensor) -> Image.Image:
    """A latent as the host's live preview shows it: most of its decoders make one pixel of each of the latent's."""
    frame = latent if latent.ndim == 3 else latent[:, 0]
    try:
        return sd_samplers_common.single_sample_to_image(frame)
    except Exception:  # a decoder that would have to be downloaded
        return sd_samplers_common.single_sample_to_image(frame, 2)


def as_tensor(image: Image.Image) -> Tensor:
    """(3, H, W) in [−1, 1], as decoders give it; a quarter more, as the hosts cut off what is behind the point."""
    return (torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0).float() + 0.25) / 127.5 - 1


def finish(p: Any, processed: Any) -> None:
    """Hook `postprocess`: the sheet is complete."""
    write_history()
    audition = getattr(p, STATE, None)
    if audition is None or audition.sheet is None:
        return
    contact_sheet, job = audition.sheet, getattr(p, hook.STATE, None)
    texts = processed.infotexts[processed.index_of_first_image :]
    contact_sheet.infotexts = [texts[at] for at in audition.scores if at < len(texts)]
    if job is not None and job.refusals:
        contact_sheet.notes.append(f"the noise was left as it is: {job.refusals[-1]}")
    if any(len(pairs) > 1 for pairs in candidate_prompts(p, audition.groups())):
        contact_sheet.notes.append(REDRAWN)
    if stopped():
        contact_sheet.notes.append("interrupted")
    contact_sheet.done = True
