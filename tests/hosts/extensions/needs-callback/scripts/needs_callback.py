"""Hung on the network, and of no use before its callback has been called."""

CONDS = None


def forward(original):
    def inner(self, x, sigma, cond):
        return original(self, x, sigma, cond) * len(CONDS)

    return inner
