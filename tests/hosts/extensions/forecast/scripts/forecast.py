"""A forecast in the wrapper of the model's function: the model is asked `warmup` times, then no more."""


class Forecaster:
    def __init__(self):
        self.history = []


def forecast(warmup):
    state = {"count": 0, "forecasters": [Forecaster()]}
    total = 0

    def wrapper(apply_model, args):
        nonlocal total
        total += 1
        state["count"] += 1
        history = state["forecasters"][0].history
        if state["count"] > warmup:
            return history[-1]
        history.append(apply_model(args["input"], args["timestep"], **args["c"]))
        return history[-1]

    return wrapper, lambda: (state["count"], len(state["forecasters"][0].history), total)
