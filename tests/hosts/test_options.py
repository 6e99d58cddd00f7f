"""The settings page as the script reads it, the presets, and what the adapters tell of the loaded model."""

from __future__ import annotations

import pytest
from fakes import A1111, A1111SD3, Forge, ForgeFlow, ReForge

BAD = {"inject": 0.05, "erase": 99}


def failing(host):
    def fail():
        raise RuntimeError("out of memory")

    host.network.before = fail


def test_settings_page(host):
    for callback in host.ui_settings:
        callback()
    added = host.opts.added
    assert {key: info.default for key, info in added.items()} == {
        "noiseorder_default_preset": "Default",
        "noiseorder_paste": "switch off",
        "noiseorder_on_failure": "continue",
        "noiseorder_console": "one line per batch",
        "noiseorder_inspector": False,
        "noiseorder_adetailer": False,
        "noiseorder_sketches": True,
        "noiseorder_preview_quality": "good",
        "noiseorder_previews_in_gallery": True,
    }
    assert added["noiseorder_adetailer"].infotext == "Noise Order in ADetailer"
    assert {(info.section, info.category_id) for info in added.values()} == {(("noiseorder", "Noise Order"), "sd")}
    for key in ("paste", "on_failure", "console", "preview_quality"):
        info = added[f"noiseorder_{key}"]
        assert info.default in info.component_args["choices"]
    assert "reload" in added["noiseorder_default_preset"].comment
    assert added["noiseorder_default_preset"].component_args()["choices"][0] == "Default"


@pytest.mark.parametrize("choice", ["continue", "stop"])
def test_a_failing_model_ends_the_generation_if_wanted(host, choice):
    host.opts.data["noiseorder_on_failure"] = choice
    failing(host)
    result = host.txt2img(True, 4.0, 0.05)
    assert host.state.interrupted is (choice == "stop")
    assert "out of memory" in result.infotext["Noise Order error"]


@pytest.mark.parametrize("choice", ["continue", "stop"])
def test_what_is_not_supported_ends_the_generation_if_wanted(host, choice):
    host.opts.data["noiseorder_on_failure"] = choice
    result = host.txt2img(True, 4.0, 0.05, prompts=["a cat", "a dog"])
    assert host.state.interrupted is (choice == "stop")
    assert "2 prompts for a batch of 1" in result.infotext["Noise Order error"]


@pytest.mark.parametrize("choice", ["continue", "stop"])
def test_a_bad_setting_ends_the_generation_if_wanted_but_not_before_there_is_an_image(host, choice):
    host.opts.data["noiseorder_on_failure"] = choice
    states = []
    result = host.txt2img(BAD, before_hook=lambda p: states.append(host.state.interrupted))
    assert states == [False], "both hosts fail where a generation ends without a single image"
    assert host.state.interrupted is (choice == "stop")
    assert "from 1 to 64" in result.infotext["Noise Order error"]


def test_what_was_skipped_by_hand_is_no_failure(host):
    host.opts.data["noiseorder_on_failure"] = "stop"
    host.state.skipped = True
    host.txt2img(True, 4.0, 0.05)
    assert host.state.interrupted is False


@pytest.mark.parametrize(("choice", "lines"), [("one line per batch", 1), ("errors only", 0), ("everything", 3)])
def test_console(host, choice, lines, capsys):
    host.opts.data["noiseorder_console"] = choice
    host.txt2img({"inject": 0.05, "levels": 2})
    console = capsys.readouterr().out
    assert console.count("[Noise Order]") == console.count("\n") == lines
    assert ("0.7 (sigma " in console) is (choice == "everything")
    failing(host)
    host.txt2img(True, 4.0, 0.05)
    assert "out of memory" in capsys.readouterr().out


def controls(host, monkeypatch, tmp_path):
    import gradio as gr

    host.loaded.PRESETS.path = tmp_path / "presets.json"
    host.script.is_img2img = False
    with gr.Blocks():
        return host.script.ui(False)


@pytest.mark.parametrize(("choice", "pasted"), [("switch off", False), ("leave alone", None)])
def test_paste(host, choice, pasted, monkeypatch, tmp_path):
    components = controls(host, monkeypatch, tmp_path)
    host.opts.data["noiseorder_paste"] = choice
    component, read = host.script.infotext_fields[0]
    assert component is components[0]
    assert read({"Steps": "4"}) is pasted
    assert read({"Noise Order": "1"}) is True


def test_default_preset(host, monkeypatch, tmp_path):
    host.opts.data["noiseorder_default_preset"] = "Erase only"
    values = [component.value for component in controls(host, monkeypatch, tmp_path)]
    assert values[:3] == [False, 4.0, 0.0]


def test_no_model_is_no_family(host):
    assert host.loaded.session.adapter.family() is None


@pytest.mark.parametrize(
    ("fake", "kind", "family"),
    [
        (A1111, "epsilon", "eps"),
        (A1111, "v_prediction", "v"),
        (A1111SD3, A1111SD3.kind, "flow"),
        (Forge, "epsilon", "eps"),
        (Forge, "v_prediction", "v"),
        (ForgeFlow, "const", "flow"),
        (ReForge, "epsilon", "eps"),
    ],
)
def test_family_by_what_the_model_predicts(monkeypatch, fake, kind, family):
    monkeypatch.setattr(fake, "kind", kind)
    host = fake(monkeypatch)
    host.txt2img(False)
    assert host.loaded.session.adapter.family() == family


def test_v_models_of_reforge(monkeypatch):
    host = ReForge(monkeypatch)
    host.model_type = "V_PREDICTION"
    host.txt2img(False)
    assert host.loaded.session.adapter.family() == "v"


def test_a_guidance_distilled_model_is_few(monkeypatch):
    host = ForgeFlow(monkeypatch)
    host.distilled = True
    host.txt2img(False)
    assert host.loaded.session.adapter.family() == "distilled"


@pytest.mark.parametrize(
    ("name", "distilled"),
    [
        ("sd_xl_turbo_1.0_fp16.safetensors", True),
        ("DreamShaperXLTurbo.safetensors", True),
        ("sdxl_lightning_4step.safetensors", True),
        ("fast/flux1-schnell-fp8.safetensors", True),
        ("dreamshaper_8LCM.safetensors", True),
        ("Hyper-SDXL-8steps.safetensors", True),
        ("hyperrealism_v2.safetensors", False),
        ("v1-5-pruned-emaonly.safetensors", False),
        ("welcome.safetensors", False),
    ],
)
def test_few_step_models_by_their_name(host, name, distilled):
    host.checkpoint = name
    host.txt2img(False)
    assert (host.loaded.session.adapter.family() == "distilled") is distilled
