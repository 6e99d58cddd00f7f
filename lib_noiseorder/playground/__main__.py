"""`python -m lib_noiseorder.playground`: the page, or with --prompt a report and a contact sheet."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from ..config import FIELDS
from ..core import Unsupported
from ..presets import PRESETS, follow
from .audition import audition
from .comparison import CFG_SCALE, COUNT, MODEL, STEPS, compare, load
from .models import MODELS
from .picture import contact_sheet, grid


def parser() -> argparse.ArgumentParser:
    """The command line; the settings of Noise Order come from their table."""
    command = argparse.ArgumentParser("python -m lib_noiseorder.playground", description=__doc__)
    command.add_argument("--prompt", help='e.g. "a red cross left of a blue ring"; without it the page is opened')
    command.add_argument("--negative", default="", help="negative prompt: another scene, default none")
    command.add_argument("--model", default=MODEL, choices=list(MODELS))
    command.add_argument("--seed", type=int, default=1, help="seed of the first image")
    command.add_argument("--count", type=int, default=COUNT, help="how many images, seeds counting up")
    command.add_argument("--steps", type=int, help=f"default: {STEPS}, or as many as the model was distilled to")
    command.add_argument("--cfg", type=float, help=f"CFG scale; default: {CFG_SCALE:g}, or 1 for a distilled model")
    command.add_argument(
        "--save", type=Path, help="file for the images, labelled; without it only the report is written"
    )
    command.add_argument("--port", type=int, help="of the page; default: the first free one from 7860")
    command.add_argument("--no-browser", action="store_true", help="serve the page without opening it")
    command.add_argument("--data", type=Path, help="folder of your own presets; default: the system's")
    settings = command.add_argument_group("Noise Order")
    settings.add_argument("--preset", default="Default", choices=list(PRESETS))
    for field in FIELDS[1:]:
        option = "--" + field.name.replace("_", "-")
        text = f"{field.help} ({field.allowed})".replace("%", "%%")
        if isinstance(field.default, bool):
            settings.add_argument(option, dest=field.name, action="store_true", default=None, help=field.help)
            continue
        settings.add_argument(
            option, dest=field.name, type=type(field.default), choices=field.choices or None, help=text
        )
    return command


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    if options.prompt is None:
        from .page import launch

        launch(options.port, not options.no_browser, options.data)
        return
    model = MODELS[options.model]
    steps = model.distilled or STEPS if options.steps is None else options.steps
    cfg = (1.0 if model.distilled else CFG_SCALE) if options.cfg is None else options.cfg
    changes = {
        field.name: getattr(options, field.name) for field in FIELDS[1:] if getattr(options, field.name) is not None
    }
    try:
        config, _ = follow(PRESETS[options.preset].replace(**changes), model.family)
        seeds = range(options.seed, options.seed + options.count)
        title = f'"{options.prompt}"  |  {model.words}  |  {steps} steps  |  CFG {cfg:g}'.replace("ε", "epsilon")
        if config.audition:
            sheet = audition(load(options.model), options.prompt, options.negative, seeds, steps, cfg, config)
            finish(contact_sheet(sheet, title), [f"Audition: {sheet.tally()}", *sheet.choices()], options.save)
            return
        comparison = compare(load(options.model), options.prompt, options.negative, seeds, steps, cfg, config)
    except (ValueError, Unsupported) as error:
        raise SystemExit(f"error: {error}") from None
    report = {"Without": comparison.without.tally()} | {
        name.capitalize(): side.tally() for name, side in comparison.between.items()
    }
    report |= {"With": comparison.modulated.tally(), "Noise": comparison.noise()}
    finish(grid(comparison, title), [f"{name + ':':10}{text}" for name, text in report.items()], options.save)


def finish(image: Image.Image, lines: list[str], file: Path | None) -> None:
    """Print the report, and save the image where a file was given."""
    print("\n".join(lines))
    if file:
        image.save(file)
        print(f"Saved:    {file}")
    else:
        print("The images are not saved: --save FILE.png keeps them")


if __name__ == "__main__":
    main()
