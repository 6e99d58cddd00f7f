from __future__ import annotations

import pytest
from fakes import A1111, A1111SD3, Ersatz, Forge, ForgeFlow, Neo, NeoVideo, ReForge


@pytest.fixture(params=[A1111, A1111SD3, Forge, ForgeFlow, ReForge, Neo, Ersatz], ids=lambda host: host.__name__)
def host(request, monkeypatch):
    return request.param(monkeypatch)


@pytest.fixture
def a1111(monkeypatch):
    return A1111(monkeypatch)


@pytest.fixture
def forge(monkeypatch):
    return Forge(monkeypatch)


@pytest.fixture
def reforge(monkeypatch):
    return ReForge(monkeypatch)


@pytest.fixture(params=[Forge, ReForge], ids=lambda host: host.__name__)
def patcher_host(request, monkeypatch):
    """A host that keeps its model in a patcher."""
    return request.param(monkeypatch)


@pytest.fixture(params=[A1111, ReForge], ids=lambda host: host.__name__)
def inpainting_host(request, monkeypatch):
    """A host whose inpainting models can be asked."""
    return request.param(monkeypatch)


@pytest.fixture
def neo(monkeypatch):
    return Neo(monkeypatch)


@pytest.fixture
def neo_video(monkeypatch):
    return NeoVideo(monkeypatch)


@pytest.fixture
def ersatz(monkeypatch):
    return Ersatz(monkeypatch)
