"""Beside the image: the same seeds without Noise Order, only erased or only injected, and all of them in one grid.

Every comparison is a generation of the host's own, from a copy of the processing object as it was before anything was
done to it, with the prompts and seeds that were resolved meanwhile. What other extensions remember is for it as it was
then, and afterwards as the image left it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modules import images, processing, shared
from modules.paths import data_path

from .. import log
from ..config import COMPARE, VARIANTS, SettingError
from ..core.streams import Generators, global_generators, keep_generators, set_global_generators
from ..hosts.isolation import Memory, extensions_of
from ..webui import infotext
from ..webui.sheet import Sheet, resize

if TYPE_CHECKING:
    from ..session import Session
    from .generation import Generation

OURS = "Noise Order"
IMAGES = (
    *("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds", "n_iter", "batch_size"),
    *("all_hr_prompts", "all_hr_negative_prompts"),
)
"""What of a generation says which images it makes."""
LISTS = ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds")
"""What the hosts' results have for each image."""
WHOLE = ("xyz_grid", "prompts_from_file", "prompt_matrix", "loopback", "img2imgalt")
"""The hosts' scripts whose generations make whole images, by the names of their files."""
Images = tuple[list[Any], list[str]]
"""Images and their infotexts."""


class Comparisons:
    """What is to be made beside the images of a generation.

    original: a copy of p from before anything was done to it; generators: the global random numbers then (img2img's VAE
    draws there); memory: what other extensions remembered then.
    """

    def __init__(self, generation: Generation, p: Any) -> None:
        self.generation = generation
        self.original = duplicate(p)
        self.generators: Generators = global_generators()
        self.memory = Memory(extensions_of(p))

    @classmethod
    def begin(cls, generation: Generation, p: Any) -> Comparisons | None:
        """Hook `before_process`: remember the generation as it is; None, with a reason, where nothing can be made."""
        reason = why_not(p)
        if reason:
            generation.say(p, f"Nothing is made beside the image. {reason}")
            return None
        return cls(generation, p)

    def count_jobs(self, p: Any) -> None:
        """Let the progress bar know of them; a hires pass is a job of its own."""
        jobs = p.n_iter * len(self.generation.config.variants)
        shared.state.job_count += jobs * 2 if getattr(p, "enable_hr", False) else jobs

    def finish(self, p: Any, processed: Any) -> None:
        """Hook `postprocess`: make them and put them and the grid into the result."""
        config, own = self.generation.config, images_of(p, processed)
        made: dict[str, Images] = {}
        notes = [f"{name}: the same as another image" for name in config.comparisons if name not in config.variants]
        if self.generation.refusals or not own[0]:
            notes = ["nothing to compare with: the noise was left as it is, or there is no image"]
        else:
            for name in config.variants:
                try:
                    result = None if stopped() else self.make(p, name)
                except Exception as error:  # the images that are there must not be lost
                    log.exception(f"{name} was not made")
                    notes.append(f"{name}: {type(error).__name__}: {error}")
                    continue
                if stopped() or result is None:
                    notes.append(f"{name}: interrupted")
                    break
                if len(result[0]) == len(own[0]):
                    made[name] = result
                else:
                    count = f"{len(result[0])} instead of {len(own[0])} images, by another script"
                    notes.append(f"{name}: {count if result[0] else 'the noise was left as it is'}")
        if made:
            extend(processed, own, made)
            try:
                add_grid(p, processed, own, made)
            except Exception as error:  # a Pillow without what the host's drawing needs: the images are there
                log.exception("the grid was not made")
                notes.append(f"grid: {type(error).__name__}: {error}")
        if notes:
            message = " ".join(f"Not made: {'; '.join(notes)}".split())
            log.info(message)
            # p.comment would be too late: the hosts have already put the comments together.
            processed.comments += f"{OURS}: {message}\n"

    def make(self, p: Any, name: str) -> Images:
        """One comparison by the host itself; no images if its noise had to be left as it is."""
        q = self.child(p, name)
        with closing(q), self.undisturbed(q, name):
            processed = processing.process_images(q)
            own = self.generation.session.generation(q)
            return ([], []) if own.refusals else images_of(q, processed)

    def child(self, p: Any, name: str) -> Any:
        """The processing object of one comparison: the copy with the resolved prompts and seeds and our settings."""
        q = duplicate(self.original)
        q.prompt, q.negative_prompt, q.styles = as_prompt(p.all_prompts), as_prompt(p.all_negative_prompts), []
        q.seed = as_seed(p.all_seeds, 0 if p.subseed_strength else 1)
        q.subseed = as_seed(p.all_subseeds, 1)
        if getattr(p, "enable_hr", False):
            q.hr_prompt, q.hr_negative_prompt = as_prompt(p.all_hr_prompts), as_prompt(p.all_hr_negative_prompts)
        q.do_not_save_grid = True
        if not shared.opts.save_images_add_number:
            # Files named by the seed alone would overwrite each other.
            q.override_settings["save_images_add_number"] = True
        q.extra_generation_params[infotext.VARIANT] = name
        self.generation.adopt(q, p, name, {**VARIANTS[name], "audition": 0, **dict.fromkeys(COMPARE, False)})
        return q

    @contextmanager
    def undisturbed(self, q: Any, name: str) -> Iterator[None]:
        """The global random numbers and the memory of extensions as they were for the image, and afterwards as now."""
        options, state = shared.cmd_opts, shared.state
        no_history, text = options.no_prompt_history, state.textinfo
        memory = Memory(extensions_of(q))
        # params.txt is to hold what the user asked for, not what is made beside it.
        options.no_prompt_history = True
        state.textinfo = f"{OURS}: also making {name}"
        try:
            with keep_generators():
                set_global_generators(self.generators)
                self.memory.restore()
                yield
        finally:
            memory.restore()
            options.no_prompt_history, state.textinfo = no_history, text


def duplicate(p: Any) -> Any:
    """A copy with lists and dicts of its own, that what happens to one does not show in the other."""
    q = copy.copy(p)
    for name, value in list(vars(q).items()):
        # The hosts' caches of encoded prompts are meant to be shared.
        if type(value) in (dict, list) and not name.startswith("cached_"):
            setattr(q, name, copy.copy(value))
    return q


def settle(q: Any, images: dict[str, Any]) -> None:
    """Hook `process` of a comparison: what scripts that make several prompts of one (Dynamic Prompts) did is undone."""
    for name, value in images.items():
        setattr(q, name, copy.copy(value))


def settled(p: Any) -> dict[str, Any]:
    """Which images a generation makes, as it came out."""
    return {name: copy.copy(getattr(p, name)) for name in IMAGES if hasattr(p, name)}


def single_out(p: Any, image: int) -> None:
    """Hook `process`, once prompts and seeds are settled: make this image of the batch alone. Raises SettingError."""
    count = len(p.all_seeds)
    if image >= count:
        raise SettingError(
            f"the chosen preview is of image {image + 1}, and the tab makes {count} now: set Batch count and Batch "
            "size as they were, or press Audition again"
        )
    for name in IMAGES:
        if isinstance(getattr(p, name, None), list):
            setattr(p, name, getattr(p, name)[image : image + 1])
    p.n_iter = p.batch_size = 1


def script_of(p: Any) -> Any:
    """The script chosen under "Script", None where none is."""
    index = p.script_args[0] if p.script_args else None
    scripts = getattr(p.scripts, "selectable_scripts", [])
    if not isinstance(index, int) or isinstance(index, bool) or index <= 0:
        return None
    return scripts[index - 1] if index <= len(scripts) else object()


def why_not(p: Any) -> str:
    """Why more images than the caller expects would break what it does with them; empty if they would not."""
    if getattr(p, "txt2img_upscale", False):
        return "the upscale button replaces one image by one"
    script = script_of(p)
    # The X/Y/Z plot takes the first image, which is our grid; others put tiles or loops together.
    if script is not None and hasattr(script, "filename") and Path(script.filename).name != "xyz_grid.py":
        return f'the script "{script.title()}" counts on the images it asked for'
    return ""


def in_pieces(p: Any) -> str:
    """Why an audition would choose for parts of one image (SD upscale, outpainting); empty where it would not.

    Scripts that make an image of several generations do not let the host save the parts. Nor does a request to the API
    that wants no files: so the hosts' own scripts that make whole images are known by name.
    """
    script = script_of(p)
    if script is None or not p.do_not_save_samples or not hasattr(script, "filename"):
        return ""
    if Path(script.filename).stem in WHOLE:
        return ""
    return (
        f'the script "{script.title()}" makes one image of several generations, each of which would choose a variant '
        "of its own: choose Variant by hand"
    )


def pause_history(session: Session) -> None:
    """Have the host write no params.txt, Neo rather late in a generation: it is to hold what makes an image."""
    if session.no_prompt_history is None:
        session.no_prompt_history = shared.cmd_opts.no_prompt_history
        shared.cmd_opts.no_prompt_history = True


def resume_history(session: Session) -> None:
    """Undo that, when the generation has ended or another begins."""
    if session.no_prompt_history is not None:
        shared.cmd_opts.no_prompt_history, session.no_prompt_history = session.no_prompt_history, None


def write_params_txt(p: Any) -> None:
    """What the hosts write before sampling, for the button that brings back the last generation."""
    text = processing.Processed(p, []).infotext(p, 0)
    Path(data_path, "params.txt").write_text(text, encoding="utf8")


def replace_images(processed: Any, contact_sheet: Sheet, count: int) -> None:
    """Let the result of a generation be the first previews, with everything that the hosts index alike."""
    previews = contact_sheet.previews[:count]
    processed.images = [resize(preview.picture, contact_sheet.size) for preview in previews]
    processed.infotexts = [text or "" for text in contact_sheet.infotexts[:count]]
    processed.index_of_first_image = 0
    for name in LISTS:
        values = getattr(processed, name)
        setattr(processed, name, [values[preview.image] for preview in previews] or values)
    if shared.opts.enable_pnginfo:
        for image, text in zip(processed.images, processed.infotexts, strict=True):
            image.info["parameters"] = text


def stopped() -> bool:
    state = shared.state
    return bool(state.interrupted or state.skipped or state.stopping_generation)


def images_of(p: Any, processed: Any) -> Images:
    """The images made, without grid and masks, and their infotexts."""
    first = processed.index_of_first_image
    # In inpainting each image can be followed by its mask and by the masked part; infotexts are of images alone.
    masked = getattr(p, "mask_for_overlay", None) is not None
    stride = 1 + (masked and option("return_mask")) + (masked and option("return_mask_composite"))
    texts = processed.infotexts[first:]
    own = processed.images[first::stride][: len(texts)]
    return own, texts[: len(own)]


def option(name: str) -> bool:
    """A setting of the host; ersatzForge has neither masks in its results nor extended names of grids."""
    return bool(getattr(shared.opts, name, False))


def as_prompt(prompts: Sequence[str]) -> str | list[str]:
    """One text if it is that of every image: AUTOMATIC1111's script for comments fails at a list in the hires pass."""
    return prompts[0] if len(set(prompts)) == 1 else list(prompts)


def as_seed(seeds: Sequence[int], step: int) -> int | list[int]:
    """One seed where the host counts these up from it: Dynamic Prompts fails at a list."""
    counted = [seeds[0] + step * k for k in range(len(seeds))]
    return seeds[0] if list(seeds) == counted else list(seeds)


def extend(processed: Any, own: Images, made: dict[str, Images]) -> None:
    """Put the comparisons behind the images, with everything the hosts index alike."""
    # Masks and ControlNet's maps come without infotexts, which would shift ours.
    missing = len(processed.images) - len(processed.infotexts)
    processed.infotexts = [*processed.infotexts, *[own[1][0]] * missing]
    for extra, texts in made.values():
        processed.images.extend(extra)
        processed.infotexts.extend(texts)
    for name in LISTS:
        # New lists: these are the processing object's own.
        values = list(getattr(processed, name))
        setattr(processed, name, values + values[: len(own[0])] * len(made))


def add_grid(p: Any, processed: Any, own: Images, made: dict[str, Images]) -> None:
    """Put the labelled grid first, as the hosts do with theirs, and save it where they would save theirs."""
    opts = shared.opts
    picture, text = grid(own[0], {name: result[0] for name, result in made.items()}, p.all_seeds), own[1][0]
    if opts.enable_pnginfo:
        picture.info["parameters"] = text
    if opts.return_grid:
        processed.images.insert(0, picture)
        processed.infotexts.insert(0, text)
        processed.index_of_first_image += 1
    if opts.grid_save and not p.do_not_save_grid:
        images.save_image(
            picture,
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


def grid(own: list[Any], made: dict[str, list[Any]], seeds: Sequence[int]) -> Any:
    """The host's labelled grid: a row for every seed, a column for the image and one for every comparison, in the order
    of the gallery."""
    columns = {OURS: own, **{name.capitalize(): column for name, column in made.items()}}
    cells = [column[row] for row in range(len(own)) for column in columns.values()]
    width, height = max(cell.width for cell in cells), max(cell.height for cell in cells)
    return images.draw_grid_annotations(
        images.image_grid(cells, rows=len(own)),
        width,
        height,
        [[images.GridAnnotation(title)] for title in columns],
        [[images.GridAnnotation(f"Seed {seed}")] for seed in seeds[: len(own)]],
    )
