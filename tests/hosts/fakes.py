"""Hosts as they behave at our hooks, and nothing else: each behaviour is one that tests/live shows in the real host.

A1111 1.10.1: the hook gets x, noise, c, uc, in txt2img x is noise; only a change of noise in place counts; every
Exception of a script is swallowed; params.txt is written between process_batch and the hook. SD3 is a flow model whose
own method mixes noise and image, and its conditionings are dicts.
Forge main: the same, and: everything runs in inference_mode; uc is None at CFG 1; `p.modified_noise` is used and
cleared after the hook; the hires pass calls the hook twice; sampling_prepare appends to a list in place.
reForge main: as Forge, but: uc is there at CFG 1 too; the hires pass calls the hook once; a missing negative prompt
gives zeros; inpainting models get mask and masked image as A1111's do.
Forge Neo: as Forge main, but: the hires pass calls the hook once; latents may have five dimensions; the mask has a
batch dimension; Qwen-Image's image to start from has batch 1; noise_scaling takes a sigma of any rank, but no number.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import tempfile
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image

import lib_noiseorder

FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
ROOT = Path(__file__).parents[2]
BOUND = tuple(f"lib_noiseorder.{name}" for name in ("hosts", "generation", "session"))
"""What is bound to a WebUI's modules, and made anew for each; all else is loaded once."""
SIGMAS = torch.linspace(-3.5, 2.68, 1000).exp()
FLOW_SIGMAS = torch.arange(1, 1001) / 1000


class InterruptedException(BaseException):
    """As in both hosts: no `except Exception` stops it."""


@dataclass
class Scheduled:
    end_at_step: int
    cond: Any


@dataclass
class Composable:
    schedules: list[Scheduled]
    weight: float = 1.0


@dataclass
class Multicond:
    batch: list[list[Composable]]


def at_step(schedules: list[Scheduled], step: int) -> Any:
    return next((entry.cond for entry in schedules if step <= entry.end_at_step), schedules[-1].cond)


def stack(conds: list[Any]) -> Any:
    if isinstance(conds[0], dict):
        return {key: torch.stack([cond[key] for cond in conds]) for key in conds[0]}
    return torch.stack(conds)


def reconstruct_multicond_batch(c: Multicond, step: int) -> tuple[list[list[tuple[int, float]]], Any]:
    flat, parts = [], []
    for image in c.batch:
        parts.append([(len(flat) + k, part.weight) for k, part in enumerate(image)])
        flat += [at_step(part.schedules, step) for part in image]
    return parts, stack(flat)


def reconstruct_cond_batch(uc: list[list[Scheduled]], step: int) -> Any:
    return stack([at_step(schedules, step) for schedules in uc])


def encode(prompt: str, sdxl: bool = False) -> Any:
    """A "text encoder": one number per prompt, so that conditionings can be told apart. "[a:b:.5]" is scheduled."""
    value = torch.tensor([[float(sum(map(ord, prompt.strip())) % 97) / 50 - 1]])
    return {"crossattn": value, "vector": value[0]} if sdxl else value


def scheduled(prompt: str, sdxl: bool = False) -> list[Scheduled]:
    if prompt.startswith("[") and prompt.endswith(":.5]"):
        before, after = prompt[1:-4].split(":")
        return [Scheduled(2, encode(before, sdxl)), Scheduled(4, encode(after, sdxl))]
    return [Scheduled(4, encode(prompt, sdxl))]


def multicond(prompts: list[str], sdxl: bool = False) -> Multicond:
    batch = []
    for prompt in prompts:
        parts = []
        for part in prompt.split(" AND "):
            text, _, weight = part.partition(" :")
            parts.append(Composable(scheduled(text, sdxl), float(weight or 1)))
        batch.append(parts)
    return Multicond(batch)


class Network(torch.nn.Module):
    """x0 of a posterior mean: a fixed pattern times the conditioning's number. Counts its rows and can fail."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.rows, self.calls, self.inputs = kind, 0, 0, []
        self.before: Callable[[], None] = lambda: None

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        self.before()
        self.rows += len(x)
        self.calls += 1
        self.inputs.append((x.clone(), sigma.clone(), cond.clone()))
        generator = torch.Generator().manual_seed(4)
        pattern = torch.randn(x.shape[1:], generator=generator)[None]
        mean = pattern * cond.reshape(-1, *[1] * (x.ndim - 1))
        s = sigma.reshape(-1, *[1] * (x.ndim - 1))
        if self.kind == "const":
            return mean + (1 - s) / ((1 - s) ** 2 + s**2) * (x - (1 - s) * mean)
        return mean + (x - mean) / (1 + s**2)


class ImageRNG:
    """modules.rng.ImageRNG, without variation seeds: the noise first, then what samplers draw in their steps."""

    def __init__(
        self,
        shape: tuple[int, ...],
        seeds: list[int],
        subseeds: Any = None,
        subseed_strength: float = 0.0,
        seed_resize_from_h: int = 0,
        seed_resize_from_w: int = 0,
    ) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.shape, self.seeds, self.subseeds, self.subseed_strength = shape, seeds, subseeds, subseed_strength
        self.seed_resize_from_h, self.seed_resize_from_w = seed_resize_from_h, seed_resize_from_w

    def next(self) -> torch.Tensor:
        torch.manual_seed(self.seeds[0])
        return torch.stack([torch.randn(self.shape, generator=generator) for generator in self.generators])


@dataclass
class Processing:
    """What our code reads of a host's `p`."""

    prompts: list[str]
    negative: list[str]
    seeds: list[int]
    cfg_scale: float = 5.0
    is_hr_pass: bool = False
    extra_generation_params: dict[str, Any] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)
    sd_model: Any = None
    sdxl: bool = False
    steps: int = 10
    denoising_strength: float = 0.5
    enable_hr: bool = field(default_factory=bool)
    """img2img has no such attribute in any host: a test can delete it."""
    hr_second_pass_steps: int = 0
    hr_cfg: float = 3.0
    initial_noise_multiplier: float | None = None
    sampler: Any = None
    image_conditioning: Any = None
    nmask: Any = None
    prompt: Any = ""
    negative_prompt: Any = ""
    seed: Any = 1
    subseed: Any = 2
    styles: list[str] = field(default_factory=list)
    batch_size: int = 1
    n_iter: int = 1
    override_settings: dict[str, Any] = field(default_factory=dict)
    script_args: tuple[Any, ...] = (0,)
    scripts: Any = None
    do_not_save_grid: bool = False
    do_not_save_samples: bool = False
    outpath_grids: str = "grids"
    mask_for_overlay: Any = None
    subseed_strength: float = 0
    width: int = 8
    height: int = 8
    iteration: int = 0
    all_seeds: Any = None
    restore_faces: Any = False
    init_images: int = 0
    sampler_name: str = "Euler a"
    c: Any = None
    uc: Any = None
    user: Any = None
    refiner_checkpoint_info: Any = None
    refiner_switch_at: Any = None
    all_prompts: Any = None
    rng: Any = None

    def sample(self, **arguments: Any) -> torch.Tensor:
        """One batch, from its noise to its latents, with the hook in it."""
        host, args, errors = self.__dict__["host"]
        if host.fresh_sampler:
            self.sampler = Sampler(host.network, self.sampler_name != "Euler")
        noise = self.rng.next()
        c, uc = self.c, self.uc
        used = host.process_before_every_sampling(self, args, errors, noise, noise, c, uc)
        host.sampled(self)
        samples = self.sampler.sample(self, used)
        host.steps_run.append(self.sampler.step_count)
        self.sampler.step_count = 0
        if getattr(self, "enable_hr", False):
            host.state.nextjob()  # between the passes
            host.hires_run.append(self.seeds)
        return samples

    def close(self) -> None:
        self.sampler = None

    def sample_hr_pass(self, host: FakeHost, call: tuple[Any, ...]) -> torch.Tensor:
        """A1111: one call of the hook."""
        return host.process_before_every_sampling(*call)

    def txt2img_image_conditioning(self, x: torch.Tensor) -> torch.Tensor:
        """Encodes through the VAE, which draws from the global generator."""
        return torch.rand(len(x), 5, *x.shape[2:])

    def comment(self, text: str) -> None:
        self.comments.append(text)


@dataclass
class Result:
    noise: torch.Tensor
    untouched: torch.Tensor
    infotext: dict[str, Any]
    params_txt: dict[str, Any]
    comments: list[str]
    errors: list[Exception]
    hires_noise: torch.Tensor | None = None
    hires_untouched: torch.Tensor | None = None


class ForgeProcessing(Processing):
    """Forge main: two calls with the same noise, the first with the stale patches of the first pass."""

    def sample_hr_pass(self, host: FakeHost, call: tuple[Any, ...]) -> torch.Tensor:
        host.stale = True
        host.script_hook(*call)  # process_before_every_sampling(
        host.stale = False
        return host.process_before_every_sampling(*call)


@dataclass
class NeoProcessing(Processing):
    """Neo writes most of the infotext of a hires pass when that begins, from these; left out here."""

    scheduler: str = "Automatic"
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_upscaler: str | None = "Latent"
    hr_distilled_cfg: float = 3.5

    def get_hr_prompt(self, **known: Any) -> str:
        return "hires prompt"

    def get_hr_negative_prompt(self, **known: Any) -> str:
        return ""

    def sample_hr_pass(self, host: FakeHost, call: tuple[Any, ...]) -> torch.Tensor:
        """One call of the hook."""
        return host.process_before_every_sampling(*call)


class Bare(types.SimpleNamespace):
    """A processing object with these attributes alone."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{"batch_size": 1, "n_iter": 1, "script_args": (), "scripts": None, **attributes})


class Processed:
    """What a generation gives, as far as both hosts agree; Forge has extra_images besides."""

    def __init__(self, images: list[Any], infotexts: list[str], first: int, p: Processing, comments: str) -> None:
        self.images, self.infotexts, self.index_of_first_image, self.comments = images, infotexts, first, comments
        self.all_prompts, self.all_negative_prompts = p.all_prompts, p.all_negative_prompts
        self.all_seeds, self.all_subseeds = p.all_seeds, p.all_subseeds
        self.extra_images = getattr(p, "extra_result_images", None)


def listed(value: Any, count: int) -> list[str]:
    return value if isinstance(value, list) else [value] * count


def as_image(noise: torch.Tensor, encoded: float) -> Any:
    """An "image" that tells the noise it began with and what the VAE drew."""
    noise = noise if noise.ndim == 3 else noise[:, 0]  # a single frame
    pixels = (noise[:3].float() * 40 + 128).clamp(0, 255).byte().movedim(0, 2).contiguous()
    pixels[0, 0] = int(encoded * 255)
    return Image.fromarray(pixels.numpy())


def sample_euler(model: Any, x: Any, sigmas: Any, extra_args: Any, callback: Any, disable: bool) -> torch.Tensor:
    """As k-diffusion's, which the samplers of all hosts call."""
    for step in range(len(sigmas) - 1):
        denoised = model(x, sigmas[step] * x.new_ones(len(x)), **extra_args)
        callback({"x": x, "i": step, "sigma": sigmas[step], "sigma_hat": sigmas[step], "denoised": denoised})
        x = x + (x - denoised) / sigmas[step] * (sigmas[step + 1] - sigmas[step])
    return x


def sample_euler_ancestral(*args: Any, **others: Any) -> torch.Tensor:
    """Draws noise, here in its last step."""
    end = sample_euler(*args, **others)
    return end + torch.randn_like(end)


class Sampler:
    """A k-diffusion sampler: the sigmas of its steps, from pure noise down, and a callback once a step has its x̂0."""

    def __init__(self, network: Network, ancestral: bool = True) -> None:
        self.table = FLOW_SIGMAS if network.kind == "const" else SIGMAS
        self.step_count = 0
        self.func = sample_euler_ancestral if ancestral else sample_euler

    def callback_state(self, values: dict[str, Any]) -> None:
        pass

    def sample(self, p: Processing, noise: torch.Tensor) -> torch.Tensor:
        """The "image" is the noise itself, and so is each x̂0, but for the step in its first number."""
        state, latent = sys.modules["modules.shared"].state, noise
        state.sampling_steps = p.steps
        try:
            for step in range(p.steps):
                if state.interrupted or state.skipped:
                    raise InterruptedException
                self.step_count += 1
                latent = noise.clone()
                latent.view(len(noise), -1)[:, 0] = step / 100
                self.callback_state({"i": step, "denoised": latent})
                state.sampling_step = step
        except InterruptedException:
            return latent / 2  # AUTOMATIC1111: the x̂0 of the prompt alone
        return noise

    def get_sigmas(self, p: Processing, steps: int) -> torch.Tensor:
        return torch.cat([self.table[torch.linspace(999, 0, steps).long()], torch.zeros(1)])


def setup_img2img_steps(p: Processing, steps: int | None = None) -> tuple[int, int]:
    if steps is not None:
        return int(steps / min(p.denoising_strength, 0.999)) if p.denoising_strength > 0 else 0, steps - 1
    return p.steps, int(min(p.denoising_strength, 0.999) * p.steps)


class OptionInfo:
    """modules.shared.OptionInfo, as far as the script uses it."""

    def __init__(self, default: Any, label: str, component: Any, component_args: Any, section: Any) -> None:
        self.default, self.label, self.component, self.component_args = default, label, component, component_args
        self.section, self.comment = section, ""

    def info(self, text: str) -> OptionInfo:
        self.comment += text
        return self

    def needs_reload_ui(self) -> OptionInfo:
        return self.info("reload")


class Opts:
    """modules.shared.opts: what was stored, also under keys that nobody has added yet."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.added: dict[str, OptionInfo] = {}
        self.return_grid = True
        self.grid_save = True
        self.grid_format = "png"
        self.grid_extended_filename = False
        self.enable_pnginfo = True
        self.save_images_add_number = True
        self.return_mask = False
        self.return_mask_composite = False

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.added[key] = info


class DecodedSamples(list):
    already_decoded = True


class FakeHost:
    """One WebUI: installs its modules, loads the script, runs generations."""

    kind: str = "epsilon"
    shape: tuple[int, ...] = (4, 8, 8)
    checkpoint = "tiny.safetensors"
    masks_are_batches = False
    processing: type[Processing] = Processing
    is_sdxl_inpaint = False
    begins = 999 - 999 * 4 // 9
    """Where in the table img2img begins at 10 steps and denoising strength 0.5: the fifth of ten steps."""
    begins_timestep = 501
    calls_the_hook = True
    fresh_sampler = True
    """In img2img the hosts keep one sampler for all batches."""
    params_txt_first = True
    setup_img2img_steps = staticmethod(setup_img2img_steps)

    EXTENSIONS: ClassVar[dict[str, Path]] = {
        "extensions": ROOT / "tests" / "hosts" / "extensions",
        "extensions_builtin": ROOT.parent / "no such folder",
    }

    def __init__(self, monkeypatch: Any) -> None:
        self.monkeypatch = monkeypatch
        for name in list(sys.modules):
            if name.partition(".")[0] in (
                *("modules", "backend", "modules_forge", "ldm_patched", "k_diffusion"),
            ) or name.startswith(BOUND):
                monkeypatch.delitem(sys.modules, name)
        self.state = types.SimpleNamespace(
            interrupted=False,
            skipped=False,
            stopping_generation=False,
            textinfo="before",
            current_latent=None,
            sampling_step=4,
            sampling_steps=9,
            job_no=0,
            job_count=-1,
            processing_has_refined_job_count=False,
        )
        self.state.interrupt = lambda: setattr(self.state, "interrupted", True)
        self.state.nextjob = lambda: vars(self.state).update(job_no=self.state.job_no + 1, sampling_step=0)
        self.opts = Opts()
        self.opts.enable_quantization = False
        self.opts.batch_cond_uncond = True
        self.cmd_opts = types.SimpleNamespace(no_prompt_history=False)
        # Nothing is loaded before the first generation, and on Forge a placeholder stands there.
        self.model_data = types.SimpleNamespace(sd_model=self.no_model())
        self.saved: list[Any] = []
        self.saved_grids: list[Any] = []
        self.restored: list[int] = []
        """Seeds of the images whose faces were restored."""
        self.overridden: list[Any] = []
        self.labels: list[list[str]] = []
        self.approximations: list[int | None] = []
        self.no_decoder = self.black = False
        self.vae_error: Exception | None = None
        self.steps_run: list[int] = []
        self.hires_run: list[Any] = []
        self.data_path = self.folder()
        self.network = Network(self.kind)
        self.module("modules", __path__=[])
        self.module(
            "modules.sd_samplers_common",
            setup_img2img_steps=self.setup_img2img_steps,
            single_sample_to_image=self.single_sample_to_image,
            InterruptedException=InterruptedException,
        )
        self.module("modules.shared", state=self.state, opts=self.opts, cmd_opts=self.cmd_opts, OptionInfo=OptionInfo)
        self.module("modules.sd_models", model_data=self.model_data)
        self.module("modules.paths", data_path=self.data_path)
        self.module("modules.paths_internal", **{f"{name}_dir": str(self.EXTENSIONS[name]) for name in self.EXTENSIONS})
        self.collected = 0
        self.module("modules.devices", torch_gc=self.torch_gc)
        self.module("modules.call_queue", queue_lock=threading.Lock())
        self.module("modules.sd_samplers", find_sampler_config=self.find_sampler_config)
        self.module(
            "modules.processing",
            process_images=lambda p: self.process_images(p),
            get_fixed_seed=self.get_fixed_seed,
            DecodedSamples=DecodedSamples,
            Processed=lambda p, images: types.SimpleNamespace(
                infotext=lambda p, index: self.infotext(p, index, whole=True)
            ),
        )
        self.module(
            "modules.images",
            image_grid=lambda images, batch_size=1, rows=1: self.image_grid(images, rows),
            draw_grid_annotations=lambda *arguments: self.draw_grid_annotations(*arguments),
            GridAnnotation=lambda text: types.SimpleNamespace(text=text),
            save_image=lambda image, *arguments, **settings: self.saved_grids.append((image, settings)),
        )
        self.module("modules.rng", create_generator=self.create_generator, randn_without_seed=self.randn_without_seed)
        self.module(
            "modules.prompt_parser",
            reconstruct_multicond_batch=reconstruct_multicond_batch,
            reconstruct_cond_batch=reconstruct_cond_batch,
        )
        self.module(
            "modules.scripts",
            Script=Script if self.calls_the_hook else OldScript,
            AlwaysVisible=object(),
            scripts_data=[],
        )
        self.before_ui: list[Callable[[], None]] = []
        self.app_started: list[Callable[[Any, Any], None]] = []
        self.ui_settings: list[Callable[[], None]] = []
        self.denoiser_callbacks: list[Any] = []
        self.module(
            "modules.script_callbacks",
            on_before_ui=self.before_ui.append,
            on_app_started=self.app_started.append,
            on_infotext_pasted=lambda callback: None,
            on_ui_settings=self.ui_settings.append,
            callback_map={"callbacks_cfg_denoiser": self.denoiser_callbacks},
            CFGDenoiserParams=DenoiserParams,
        )
        self.module("modules.ui_components", InputAccordion=input_accordion)
        self.install()
        # Of these files: what the tests have loaded is not loaded anew.
        lib_noiseorder.stamp = max(path.stat().st_mtime for path in (ROOT / "lib_noiseorder").rglob("*.py"))
        spec = importlib.util.spec_from_file_location("noiseorder.py", ROOT / "scripts" / "noiseorder.py")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        self.loaded = loaded
        self.script = loaded.NoiseOrderScript()
        self.script.is_img2img = False
        self.schedules = importlib.import_module("lib_noiseorder.hosts.schedule")

    @staticmethod
    def folder() -> str:
        """Where this WebUI keeps its data, for the length of a test."""
        folder = tempfile.TemporaryDirectory(prefix="webui-")
        FOLDERS.append(folder)
        return folder.name

    def module(self, name: str, **contents: Any) -> Any:
        module = types.ModuleType(name)
        module.__dict__.update(contents)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package="__path__" in contents)
        self.monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
        return module

    @staticmethod
    def get_fixed_seed(seed: Any) -> Any:
        return 4711 if seed in ("", None, -1) else seed

    @staticmethod
    def create_generator(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(int(seed))

    def single_sample_to_image(self, sample: torch.Tensor, approximation: int | None = None) -> Any:
        self.approximations.append(approximation)
        if approximation == 0:  # the VAE: takes what the sampler gives, a video's frames too
            if self.vae_error is not None:
                raise self.vae_error
            picture = as_image(sample, 0)
            return Image.new("RGB", picture.size) if self.black else picture
        assert sample.ndim == 3
        if approximation is None and self.no_decoder:
            raise RuntimeError("no network")
        return as_image(sample, 0)

    @staticmethod
    def randn_without_seed(shape: tuple[int, ...], generator: torch.Generator | None = None) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    def install(self) -> None:
        raise NotImplementedError

    def find_sampler_config(self, name: str) -> Any:
        return types.SimpleNamespace(constructor=lambda model: Sampler(self.network, name != "Euler"))

    def torch_gc(self) -> None:
        self.collected += 1

    @staticmethod
    def no_model() -> Any:
        return None

    def swallow(self, errors: list[Exception], call: Callable[[], None]) -> None:
        """What both ScriptRunners do: an Exception is reported and the generation goes on."""
        try:
            call()
        except Exception as error:
            errors.append(error)

    def txt2img(
        self,
        *args: Any,
        hires: bool = False,
        before_process: Callable[[Any], None] = lambda p: None,
        before_hook: Callable[[Any], None] = lambda p: None,
        **settings: Any,
    ) -> Result:
        p = self.processing(
            settings.pop("prompts", ["a cat"]), settings.pop("negative", [""]), settings.pop("seeds", [1]), **settings
        )
        p.enable_hr = hires
        p.sd_model, p.sampler = self.model(p), Sampler(self.network)
        self.model_data.sd_model = p.sd_model
        before_process(p)
        return self.run(p, args, hires, before_hook)

    def begin(self, p: Any, *args: Any) -> None:
        """The hooks before the first batch."""
        self.script.before_process(p, *args)
        self.script.process(p, *args)

    def run(self, p: Processing, args: tuple[Any, ...], hires: bool, before_hook: Callable[[Any], None]) -> Result:
        errors: list[Exception] = []
        p.all_seeds, p.batch_size = p.seeds, len(p.seeds)
        self.swallow(errors, lambda: self.script.before_process(p, *args))
        self.swallow(errors, lambda: self.script.process(p, *args))
        self.swallow(errors, lambda: self.script.process_batch(p, *args, batch_number=0))
        params_txt = self.told(p)
        noise = self.draw(self.shape, p.seeds)
        x = noise
        if self.script.is_img2img:
            # The image to start from, and the noise times the option of that name.
            x = init = self.encoded(torch.full_like(noise, 0.3))
            init_before = init.clone()
            if p.initial_noise_multiplier is not None:
                noise *= p.initial_noise_multiplier
        untouched = noise.clone()
        before_hook(p)
        c, uc = multicond(p.prompts, p.sdxl), self.uncond(p)
        used = self.process_before_every_sampling(p, args, errors, x, noise, c, uc)
        if self.script.is_img2img:
            assert torch.equal(init, init_before), "x is p.init_latent: it must be left alone"
        hires_noise = hires_untouched = None
        if hires:
            p.is_hr_pass = True
            latent = torch.full_like(noise, 0.3)
            *rest, height, width = self.shape
            second = self.draw((*rest, 2 * height, 2 * width), p.seeds)
            latent = torch.full_like(second, 0.3)
            hires_untouched = second.clone()
            hires_noise = p.sample_hr_pass(self, (p, args, errors, latent, second, c, uc))
            assert (latent == 0.3).all()
            p.is_hr_pass = False
        self.swallow(errors, lambda: self.script.post_sample(p, None, *args))
        return Result(
            used,
            untouched,
            self.told(p),
            params_txt,
            p.comments,
            errors,
            hires_noise,
            hires_untouched,
        )

    @staticmethod
    def told(p: Processing) -> dict[str, Any]:
        """What the infotext of the first image holds."""
        known = {"p": p, "index": 0, "all_seeds": p.seeds}
        values = {key: value(**known) if callable(value) else value for key, value in p.extra_generation_params.items()}
        return {key: value for key, value in values.items() if value is not None}

    def process_images(self, p: Processing) -> Processed:
        """A whole generation, in the order of both hosts: what they resolve, build and hand to `postprocess`."""
        errors: list[Exception] = []
        args, opts, state = p.script_args[1:], self.opts, self.state
        self.swallow(errors, lambda: self.script.before_process(p, *args))
        stored = dict(opts.data)
        for key, value in p.override_settings.items():
            self.overridden.append((key, value))
            opts.data[key] = value
        count = p.batch_size * p.n_iter
        p.seed, p.subseed = self.get_fixed_seed(p.seed), self.get_fixed_seed(p.subseed)

        if p.all_prompts is None:
            p.all_prompts = [" ".join([text, *p.styles]) for text in listed(p.prompt, count)]
        count = len(p.all_prompts)
        p.all_negative_prompts = listed(p.negative_prompt, count)
        step = 0 if p.subseed_strength else 1
        p.all_seeds = p.seed if isinstance(p.seed, list) else [p.seed + step * k for k in range(count)]
        p.all_subseeds = p.subseed if isinstance(p.subseed, list) else [p.subseed + k for k in range(count)]
        for other in getattr(p.scripts, "alwayson_scripts", []):
            self.swallow(errors, lambda other=other: other.process(p))
        self.swallow(errors, lambda: self.script.process(p, *args))
        if p.init_images:
            p.batch_size = min(p.batch_size, p.init_images)
            p.all_seeds = p.all_seeds[: p.batch_size * p.n_iter]
        encoded = torch.rand(1).item()  # `init`: the VAE draws from the global generator
        p.sd_model, p.sampler = self.model(p), Sampler(self.network)
        self.model_data.sd_model = p.sd_model
        # The real ones get host and scripts from module globals and `p.scripts`.
        vars(p)["host"] = (self, args, errors)
        p.main_prompt = p.all_prompts[0]
        if state.job_count == -1:
            state.job_count = p.n_iter
        images, infotexts = [], []
        for n in range(p.n_iter):
            p.iteration = n
            state.skipped = False
            if state.interrupted or state.stopping_generation:
                break
            part = slice(n * p.batch_size, (n + 1) * p.batch_size)
            p.prompts, p.negative, p.seeds = p.all_prompts[part], p.all_negative_prompts[part], p.all_seeds[part]
            p.rng = ImageRNG(self.shape, p.seeds)
            self.swallow(errors, lambda n=n: self.script.process_batch(p, *args, batch_number=n))
            if n == 0 and self.params_txt_first and not self.cmd_opts.no_prompt_history:
                self.write_params_txt(p)
            p.c, p.uc = multicond(p.prompts, p.sdxl), self.uncond(p)
            samples = types.SimpleNamespace(samples=p.sample(prompts=p.prompts))
            self.swallow(errors, lambda ps=samples: self.script.post_sample(p, ps, *args))
            used = samples.samples
            if not getattr(used, "already_decoded", False):
                used = [as_image(each.reshape(-1, *each.shape[-2:]), encoded) for each in used]
            else:
                used = [
                    Image.fromarray(((each + 1) * 127.5).clamp(0, 255).byte().movedim(0, 2).numpy()) for each in used
                ]
            if p.restore_faces:
                self.restored += p.seeds
            state.nextjob()
            for k, seed in enumerate(p.seeds):
                images.append(used[k])
                infotexts.append(self.infotext(p, k))
                if p.mask_for_overlay is not None and getattr(opts, "return_mask", False):
                    images.append(p.mask_for_overlay)
                if not p.do_not_save_samples:
                    self.saved.append((seed, infotexts[-1]))
            if n == 0 and not self.params_txt_first and not self.cmd_opts.no_prompt_history:
                self.write_params_txt(p)
        first = 0
        if opts.grid_save and not p.do_not_save_grid and len(images) > 1:
            text = self.infotext(p, 0, use_main_prompt=True)
            self.saved_grids.append((self.image_grid(images), {"info": text, "grid": True}))
        if opts.return_grid and not p.do_not_save_grid and len(images) > 1:
            first = 1
            images.insert(0, self.image_grid(images))
            infotexts.insert(0, self.infotext(p, 0, use_main_prompt=True))
        result = Processed(images, infotexts, first, p, "".join(f"{text}\n" for text in p.comments))
        self.swallow(errors, lambda: self.script.postprocess(p, result, *args))
        opts.data = stored
        assert not errors, errors
        return result

    def infotext(self, p: Processing, index: int, use_main_prompt: bool = False, whole: bool = False) -> str:
        """`create_infotext`, which calls a value that can be called with all it knows of an image.

        index: within the batch, as most hosts count; whole: from the first of all images, as `Processed.infotext` does.
        """
        all_prompts, all_seeds = (p.all_prompts, p.all_seeds) if whole else (p.prompts, p.seeds)
        values = {}
        for key, value in p.extra_generation_params.items():
            if isinstance(value, list):
                values[key] = value[index]
            elif callable(value):
                values[key] = value(**{name: entry for name, entry in locals().items() if name != "self"})
            else:
                values[key] = value
        params = {"Seed": p.all_seeds[0] if use_main_prompt else all_seeds[index], **values}
        prompt = p.main_prompt if use_main_prompt else all_prompts[index]
        return f"{prompt}\n" + ", ".join(f"{key}: {value}" for key, value in params.items() if value is not None)

    def write_params_txt(self, p: Processing) -> None:
        Path(self.data_path, "params.txt").write_text(self.infotext(p, 0, whole=True))

    @property
    def params_txt(self) -> str:
        file = Path(self.data_path, "params.txt")
        return file.read_text() if file.exists() else ""

    def sampled(self, p: Processing) -> None:
        """For a test to do something while an image is being made."""

    def image_grid(self, images: list[Any], rows: int = 1) -> Any:
        columns = len(images) // rows
        width, height = images[0].size
        grid = Image.new("RGB", (columns * width, rows * height))
        for k, image in enumerate(images):
            grid.paste(image, (k % columns * width, k // columns * height))
        return grid

    def draw_grid_annotations(self, grid: Any, width: int, height: int, across: Any, down: Any) -> Any:
        assert (grid.width // width, grid.height // height) == (len(across), len(down)), "as the hosts assert"
        self.labels = [[line.text for line in lines] for texts in (across, down) for lines in texts]
        return grid.copy()

    def draw(self, shape: tuple[int, ...], seeds: list[int]) -> torch.Tensor:
        return ImageRNG(shape, seeds).next()

    def encoded(self, latent: torch.Tensor) -> torch.Tensor:
        """The image to start from, as the host's VAE gives it."""
        return latent

    def uncond(self, p: Processing) -> Any:
        return [scheduled(prompt, p.sdxl) for prompt in p.negative]

    stale = False

    @property
    def sigmas(self) -> torch.Tensor:
        return FLOW_SIGMAS if self.kind == "const" else SIGMAS

    def script_hook(self, p: Any, args: Any, errors: Any, x: Any, noise: Any, c: Any, uc: Any) -> torch.Tensor:
        self.swallow(
            errors,
            lambda: self.script.process_before_every_sampling(p, *args, x=x, noise=noise, c=c, uc=uc),
        )
        return noise

    def process_before_every_sampling(self, *call: Any) -> torch.Tensor:
        return self.script_hook(*call)


class DenoiserParams:
    """modules.script_callbacks.CFGDenoiserParams."""

    def __init__(
        self,
        x: Any,
        image_cond: Any,
        sigma: Any,
        sampling_step: int,
        total_sampling_steps: int,
        text_cond: Any,
        text_uncond: Any,
        denoiser: Any = None,
    ) -> None:
        vars(self).update({name: value for name, value in locals().items() if name != "self"})


class OldScript:
    """modules.scripts.Script of AUTOMATIC1111 before 1.10 and of SD.Next, as far as the script uses it."""

    is_img2img = False

    def elem_id(self, name: str) -> str:
        return f"script_{'img2img' if self.is_img2img else 'txt2img'}_noise_order_{name}"


class Script(OldScript):
    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        pass


def input_accordion(value: bool, **settings: Any) -> Any:
    """modules.ui_components.InputAccordion: a function on Forge, so that nothing may subclass it."""
    import gradio as gr

    return contextlib.nullcontext(gr.Checkbox(value, label=settings["label"], elem_id=settings["elem_id"]))


class A1111(FakeHost):
    """Only in place; no modified_noise; the model behind k-diffusion's wrapper."""

    def install(self) -> None:
        host = self

        class Wrapper:
            """k_diffusion.external.CompVisDenoiser; SD3's own is made by the model."""

            sigmas = host.sigmas

            def __init__(self, model: Any, quantize: bool = False) -> None:
                self.quantize = quantize

            def __call__(self, x: torch.Tensor, sigma: torch.Tensor, cond: dict[str, Any]) -> torch.Tensor:
                image = cond["c_concat"][0]
                inpaints = host.conditioning_key == "hybrid" or host.is_sdxl_inpaint
                assert image.shape == (len(x), 5, *(x.shape[2:] if inpaints else (1, 1)))
                text = cond["crossattn"] if "crossattn" in cond else cond["c_crossattn"][0]
                return host.network(x, sigma, text)

        self.wrapper = Wrapper
        self.module("k_diffusion", __path__=[])
        self.module("k_diffusion.external", CompVisDenoiser=Wrapper, CompVisVDenoiser=Wrapper)
        self.conditioning_key: str | None = "crossattn"
        self.cond_stage_key = "txt"

    def model(self, p: Processing) -> Any:
        return types.SimpleNamespace(
            is_sd3=False,
            is_sdxl_inpaint=self.is_sdxl_inpaint,
            parameterization="v" if self.kind == "v_prediction" else "eps",
            sd_checkpoint_info=types.SimpleNamespace(name=self.checkpoint),
            cond_stage_key=self.cond_stage_key,
            model=types.SimpleNamespace(conditioning_key=self.conditioning_key, diffusion_model=self.network),
        )

    @torch.no_grad()
    def run(self, *call: Any) -> Result:
        return super().run(*call)

    def process_images(self, p: Processing) -> Processed:
        with torch.no_grad():
            return super().process_images(p)


@dataclass
class SD3Processing(Processing):
    sdxl: bool = True


class A1111SD3(A1111):
    kind = "const"
    shape = (16, 8, 8)
    processing = SD3Processing

    def model(self, p: Processing) -> Any:
        model = super().model(p)
        model.is_sd3 = True
        model.create_denoiser = lambda: self.wrapper(model)
        model.add_noise_to_latent = lambda x, noise, amount: (1 - amount) * x + amount * noise
        return model


class Forge(FakeHost):
    """modified_noise, inference tensors, uc None at CFG 1, two hook calls in hires."""

    processing = ForgeProcessing
    distilled = False

    @staticmethod
    def no_model() -> Any:
        return types.SimpleNamespace(cond_stage_model=None)

    engine = "StableDiffusion"

    def install(self) -> None:
        self.module("modules_forge", __path__=[])
        self.module("backend", __path__=[])
        self.module("backend.sampling", __path__=[])
        self.module("backend.diffusion_engine", __path__=[])
        self.prepared: list[str] = []
        self.module("backend.sampling.condition", **self.conditions())
        self.module(
            "backend.sampling.sampling_function",
            sampling_prepare=self.prepare,
            sampling_cleanup=lambda unet: self.prepared.append("cleanup"),
            calc_cond_uncond_batch=self.calc,
        )
        self.controlnet: Any = None
        self.options: dict[str, Any] = {}

    @staticmethod
    def conditions() -> dict[str, Any]:
        def compile_conditions(cond: Any) -> list[dict[str, Any]]:
            return [{"text": cond["crossattn"] if isinstance(cond, dict) else cond, "model_conds": {}}]

        def compile_weighted_conditions(cond: Any, parts: list[list[tuple[int, float]]]) -> list[dict[str, Any]]:
            conditions = []
            for column in zip(*parts, strict=False):
                rows = [row for row, _ in column]
                text = cond["crossattn"] if isinstance(cond, dict) else cond
                conditions.append({"text": text[rows], "strength": column[-1][1], "model_conds": {}})
            return conditions

        return {"compile_conditions": compile_conditions, "compile_weighted_conditions": compile_weighted_conditions}

    def prepare(self, unet: Any, x: torch.Tensor) -> None:
        assert not self.stale, "asked the model with the patches of the first pass"
        self.prepared.append("prepare")
        unet.extra_model_patchers_during_sampling += ["controlnet"]

    def calc(self, model: Any, conds: Any, unconds: Any, x: Any, sigma: Any, options: Any) -> Any:
        assert all(entry.get("control") is self.controlnet for entry in conds + (unconds or []))
        total = sum(entry["strength"] for entry in conds)
        cond = sum(self.apply(options, x, sigma, entry["text"]) * entry["strength"] for entry in conds) / total
        return cond, self.apply(options, x, sigma, unconds[0]["text"]) if unconds else torch.zeros_like(x)

    def apply(self, options: dict[str, Any], x: Any, sigma: Any, text: Any) -> Any:
        """Through a wrapper, where one hangs on the model, and through the patches inside of it."""

        def apply_model(x: Any, sigma: Any, text: Any) -> Any:
            output = self.network(x, sigma, text)
            for patch in options.get("transformer_options", {}).get("patches", {}).get("output_block_patch", []):
                output = patch(output)
            return output

        wrapper = options.get("model_function_wrapper")
        if wrapper is None:
            return apply_model(x, sigma, text)
        return wrapper(apply_model, {"input": x, "timestep": sigma, "c": {"text": text}, "cond_or_uncond": [0]})

    def noise_scaling(self, sigma: Any, noise: Any, latent: Any) -> Any:
        return sigma * noise + (1 - sigma) * latent if self.kind == "const" else sigma * noise + latent

    def calculate_input(self, sigma: Any, x: Any) -> Any:
        return x if self.kind == "const" else x / (sigma**2 + 1) ** 0.5

    def model(self, p: Processing) -> Any:
        predictor = types.SimpleNamespace(
            prediction_type=self.kind,
            sigmas=FLOW_SIGMAS if self.kind == "const" else SIGMAS,
            noise_scaling=self.noise_scaling,
            calculate_input=self.calculate_input,
        )
        self.unet = types.SimpleNamespace(
            model=types.SimpleNamespace(predictor=predictor, diffusion_model=self.network),
            model_options=self.options,
            extra_model_patchers_during_sampling=["mine"],
            controlnet_linked_list=self.controlnet,
        )
        engine = type(self.engine, (types.SimpleNamespace,), {})
        return engine(
            is_inpaint=False,
            use_distilled_cfg_scale=self.distilled,
            sd_checkpoint_info=types.SimpleNamespace(name=self.checkpoint),
            forge_objects=types.SimpleNamespace(unet=self.unet),
        )

    def uncond(self, p: Processing) -> Any:
        return None if p.cfg_scale == 1 else super().uncond(p)

    @torch.inference_mode()
    def run(self, *call: Any) -> Result:
        call[0].modified_noise = None
        return super().run(*call)

    def process_images(self, p: Processing) -> Processed:
        p.extra_result_images = getattr(p, "extra_result_images", [])
        with torch.inference_mode():
            return super().process_images(p)

    def process_before_every_sampling(self, *call: Any) -> torch.Tensor:
        p = call[0]
        used = self.script_hook(*call)
        if p.modified_noise is not None:
            used, p.modified_noise = p.modified_noise, None
        return used


class ForgeFlow(Forge):
    kind = "const"
    shape = (16, 8, 8)
    engine = "Flux"


class ReForge(Forge):
    """As Forge, with A1111's processing around it: uc at CFG 1 too, one hook call in hires, image conditioning."""

    processing = Processing
    engine = "BaseModel"
    no_model = staticmethod(FakeHost.no_model)

    def install(self) -> None:
        self.module("modules_forge", __path__=[])
        self.module("ldm_patched", __path__=[])
        self.module("ldm_patched.modules", __path__=[])
        self.module("ldm_patched.modules.conds", CONDRegular=lambda cond: cond)
        self.module("ldm_patched.modules.samplers", calc_cond_batch=self.calc_batch)
        self.prepared: list[str] = []
        conditions = self.conditions()
        self.module(
            "modules_forge.forge_sampler",
            cond_from_a1111_to_patched_ldm=conditions["compile_conditions"],
            cond_from_a1111_to_patched_ldm_weighted=conditions["compile_weighted_conditions"],
            sampling_prepare=self.prepare,
            sampling_cleanup=lambda unet: self.prepared.append("cleanup"),
        )
        self.controlnet: Any = None
        self.options: dict[str, Any] = {}
        self.conditioning_key: str | None = "crossattn"
        self.cond_stage_key = "txt"
        self.model_type = "EPS"
        self.object_patches: dict[str, Any] = {}
        self.leftovers: dict[str, Any] = {}

    def calc_batch(self, model: Any, conds: list[Any], x: torch.Tensor, sigma: Any, options: Any) -> Any:
        cond, uncond = conds
        for entry in cond + (uncond or []):
            image = entry["model_conds"].get("c_concat")
            assert (image is None) is (self.conditioning_key == "crossattn" and not self.is_sdxl_inpaint)
            assert image is None or image.shape == (len(x), 5, *x.shape[2:])
        return list(self.calc(model, cond, uncond, x, sigma, options))

    def model(self, p: Processing) -> Any:
        model = super().model(p)
        self.unet.object_patches = self.object_patches
        self.unet.model = type(self.engine, (types.SimpleNamespace,), {})(
            model_type=types.SimpleNamespace(name=self.model_type),
            model_sampling=types.SimpleNamespace(sigmas=SIGMAS),
            diffusion_model=self.network,
        )
        model.model = types.SimpleNamespace(conditioning_key=self.conditioning_key)
        model.cond_stage_key, model.is_sdxl_inpaint = self.cond_stage_key, self.is_sdxl_inpaint
        vars(model).update(self.leftovers)
        return model

    def uncond(self, p: Processing) -> Any:
        return FakeHost.uncond(self, p)


class Neo(Forge):
    """One hook call in hires, masks with a batch dimension; here with a model of five dimensions."""

    kind = "const"
    shape = (16, 1, 8, 8)
    masks_are_batches = True
    params_txt_first = False
    engine = "QwenImage"
    processing = NeoProcessing

    def install(self) -> None:
        super().install()
        self.module("backend.diffusion_engine.qwen")

    def encoded(self, latent: torch.Tensor) -> torch.Tensor:
        return latent[:1]

    def noise_scaling(self, sigma: Any, noise: Any, latent: Any) -> Any:
        return super().noise_scaling(sigma.view(sigma.shape[:1] + (1,) * (noise.ndim - 1)), noise, latent)


class NeoUntried(Neo):
    """A model of a tree newer than the one we ran, as its engine is written: 64 channels at a sixteenth, 4-D."""

    shape = (64, 4, 4)
    engine = "QwenImage21"

    def encoded(self, latent: torch.Tensor) -> torch.Tensor:
        return latent


class NeoVideo(Neo):
    """Wan: one noise of several frames, while p has a seed and a prompt for every image of the video."""

    shape = (16, 2, 8, 8)
    engine = "Wan"

    def draw(self, shape: tuple[int, ...], seeds: list[int]) -> torch.Tensor:
        return super().draw(shape, seeds[:1])


class Ersatz(Forge):
    """One hook call in hires; img2img takes the steps it was asked for, out of so many more; no masks in results."""

    processing = Processing
    begins = 999 - 999 * 10 // 19 - 1
    begins_timestep = 451
    params_txt_first = False

    def install(self) -> None:
        super().install()
        self.module("modules_forge.colour_code")
        for name in ("return_mask", "return_mask_composite", "grid_extended_filename"):
            delattr(self.opts, name)

    @staticmethod
    def setup_img2img_steps(p: Processing, steps: int | None = None) -> tuple[int, int]:
        run = steps or p.steps
        return int(run / min(p.denoising_strength, 0.999)) if p.denoising_strength > 0 else 0, run
