from __future__ import annotations

import pytest
from fakes import A1111, Forge, ForgeFlow


@pytest.fixture(params=[A1111, Forge, ForgeFlow], ids=lambda host: host.__name__)
def host(request, monkeypatch):
    return request.param(monkeypatch)


@pytest.fixture
def a1111(monkeypatch):
    return A1111(monkeypatch)


@pytest.fixture
def forge(monkeypatch):
    return Forge(monkeypatch)
