"""Starts and stops a real WebUI, makes its tiny checkpoints, and speaks to its API."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import requests
from PIL import Image

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMMON = ["--skip-prepare-environment", "--skip-torch-cuda-test", "--skip-python-version-check", "--skip-install"]
SERVE = [
    "--api",
    "--server-name",
    "127.0.0.1",
    "--no-hashing",
    "--disable-console-progressbars",
]


class Facts(NamedTuple):
    """What these tests have to know of a WebUI beforehand."""

    sign: str
    """A path that it has and those after it in HOSTS have not."""
    flags: list[str]
    is_forge: bool
    """Has Forge's back end."""
    inference: bool
    """Hands inference tensors to the hook."""
    modified_noise: bool
    hires_calls: int
    """How often it calls the hook in the hires pass."""
    encodes_uncond_at_cfg_1: bool
    masks_are_batches: bool = False
    """Gives the inpainting mask a batch dimension."""
    helper: str = ""
    """A folder here: the extension it needs for the small checkpoints."""
    upscaler: str = "Latent"
    """For hires fix. ersatzForge kept one for latents, Neo none."""
    upscale: tuple[Any, ...] = ("", 0, "None", 2)
    """Arguments of the script "SD upscale" for tiles without overlap of the image as it is."""
    black: tuple[str, ...] = ()
    """How the samplers' names begin that make an image without content of the small SD1.5."""
    returns_masks: bool = True
    """Has settings to put the masks of inpainting into the answer."""
    calls_the_hook: bool = True
    """Without it there is nothing that can be done here."""
    half: tuple[str, ...] = ()
    """Flags in the place of those for fp32, {} is bf16 or fp16."""
    quad: tuple[str, ...] = ()
    """Kinds that its attention by PyTorch cannot do; it has another that can."""
    on_the_table: tuple[int, float] = (4, 0.5)
    """Steps and denoising strength with which img2img begins at a whole timestep, also by the scheduler "Automatic"."""


NO_CLIP = "--do-not-download-clip"
CPU = ["--use-cpu", "all", "--no-half", "--precision", "full", "--no-download-sd-model", "--skip-version-check"]
ERSATZ_CPU = ["--always-cpu", "--all-in-fp32", "--attention-pytorch"]
FORGE_CPU = [*ERSATZ_CPU, NO_CLIP]
NEO_CPU = ["--cpu", "--force-fp32", "--fp32-text-enc", "--use-pytorch-cross-attention"]
FORGE_HALF = ("--unet-in-{}", "--vae-in-fp32", "--clip-in-fp32")
FULL = ("--all-in-fp32", "--force-fp32", "--no-half", "--precision", "full")
HALF = {"bf16": "bfloat16", "fp16": "float16"}
HOSTS = {
    "reforge": Facts(
        *("ldm_patched", FORGE_CPU, False, True, True, 1, True),
        black=("Euler A Comfy RF", "DPM++ 2S Ancestral Comfy RF"),
        half=FORGE_HALF,
    ),
    "ersatz": Facts(
        *("backend/diffusion_engine/chromaDCT.py", ERSATZ_CPU, True, True, True, 1, False),
        helper="small_neo",
        upscaler="Latent (antialiased)",
        upscale=(64, 64, 0, 2, "None"),
        black=("DEIS", "[Forge] Flux Realistic"),
        returns_masks=False,
        half=FORGE_HALF,
        quad=("anima",),
        on_the_table=(3, 0.75),
    ),
    "neo": Facts(
        *("backend/diffusion_engine/qwen.py", NEO_CPU, True, True, True, 1, False),
        masks_are_batches=True,
        helper="small_neo",
        upscaler="None",
        upscale=(0, "None", 2, False),
        black=("DPM++ 2s a RF",),
        half=("--{}-unet", "--fp32-vae"),
    ),
    "forge": Facts("backend", FORGE_CPU, True, True, True, 2, False, helper="small_flux", half=FORGE_HALF),
    "a1111": Facts(
        *("modules/models/sd3", [*CPU, NO_CLIP], False, False, False, 1, True),
        helper="small_sd3",
        half=("--precision", "half"),
    ),
    # Before 1.10.
    "a1111-1.9": Facts("modules", [*CPU, NO_CLIP], False, False, False, 1, True, calls_the_hook=False),
}
# One thread: a test must not compete with itself, and sums do not depend on how many cores there are.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
}
DYNAMIC_PROMPTS = {
    **{
        f"dp_parser_{name}": text
        for name, text in {"variant_start": "{", "variant_end": "}", "wildcard_wrap": "__"}.items()
    },
    **{f"dp_wildcard_manager_{name}": False for name in ("no_dedupe", "no_sort", "shuffle")},
    **{
        f"dp_{name}": False
        for name in ("ignore_whitespace", "write_raw_template", "write_prompts_to_file", "limit_jinja_prompts")
    },
    "dp_auto_purge_cache": False,
    "dp_magicprompt_batch_size": 1,
}
"""Its settings, which it adds after a WebUI's first start has read them."""
FIVE_DIMENSIONS = ("qwen", "anima", "wan", "krea2")
"""Latents with a dimension for time, on Neo."""
VIDEO = "wan"
"""Its batches are the frames of one video."""
START_SECONDS, REQUEST_SECONDS = 300, 300
FLOW = (
    *("flux", "schnell", "sd35", "sd3", "chroma", "sdxlrectified", "zimage", "klein", "qwen", "anima", "wan"),
    *("lumina2", "krea2", "ernie", "mugen"),
)


def at_once(kind: str, count: int) -> int:
    """So many images in a batch, or one where a batch cannot be."""
    return 1 if kind == VIDEO else count


def host_of(folder: Path) -> str:
    """Its name in HOSTS, told by the back end that lies in the folder."""
    return next(name for name, facts in HOSTS.items() if (folder / facts.sign).exists())


def describe(folder: Path) -> str:
    """Host and commit, as far as the folder tells."""
    process = subprocess.run(
        ["git", "-C", folder, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return f"{host_of(folder)} {process.stdout.strip() or 'of unknown commit'}"


def flags(host: str, precision: str) -> list[str]:
    """The host's flags for this precision of the model; the rest stays in fp32 where it can."""
    facts = HOSTS[host]
    # AUTOMATIC1111 has no bf16 but what it computes in on a CPU, over weights in fp8.
    if precision not in HALF or (host == "a1111" and precision == "bf16"):
        return facts.flags
    return [flag for flag in facts.flags if flag not in FULL] + [flag.format(precision) for flag in facts.half]


def generator(folder: Path, python: Path, *arguments: str) -> str:
    """Run the checkpoint generator of this host with the host's own Python and classes."""
    script = HERE / f"checkpoints_{host_of(folder).partition('-')[0]}.py"
    command = [python, script, "--webui", folder.resolve(), *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **OFFLINE})
    if process.returncode:
        raise RuntimeError(f"{script.name} failed:\n{process.stdout[-2000:]}\n{process.stderr[-4000:]}")
    return process.stdout


_plans: dict[Path, tuple[list[str], dict[str, str]]] = {}


def plan(folder: Path, python: Path) -> tuple[list[str], dict[str, str]]:
    """The checkpoint kinds this host can have here, and what is left out with the reason."""
    if folder not in _plans:
        plans = json.loads(generator(folder, python, "--plan").splitlines()[-1])
        _plans[folder] = plans["kinds"], plans["left_out"]
    return _plans[folder]


def version_of_settings(folder: Path) -> dict[str, str]:
    """The mark without which Neo takes settings for those of an older version, and waits for a key at its start."""
    source = (folder / "modules" / "launch_utils.py").read_text(encoding="utf-8")
    return dict(re.findall(r'^(VERSION_UID).*= "(.*)"', source, re.MULTILINE))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Answer:
    """What a generation gave: pixels, infotexts, and what the probe saw."""

    def __init__(self, body: dict[str, Any], record: dict[str, Any]) -> None:
        self.images = [Image.open(io.BytesIO(base64.b64decode(image))) for image in body["images"]]
        self.pixels = [np.asarray(image.convert("RGB")) for image in self.images]
        self.info = json.loads(body["info"])
        self.infotexts: list[str] = self.info["infotexts"]
        self.infotext = self.infotexts[0]
        self.record = record

    @property
    def digest(self) -> str:
        return hashlib.sha256(b"".join(pixels.tobytes() for pixels in self.pixels)).hexdigest()


class WebUI:
    """One WebUI in a data folder of its own: the user's models, settings and images are not touched."""

    baselines: dict[str, str]
    neighbours: Sequence[Path] = ()
    """Folders of other extensions, linked in beside ours."""
    small: bool = True
    """Whether it has to load the small models of these tests, not those of real sizes."""
    flags: Sequence[str] = ()
    """Further ones of the WebUI's own."""
    precision = "fp32"
    """Of the model: fp32, bf16, fp16, or gguf, where its numbers are stored as Q8_0."""

    def __init__(self, folder: Path, python: Path, data: Path) -> None:
        self.folder, self.python, self.data = folder.resolve(), python.absolute(), data
        self.host = host_of(folder)
        self.facts = HOSTS[self.host]
        self.kinds: list[str] = []
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.loaded = ""

    def make_checkpoints(self, kinds: list[str] | None = None, *sizes: str) -> None:
        """Generate the checkpoints in the data folder; sizes: further arguments of the generator."""
        self.kinds = [kind for kind in plan(self.folder, self.python)[0] if kinds is None or kind in kinds]
        sizes = (*sizes, "--gguf") if self.precision == "gguf" else sizes
        generator(self.folder, self.python, "--out", str(self.data), *sizes, *self.kinds)
        settings: dict[str, Any] = {
            "sd_model_checkpoint": self.file(self.kinds[0]),
            # The default preview would be downloaded for SDXL; offline every request then fails.
            "show_progress_type": "Approx cheap",
            # After a request that overrides a setting, these are restored by AUTOMATIC1111 and ersatzForge only if they
            # stand in this file.
            "eta_noise_seed_delta": 0,
            "initial_noise_multiplier": 1.0,
            "randn_source": "GPU",
            "sd_noise_schedule": "Default",
            "sgm_noise_multiplier": False,
            "token_merging_ratio": 0.0,
            # A1111, Forge and reForge hide what the hires pass may have of its own.
            "hires_fix_show_sampler": True,
        }
        settings |= version_of_settings(self.folder)
        if self.precision == "gguf":
            beside = [*self.data.glob("models/text_encoder/*"), *self.data.glob("models/VAE/*.safetensors")]
            settings["forge_additional_modules"] = [str(path) for path in beside]
        if self.host == "a1111" and self.precision == "bf16":
            settings["fp8_storage"] = "Enable"
        if self.host == "ersatz":
            # Its Chroma reads a setting that has no default (fca12a2).
            settings |= {"tiling": "None", "use_dynamicPE": False}
        if self.host == "neo":
            # Its page sets steps and CFG scale of its preset some time after it has loaded; at 0 it leaves them.
            settings |= {"sd_t2i_step": 0, "sd_t2i_cfg": 0}
        if any(path.name == "sd-dynamic-prompts" for path in self.neighbours):
            settings |= DYNAMIC_PROMPTS
        (self.data / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        # Some extensions (NegPiP) take it for there when they are loaded.
        (self.data / "ui-config.json").write_text("{}", encoding="utf-8")

    @property
    def computed(self) -> str:
        """The type in which the model has to compute."""
        return f"torch.{HALF.get(self.precision, 'float32')}"

    @property
    def stored(self) -> str:
        """The type in which most of the model's numbers have to be stored."""
        if self.precision == "gguf":
            return "Q8_0"
        return "torch.float8_e4m3fn" if self.host == "a1111" and self.precision == "bf16" else self.computed

    def has_time(self, kind: str) -> bool:
        """Whether the latents of this kind have a dimension for time: ersatzForge adds it inside the model only."""
        return kind in FIVE_DIMENSIONS and self.host == "neo"

    def file(self, kind: str) -> str:
        return f"tiny-{kind}.{'gguf' if self.precision == 'gguf' else 'safetensors'}"

    @contextlib.contextmanager
    def running(self, extension: bool) -> Iterator[None]:
        """The WebUI on a free loopback port, with or without the extension and the probe."""
        extensions = self.data / "extensions"
        extensions.mkdir(exist_ok=True)
        links = {"sd-webui-noiseorder": ROOT, "zz-noiseorder-probe": HERE / "probe"} if extension else {}
        links |= {path.name: path.resolve() for path in self.neighbours}
        if self.facts.helper and self.small:  # in both runs: it is the host's part
            links["small-models"] = HERE / self.facts.helper
        if self.precision in HALF and self.host != "a1111":
            links["half"] = HERE / "half"
        for link in extensions.iterdir():
            link.unlink()
        for name, target in links.items():
            (extensions / name).symlink_to(target, target_is_directory=True)
        port = free_port()
        self.url, self.loaded = f"http://127.0.0.1:{port}", ""
        command = [self.python, "launch.py", *COMMON, *SERVE, *flags(self.host, self.precision)]
        if set(self.kinds) & set(self.facts.quad):
            command = ["--attention-quad" if part == "--attention-pytorch" else part for part in command]
        command += ["--data-dir", self.data, "--port", str(port), *self.flags]
        if self.facts.is_forge:
            # With a data folder of its own, Forge refuses its page the scripts of its own folder.
            command += ["--gradio-allowed-path", self.folder]
        self.log = self.data / f"webui-{'with' if extension else 'without'}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                # The tokenizers of SD3 come from the hub's cache on A1111.
                env={
                    **os.environ,
                    **OFFLINE,
                    "HF_HOME": str(self.data / "huggingface"),
                    "NOISEORDER_PRECISION": self.precision,
                },
                start_new_session=True,
            )
        try:
            self.wait()
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.alive():
                break
            # The hosts answer requests before their API is whole; this line is the last they write. What is not Forge
            # also loads a model beside it, and a second one asked for meanwhile breaks on the first.
            log = self.log.read_text(errors="replace")
            if "Startup time:" in log and (self.facts.is_forge or re.search("Model .*loaded in", log)):
                return
            time.sleep(0.5)
        raise RuntimeError(f"the WebUI did not start:\n{self.tail()}")

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def get(self, path: str) -> Any:
        return self.check(requests.get(self.url + path, timeout=REQUEST_SECONDS))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self.check(requests.post(self.url + path, json=body, timeout=REQUEST_SECONDS))

    def check(self, response: requests.Response) -> Any:
        assert response.ok, f"HTTP {response.status_code}: {response.text[:500]}\n{self.tail()}"
        return response.json()

    def load(self, kind: str) -> None:
        """Make a checkpoint the loaded one; a request would do it too, but not with the same random state."""
        if self.loaded != kind:
            self.post("/sdapi/v1/options", {"sd_model_checkpoint": self.file(kind)})
            self.loaded = kind
            infotext = Answer(self.post("/sdapi/v1/txt2img", self.request(kind)), {}).infotext
            # Both hosts go on with the model they have when the one asked for cannot be found.
            assert f"Model: tiny-{kind}," in infotext.rstrip() + ",", infotext

    def probe(self, **plan: Any) -> None:
        """Set what the next generations are to suffer: fail_at, interrupt_at (a count of model calls)."""
        self.post("/noiseorder-probe", plan)

    def request(self, kind: str, **changes: Any) -> dict[str, Any]:
        """A small txt2img request this kind of model can do."""
        body: dict[str, Any] = {
            "prompt": "a red cat",
            "negative_prompt": "bad",
            "seed": 1,
            "steps": 4,
            "width": 64,
            "height": 64,
            "cfg_scale": 5,
            "sampler_name": "Euler",
            "scheduler": "Simple" if kind in FLOW else "Automatic",
            "send_images": True,
            "save_images": False,
        }
        body.update(changes)
        return body

    def txt2img(self, kind: str, *settings: Any, **changes: Any) -> Answer:
        """Generate; settings are the script's arguments, none leaves it unmentioned."""
        self.load(kind)
        body = self.request(kind, **changes)
        if settings:
            body["alwayson_scripts"] = {"noise order": {"args": list(settings)}}
        answer = self.post("/sdapi/v1/txt2img", body)
        return Answer(answer, self.get("/noiseorder-probe"))

    def paste(self, kind: str, infotext: str) -> Answer:
        """Generate from an infotext."""
        body = {"infotext": infotext, "send_images": True, "save_images": False}
        if self.facts.is_forge:
            # Its API answers any infotext with HTTP 500, isinstance(..., list[str]), unless the request has styles.
            body["styles"] = []
        if self.host == "neo" and kind == "flux":
            # Where Neo reads "flux" it takes a CFG scale above 1 for the distilled one, as some sites write it.
            body["cfg_scale"] = self.request(kind)["cfg_scale"]
        return Answer(self.post("/sdapi/v1/txt2img", body), {})

    def plain_pixels(self, kind: str) -> str:
        """The digest of the plain request, while neither extension nor probe is there."""
        self.load(kind)
        return Answer(self.post("/sdapi/v1/txt2img", self.request(kind)), {}).digest
