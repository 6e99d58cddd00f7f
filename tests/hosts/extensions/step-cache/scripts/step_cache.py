"""A step cache, hung on the network: counts calls, keeps the last answer, and gives it every second time."""

from __future__ import annotations

import itertools
from typing import ClassVar

COUNTER = itertools.count()
"""What cannot be put back."""


class StepCache:
    calls = 0
    answers: ClassVar[list] = []


def cached(original):
    def forward(self, x, sigma, cond):
        next(COUNTER)
        StepCache.calls += 1
        if StepCache.calls % 2 or not StepCache.answers:
            StepCache.answers[:] = [original(self, x, sigma, cond)]
        return StepCache.answers[0]

    return forward


def hook(module, args, output):
    next(COUNTER)
    StepCache.calls += 1
    return output * 0


def counting(x):
    StepCache.calls += 1
    StepCache.answers.append(x)
    return x
