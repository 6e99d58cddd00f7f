# Nothing to install: the extension uses the torch, numpy, gradio and Pillow that every WebUI has.
