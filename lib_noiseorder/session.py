"""What outlives a generation: the adapter of this WebUI, the presets, and what was last made, seen and told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .core import Critic, self_consistency
from .generation.generation import Generation, generation_of
from .hosts.base import Untried
from .job import Job, Plan
from .webui.cost import Rates
from .webui.inspector import Inspections
from .webui.options import Options
from .webui.sheet import Sheets
from .webui.userpresets import Presets


class Session:
    """The state of one running WebUI; there is no other outside the generations themselves.

    adapter: the class of the batches' denoisers, None with `why_not` where this WebUI is not supported.
    options: reads the settings page, as it is now or as a request overrides it.
    outcomes: by tab, "txt2img" or "img2img", and user (None without a login), what was done in the last generation;
    nothing where we were off. Inspections are by user alone: the panels of both tabs show the last one.
    """

    def __init__(self) -> None:
        self.adapter: type[Any] | None = None
        self.why_not = ""
        self.presets: Presets | None = None
        self.options: Callable[[], Options] = Options
        self.sheets = Sheets()
        self.inspections = Inspections()
        self.outcomes: dict[tuple[str, str | None], str] = {}
        self.critic: Critic = self_consistency
        self.untried = Untried()
        self.no_prompt_history: bool | None = None
        """The host's --no-prompt-history, while previews are not to be written to params.txt."""

    def generation(self, p: Any) -> Generation:
        """The generation of a processing object; a copied object (a cell of X/Y/Z) gets one of its own."""
        return generation_of(self, p)

    def family(self) -> str | None:
        """The family of the loaded model, a key of presets.FAMILIES; None where none is loaded or known."""
        return self.adapter.family() if self.adapter is not None else None

    def estimate(self, job: Job, depth: float) -> Plan | None:
        """The plan of the page's settings; None where it is not known."""
        return self.adapter.estimate(job, depth, self.options().sketches) if self.adapter is not None else None

    def inspects(self, user: str | None) -> bool:
        """Whether the noise of this user's generations is kept for the inspector."""
        return self.inspections.wanted(user, self.options().inspector)

    def rates(self) -> Rates:
        """What the line of the cost has to know of this WebUI."""
        adapter = self.adapter
        if adapter is None:
            return Rates(negative=(True, True), inspects=self.inspects)
        return Rates(self.estimate, adapter.negative_at_cfg_1, self.inspects)


session = Session()


def set_critic(critic: Critic) -> None:
    """Let another function choose where nobody looks: `critic(x̂0, denoiser)` gives a score for each image."""
    session.critic = critic
