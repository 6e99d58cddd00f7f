"""A page of Gradio's own, served as each of its versions wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from lib_noiseorder.webui.sheet import GRADIO_6


def blocks(css: str = "") -> gr.Blocks:
    """An empty page of this style; Gradio 6 takes the style when the page is launched."""
    page = gr.Blocks(analytics_enabled=False, **({} if GRADIO_6 else {"css": css}))
    page.style_of_test = css
    return page


@contextmanager
def serve(page: gr.Blocks) -> Iterator[str]:
    """The address of the page, as long as it is served; its FastAPI app is `page.app_of_test`."""
    options = {"css": page.style_of_test} if GRADIO_6 else {"show_api": False}
    page.app_of_test, address, _ = page.queue().launch(prevent_thread_lock=True, quiet=True, **options)
    try:
        yield address
    finally:
        page.close()
