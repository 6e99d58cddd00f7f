"""Beside the image: the same seeds without Noise Order, only erased or only injected, and all of them in one grid.

Every variant is a generation of the host's own, from a copy of the processing object as it was before anything was
done to it, with the prompts and seeds that were resolved meanwhile.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from modules import images, processing, shared

from ..config import COMPARE, VARIANTS, SettingError, parse
from ..core.streams import global_generators
from ..webui import infotext, xyz
from . import hook
from .copies import OURS, Images, Snapshot, duplicate, follow, images_of, option, stopped, undisturbed

SNAPSHOT = "_noiseorder_compare"
"""On the processing object, from before_process to postprocess: what the variants are made from; else None."""


def keep(p: Any, args: Sequence[Any]) -> None:
    """Hook `before_process`: remember the generation as it is, if variants of it are wanted."""
    setattr(p, SNAPSHOT, None)
    if hasattr(p, hook.VARIANT) or getattr(p, "_ad_inner", False):
        return
    try:
        config = parse(args, xyz.overrides(p))
    except SettingError:  # told in `process`
        return
    if not config.active or not config.comparisons:
        return
    reason = why_not(p)
    if reason:
        hook.say(p, f"Nothing is made beside the image. {reason}")
        return
    setattr(p, SNAPSHOT, Snapshot(duplicate(p), global_generators()))


def why_not(p: Any) -> str:
    """Why more images than the caller expects would break what it does with them; empty if they would not."""
    if getattr(p, "txt2img_upscale", False):
        return "the upscale button replaces one image by one"
    index = p.script_args[0] if p.script_args else None
    scripts = getattr(p.scripts, "selectable_scripts", [])
    if isinstance(index, int) and 0 < index <= len(scripts):
        script = scripts[index - 1]
        # The X/Y/Z plot takes the first image, which is our grid; others put tiles or loops together.
        if Path(script.filename).name != "xyz_grid.py":
            return f'the script "{script.title()}" counts on the images it asked for'
    return ""


def count(p: Any) -> None:
    """Hook `process`, after the settings were checked: the progress bar is to know of the variants."""
    job, state = getattr(p, hook.STATE, None), shared.state
    if job is None or getattr(p, SNAPSHOT, None) is None:
        return
    jobs = p.n_iter * len(job.config.variants)
    if state.job_count == -1:
        state.job_count = p.n_iter
    # With hires fix the hosts double the count, but only in the first generation of an X/Y/Z plot.
    if getattr(p, "enable_hr", False) and state.processing_has_refined_job_count:
        jobs *= 2
    state.job_count += jobs


def finish(p: Any, processed: Any) -> None:
    """Hook `postprocess`: make the variants and put them and the grid into the result."""
    snapshot, job = getattr(p, SNAPSHOT, None), getattr(p, hook.STATE, None)
    setattr(p, SNAPSHOT, None)
    if snapshot is None or job is None:
        return
    own = images_of(p, processed)
    variants: dict[str, Images] = {}
    notes = [f"{name}: the same as another image" for name in job.config.comparisons if name not in job.config.variants]
    if job.refusals or not own[0]:
        notes = ["nothing to compare with: the noise was left as it is, or there is no image"]
    else:
        for name in job.config.variants:
            try:
                result = None if stopped() else make(snapshot, p, name)
            except Exception as error:  # the images that are there must not be lost
                traceback.print_exc()
                notes.append(f"{name}: {type(error).__name__}: {error}")
                continue
            if stopped() or result is None:
                notes.append(f"{name}: interrupted")
                break
            if len(result[0]) == len(own[0]):
                variants[name] = result
            else:
                count = f"{len(result[0])} instead of {len(own[0])} images"
                notes.append(f"{name}: {f'{count}, by another script' if result[0] else 'the noise was left as it is'}")
    if variants:
        extend(processed, own, variants)
        try:
            add_grid(p, processed, own, variants)
        except Exception as error:  # a Pillow without what the host's drawing needs: the images are there all the same
            traceback.print_exc()
            notes.append(f"grid: {type(error).__name__}: {error}")
    if notes:
        message = " ".join(f"Not made: {'; '.join(notes)}".split())
        print(f"[{OURS}] {message}")
        # p.comment would be too late: the hosts have already put the comments together.
        processed.comments += f"{OURS}: {message}\n"


def make(snapshot: Snapshot, p: Any, name: str) -> Images:
    """One variant by the host itself; no images if its noise had to be left as it is."""
    q = variant(snapshot.p, p, name)
    with closing(q), undisturbed(snapshot, f"also making {name}"):
        processed = processing.process_images(q)
        job = getattr(q, hook.STATE, None)
        return ([], []) if job is not None and job.refusals else images_of(q, processed)


def variant(original: Any, p: Any, name: str) -> Any:
    """The processing object of one variant: the kept one with the resolved prompts and seeds and our settings."""
    q = duplicate(original)
    follow(q, p)
    q.do_not_save_grid = True
    if not shared.opts.save_images_add_number:
        # Files named by the seed alone would overwrite each other.
        q.override_settings["save_images_add_number"] = True
    q.extra_generation_params[infotext.VARIANT] = name
    xyz.put(q, {**VARIANTS[name], "audition": 0, **dict.fromkeys(COMPARE, False)})
    setattr(q, hook.VARIANT, name)
    return q


def extend(processed: Any, own: Images, variants: dict[str, Images]) -> None:
    """Put the variants behind the images, with everything the hosts index alike."""
    # Masks and ControlNet's maps come without infotexts, which would shift ours.
    missing = len(processed.images) - len(processed.infotexts)
    processed.infotexts = [*processed.infotexts, *[own[1][0]] * missing]
    for extra, texts in variants.values():
        processed.images.extend(extra)
        processed.infotexts.extend(texts)
    for name in ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds"):
        # New lists: these are the processing object's own.
        values = list(getattr(processed, name))
        setattr(processed, name, values + values[: len(own[0])] * len(variants))


def add_grid(p: Any, processed: Any, own: Images, variants: dict[str, Images]) -> None:
    """Put the labelled grid first, as the hosts do with theirs, and save it where they would save theirs."""
    opts = shared.opts
    sheet, text = grid(own[0], {name: result[0] for name, result in variants.items()}, p.all_seeds), own[1][0]
    if opts.enable_pnginfo:
        sheet.info["parameters"] = text
    if opts.return_grid:
        processed.images.insert(0, sheet)
        processed.infotexts.insert(0, text)
        processed.index_of_first_image += 1
    if opts.grid_save and not p.do_not_save_grid:
        images.save_image(
            sheet,
            p.outpath_grids,
            "grid",
            p.all_seeds[0],
            p.all_prompts[0],
            opts.grid_format,
            info=text,
            short_filename=not option("grid_extended_filename"),
            p=p,
            grid=True,
        )


def grid(own: list[Any], variants: dict[str, list[Any]], seeds: Sequence[int]) -> Any:
    """The host's labelled grid: a row for every seed, a column for the image and one for every variant, in the order
    of the gallery."""
    columns = {OURS: own, **{name.capitalize(): column for name, column in variants.items()}}
    cells = [column[row] for row in range(len(own)) for column in columns.values()]
    width, height = max(cell.width for cell in cells), max(cell.height for cell in cells)
    return images.draw_grid_annotations(
        images.image_grid(cells, rows=len(own)),
        width,
        height,
        [[images.GridAnnotation(title)] for title in columns],
        [[images.GridAnnotation(f"Seed {seed}")] for seed in seeds[: len(own)]],
    )
