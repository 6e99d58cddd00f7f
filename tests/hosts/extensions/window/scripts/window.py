"""A window switched by the callback of each step, and looked at inside the model."""


class Window:
    is_open = False
    end = 0.5

    def __init__(self):
        self.steps = []

    def on_step(self, params):
        self.steps.append(params.sampling_step)
        getattr(params.denoiser, "look", lambda params: None)(params)
        Window.is_open = params.sampling_step / (params.total_sampling_steps - 1) <= Window.end


def patch(denoised):
    return denoised + 1 if Window.is_open else denoised


def unrelated(params):
    raise AssertionError("nothing of this callback's module hangs on the model")
