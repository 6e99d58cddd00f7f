"""One generation of a WebUI: settings in, noise written, what was done told. Never leaves anything half applied.

The hosts call the hooks in this order: before_process, process, then for each batch process_batch,
process_before_every_sampling (once in each pass, on Forge main twice in the hires pass) and post_sample, and at the end
postprocess. Between process_batch and post_sample lies the host's `p.sample`, in which candidates run as well.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from modules import shared
from torch import Tensor

from .. import log
from ..config import (
    FIELDS,
    OFF,
    NoiseOrderConfig,
    SettingError,
    parse,
)
from ..core import Interrupted, Report, Unsupported, modulate, previews
from ..modulation import modulation
from ..names import (
    BOTH,
    EVERYWHERE,
    FIRST,
    HIRES,
)
from ..presets import follow
from ..webui import infotext, inspector, outcome
from ..webui.options import ERRORS, EVERYTHING, STOP, Options
from ..webui.sheet import Sheet
from . import children
from .audition import Audition, Candidate

if TYPE_CHECKING:
    from ..session import Session

ATTRIBUTE = "_noiseorder"
"""The one attribute set on the host's processing object: its Generation."""


@dataclass
class Batch:
    """What is known of the batch that is being made.

    variants: of each image, where they have their own; auditioned: of how many candidates each is the best, None where
    it was not chosen; hires_calls: how often the hires pass called the hook; error: why the batch was left as it is;
    passes: those whose noise was modulated.
    """

    variants: tuple[int, ...] = ()
    auditioned: tuple[int | None, ...] = ()
    hires_calls: int = 0
    error: str = ""
    passes: set[str] = field(default_factory=set)


class Generation:
    """The state of one generation, with a method for each hook of the host's.

    overrides: settings of this cell of an X/Y/Z plot, in place of the accordion's; comparison: the name of what is made
    beside an image, empty for the image itself; parent: the generation of that image.
    config: the settings, parsed once, OFF where nothing is to be done; refusal: why nothing can be done with them;
    auto: the preset that direction "auto" followed; reports: by pass, of every batch; refusals: why batches were left.
    """

    def __init__(
        self,
        session: Session,
        p: Any,
        overrides: Mapping[str, Any] | None = None,
        comparison: str = "",
        parent: Generation | None = None,
    ) -> None:
        self.session, self.comparison, self.parent = session, comparison, parent
        self.overrides: dict[str, Any] = dict(overrides or {})
        self.request = ""
        self.settled: dict[str, Any] = {}
        # Not p itself: it would keep all of a generation's tensors alive until Python looks for cycles.
        self.owner = weakref.ref(p)
        self.reset()

    def reset(self) -> None:
        """Forget the last run: some scripts (Loopback, the Batch tab of img2img) send one p through the host again."""
        self.config: NoiseOrderConfig = OFF
        self.options: Options = self.session.options()
        self.active = False
        self.refusal = self.auto = ""
        self.is_img2img = False
        self.batch = Batch()
        self.batches = 0
        self.reports: dict[str, list[Report]] = {}
        self.refusals: list[str] = []
        self.chosen: list[tuple[int, int]] = []
        self.images: dict[int, dict[str, str]] = {}
        self.audition: Audition | None = None
        self.candidate: Candidate | None = None
        self.comparisons: children.Comparisons | None = None

    # The hooks, in the host's order.

    def before_process(self, p: Any, args: Sequence[Any], is_img2img: bool) -> None:
        """Parse the settings and claim the request of a sheet. Nothing of another script has happened yet, so this is
        where what is made beside the image gets its copy of p."""
        self.reset()
        self.is_img2img = is_img2img
        children.resume_history(self.session)
        try:
            contact_sheet = self.claim(args)
        except SettingError as error:
            self.give_up(p, None, str(error))
            return
        try:
            asked = contact_sheet.settings if contact_sheet is not None else {}
            self.config = parse(args, {**({"enabled": True, **self.overrides} if self.overrides else {}), **asked})
        except SettingError as error:
            self.refusal = str(error)
            if contact_sheet is not None:
                self.give_up(p, contact_sheet, str(error))
            return
        self.active = self.config.active
        if not self.is_own(p):
            return
        if contact_sheet is not None or (self.active and self.config.audition):
            self.prepare_audition(p, contact_sheet)
        if self.active and self.config.comparisons and contact_sheet is None:
            self.comparisons = children.Comparisons.begin(self, p)

    def process(self, p: Any) -> None:
        """Check the settings against the host and write the infotext, which some hosts save before sampling."""
        infotext.clear(p.extra_generation_params)
        # Once more: what a request overrides is set only now.
        self.options = self.session.options()
        # ADetailer's inner pass carries the settings of the outer one; off there unless asked for on the settings page.
        if getattr(p, "_ad_inner", False) and not self.options.adetailer:
            self.active, self.refusal = False, ""
            return
        if self.is_own(p):
            self.session.outcomes.pop(self.whose(p), None)
            self.session.inspections.forget(self.whose(p)[1])
        children.settle(p, self.settled)
        contact_sheet = self.audition.sheet if self.audition is not None else None
        if contact_sheet is not None and contact_sheet.image is not None:
            try:
                children.single_out(p, contact_sheet.image)
            except SettingError as error:
                self.audition = None
                self.give_up(p, contact_sheet, str(error))
        if self.refusal or not self.active:
            if self.refusal:
                self.refuse(p, self.refusal)
            return
        adapter, config = self.session.adapter, self.config
        if adapter is None:
            self.fail(p, self.session.why_not)
        elif config.passes == HIRES and not self.is_img2img and not getattr(p, "enable_hr", False):
            self.fail(p, f'Pass is "{HIRES}", but hires fix is off: switch it on, or set Pass to "{FIRST}"')
        else:
            # What has no meaning in this tab is not used, and not claimed: img2img has one pass, txt2img has no mask.
            config = config.replace(passes=FIRST) if self.is_img2img else config.replace(region=EVERYWHERE)
            self.config, self.auto = follow(config, adapter.family())
            self.tell(p, range(p.batch_size * p.n_iter), self.config)

    def process_batch(self, p: Any) -> None:
        """Begin a batch: its infotext, also after an earlier one was refused, the jobs of the progress bar, and the
        candidates, which run inside the host's `p.sample`. Prompts, seeds and sizes are settled now."""
        if not self.active:
            return
        inherited = self.parent.variants_of(p) if self.parent is not None else ()
        self.batch = Batch(inherited)
        self.batches += 1
        self.tell(p, self.indices(p), self.config)
        if self.audition is not None:
            self.audition.before_batch(p)
        if self.batches == 1 and self.comparisons is not None:
            self.comparisons.count_jobs(p)

    @torch.no_grad()
    def before_sampling(self, p: Any, x: Tensor | None, noise: Tensor | None, c: Any, uc: Any) -> None:
        """Modulate the noise in place, or leave it exactly as it is and say why."""
        if self.refusal:
            # Only here: to end a generation without a single image fails in the hosts.
            self.stop_if_wanted()
            return
        if not self.active or noise is None or not self.is_wanted(p):
            return
        try:
            # In txt2img the hosts hand over one tensor as both; elsewhere x is the image to start from.
            denoiser = self.session.adapter(p, noise, c, uc, None if x is noise else x)  # type: ignore[misc]
            denoiser.untried = self.session.untried
            look = None
            user = self.whose(p)[1]
            wanted = self.session.inspections.wanted(user, self.options.inspector)
            if wanted and self.is_own(p) and self.candidate is None and not self.comparison:
                look = Look(self, user, denoiser, noise)
            result, report = modulate(
                noise,
                modulation(self.config),
                denoiser,
                look.watch if look else lambda erased: None,
                self.variants_here(noise),
            )
            denoiser.write(result)
        except Interrupted:
            self.left(p, "interrupted during a model evaluation")
        except Unsupported as error:
            self.left(p, str(error))
            self.stop_if_wanted()
        except Exception as error:  # the host would swallow it and go on with an infotext that claims an effect
            log.exception("modulating the noise failed")
            self.left(p, f"{type(error).__name__}: {error}")
            self.stop_if_wanted()
        else:
            if self.candidate is not None:
                self.candidate.begin(p, denoiser)
                return
            pass_name = HIRES if denoiser.is_hires else FIRST
            self.batch.passes.add(pass_name)
            self.reports.setdefault(pass_name, []).append(report)
            self.report(report)
            if look:
                look.finish(result)
        finally:
            if self.candidate is not None:
                self.candidate.end(p.sampler)

    def post_sample(self, p: Any) -> None:
        """Take back what the infotext says of a pass whose hook never ran: the upscale button of the hosts runs the
        hires pass alone; a model may have a way of its own."""
        if not self.active or self.batch.error or (self.audition is not None and self.audition.sheet is not None):
            return
        expected = {FIRST, HIRES} if self.config.passes == BOTH else {self.config.passes}
        missing = (expected if getattr(p, "enable_hr", False) else expected - {HIRES}) - self.batch.passes
        if missing:
            self.refuse(p, f"the {' and the '.join(sorted(missing))} pass did not run, or ran without calling scripts")

    def postprocess(self, p: Any, processed: Any) -> None:
        """Complete the sheet, tell what was done for the panel, and make what was asked for beside the image."""
        if self.audition is not None:
            self.audition.finish(p, processed)
        if self.is_own(p) and (self.active or self.refusal):
            self.session.outcomes[self.whose(p)] = self.outcome(p)
        if self.comparisons is not None:
            self.comparisons.finish(p, processed)

    # What the hooks are made of.

    def whose(self, p: Any) -> tuple[str, str | None]:
        """The tab, and the user where the WebUI has a login: nobody is told of another's generation."""
        return "img2img" if self.is_img2img else "txt2img", getattr(p, "user", None) or None

    def is_own(self, p: Any) -> bool:
        """Whether this is what the user asked for, and not made beside it or inside it."""
        return not self.comparison and not getattr(p, "_ad_inner", False)

    def claim(self, args: Sequence[Any]) -> Sheet | None:
        """The sheet this run is to make. Raises SettingError for a request that cannot be, and for one p that makes
        several runs of it."""
        request = args[len(FIELDS)] if len(args) > len(FIELDS) else None
        if request and request == self.request:
            raise SettingError(
                "an audition makes one sheet, and this is a second run (a folder of images, a loop): "
                "press Audition with a single image"
            )
        sheet = self.session.sheets.claim(request)
        self.request = str(request) if sheet is not None else ""
        return sheet

    def prepare_audition(self, p: Any, contact_sheet: Sheet | None) -> None:
        """Make an audition of this generation, if it can be one."""
        adapter = self.session.adapter
        upscale = getattr(p, "txt2img_upscale", False)
        try:
            if contact_sheet is not None:
                if adapter is None:
                    raise SettingError("this WebUI is not supported yet")
                if not self.active:
                    raise SettingError("Noise Order is off, or changes nothing: switch it on, and set Erase above 1")
                self.config.check_candidates(contact_sheet.candidates)
                if upscale:
                    raise SettingError("the upscale button has no noise to choose: press Audition instead of it")
                if children.script_of(p) is not None:
                    raise SettingError('a script is chosen under "Script": set it to None')
            if self.config.passes == HIRES and getattr(p, "enable_hr", False) and not self.is_img2img:
                raise SettingError(
                    f'Pass is "{HIRES}", so all first passes are the same: set it to "{FIRST}" or "{BOTH}"'
                )
            reason = children.in_pieces(p)
            if reason:
                raise SettingError(reason)
        except SettingError as error:
            if contact_sheet is not None:
                self.give_up(p, contact_sheet, str(error))
            else:
                self.say(p, f"Nothing was auditioned. {error}")
            return
        if adapter is not None and not upscale:
            self.audition = Audition(self, contact_sheet)

    def adopt(self, q: Any, p: Any, name: str, overrides: Mapping[str, Any]) -> None:
        """Make q the processing object of a comparison with this generation's images."""
        child = Generation(self.session, q, {**self.overrides, **overrides}, name, self)
        child.settled = children.settled(p)
        setattr(q, ATTRIBUTE, child)

    def give_up(self, p: Any, contact_sheet: Sheet | None, reason: str) -> None:
        """End the generation that a request asked for: a user who wants previews does not want the whole images."""
        self.say(p, f"No audition. {reason}")
        if contact_sheet is not None:
            contact_sheet.notes.append(reason)
            contact_sheet.done = True
        self.active = False
        p.do_not_save_grid = True
        p.n_iter, p.batch_size, p.steps = 1, 1, 1
        shared.state.interrupt()

    def indices(self, p: Any) -> range:
        """Which images of the generation this batch makes; the last batch need not be full."""
        start = p.iteration * p.batch_size
        return range(start, start + len(p.seeds))

    def variants_of(self, p: Any) -> tuple[int, ...]:
        """For what is made beside the images: the variants of theirs, empty where they have none of their own."""
        values = dict(self.chosen)
        return tuple(values.get(k, self.config.first_variant) for k in self.indices(p)) if values else ()

    def variants_here(self, noise: Tensor) -> tuple[int, ...]:
        """The variants of the last erasure of the noise that is about to be sampled, empty where all have that of the
        settings."""
        if self.candidate is not None:
            return (self.candidate.variant,) * len(noise)
        return self.batch.variants

    def is_wanted(self, p: Any) -> bool:
        """Whether this call of the hook is the one to work in."""
        if self.batch.error and self.candidate is None:
            return False
        if not getattr(p, "is_hr_pass", False):
            return self.config.passes in (FIRST, BOTH)
        self.batch.hires_calls += 1
        last = self.session.adapter.hires_calls  # type: ignore[union-attr]
        return self.config.passes in (HIRES, BOTH) and self.batch.hires_calls == last

    def choose(self, p: Any, variants: Sequence[int], auditioned: Sequence[int | None]) -> None:
        """Let each image of this batch go on with a variant of its own."""
        self.batch.variants, self.batch.auditioned = tuple(variants), tuple(auditioned)
        self.chosen += zip(self.indices(p), variants, strict=True)
        self.tell(p, self.indices(p), self.config)

    def tell(self, p: Any, indices: Sequence[int], config: NoiseOrderConfig, error: str = "") -> None:
        """Write what was done, or is about to be, into the infotext of these images of the generation."""
        common: dict[str, str] = infotext.write(config)
        if self.auto and config.inject:
            common[infotext.AUTO] = self.auto
        if self.options.adetailer and config.active:
            common[infotext.INNER] = "True"
        if error:
            common[infotext.ERROR] = error
        for k, index in enumerate(indices):
            own = dict(common)
            if config.active and k < len(self.batch.variants):
                own.update(infotext.write(config.with_variant(self.batch.variants[k])))
                if k < len(self.batch.auditioned) and self.batch.auditioned[k] is not None:
                    own[infotext.AUDITIONED] = str(self.batch.auditioned[k])
            self.images[index] = own
        infotext.clear(p.extra_generation_params)
        p.extra_generation_params.update(infotext.merge(self.images, max(indices, default=0)))

    def left(self, p: Any, reason: str) -> None:
        """The noise of this pass is as it was: of the image, or of a candidate."""
        if self.candidate is not None:
            self.candidate.refuse(reason)
        else:
            self.refuse(p, reason)

    def fail(self, p: Any, reason: str) -> None:
        """Nothing can be done in this generation."""
        self.refusal, self.active = reason, False
        self.refuse(p, reason)

    def refuse(self, p: Any, reason: str) -> None:
        """Say in the console, below the image and in the infotext that the noise was left as it is, and why."""
        reason = " ".join(reason.split())
        if getattr(p, "is_hr_pass", False):
            reason = f"hires pass: {reason}"
        self.batch.error = reason
        self.refusals.append(reason)
        # A pass that was modulated is told: the image can only be made again with it.
        config = self.config.replace(passes=next(iter(self.batch.passes))) if self.batch.passes else OFF
        self.tell(p, self.indices(p) if self.batches else range(p.batch_size * p.n_iter), config, reason)
        self.say(p, f"Noise left as it is. {reason}", log.warn)

    def stop_if_wanted(self) -> None:
        """End the generation where the user wants that."""
        if self.options.on_failure == STOP:
            shared.state.interrupt()

    def say(self, p: Any, message: str, write: Any = log.info) -> None:
        """Say it in the console and below the image."""
        write(message)
        if hasattr(p, "comment"):
            p.comment(f"Noise Order: {message}")

    def report(self, report: Report) -> None:
        """What was done, in the console, as much as the user wants to read there."""
        if self.options.console == ERRORS:
            return
        log.info(str(report))
        if self.options.console == EVERYTHING:
            log.info(f"settings: {', '.join(f'{k}: {v}' for k, v in infotext.write(self.config).items())}")
            levels = ", ".join(f"{level.fraction:g} (sigma {level.sigma:.4g})" for level in report.levels)
            log.info(f"levels evaluated: {levels or 'none'}")

    def outcome(self, p: Any) -> str:
        """What was done, for the panel."""
        # Refused in `process`, it was refused for all of them.
        text = outcome.summary(self.reports, self.refusals, 1 if self.refusal else p.n_iter)
        if self.audition is not None:
            text = ". ".join(part for part in (text, self.audition.outcome()) if part)
        if self.auto and self.reports:
            text += f". Auto: “{self.auto}”"
        return text


class Look:
    """The inspector's look at one batch: copies beforehand, and afterwards what the model sees in both noises."""

    def __init__(self, generation: Generation, user: str | None, denoiser: Any, noise: Tensor) -> None:
        self.generation, self.user, self.denoiser, self.before = generation, user, denoiser, noise.clone()

    def watch(self, erased: Tensor) -> None:
        self.erased = erased.clone()

    def finish(self, after: Tensor) -> None:
        """The noise is written already: nothing that goes wrong here may reach the image."""
        denoiser, generation = self.denoiser, self.generation
        inspections = generation.session.inspections
        noises = {"before": self.before, "erased": self.erased, "after": after}
        if not inspections.room(self.user, denoiser.stage):
            return
        previous = denoiser.evaluations
        try:
            level_previews = previews(self.before, after, modulation(generation.config), denoiser)
            images = inspector.observe(denoiser.seeds, denoiser.stage, noises, level_previews, denoiser.preview)
        except Exception:
            log.exception("the inspector failed")
            images = inspector.observe(denoiser.seeds, denoiser.stage, noises)
        cost = denoiser.evaluations - previous
        inspections.keep(self.user, generation.config, cost, images)
        if generation.options.console != ERRORS:
            log.info(f"inspector: {cost} more evaluations per image")


def generation_of(session: Session, p: Any) -> Generation:
    """The generation of a processing object, made where there is none; a copy of p gets one of its own."""
    own: Generation | None = getattr(p, ATTRIBUTE, None)
    if own is None or own.owner() is not p:
        own = Generation(session, p, own.overrides if own is not None else None)
        setattr(p, ATTRIBUTE, own)
    return own
