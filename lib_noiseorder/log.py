"""What is written to the console: through logging, under the name "noiseorder"."""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("noiseorder")


class Console(logging.Handler):
    """The console itself, where the WebUI has set up no handlers of its own (it does by --loglevel alone)."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.root.handlers:
            return
        stream = sys.stderr if record.exc_info else sys.stdout
        encoding = getattr(stream, "encoding", None) or "utf-8"
        # A Windows console of cp1252 cannot show every preset's name.
        print(self.format(record).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def set_up() -> None:
    """Give the logger its level and its handler, once."""
    if not log.handlers:
        log.addHandler(Console())
        log.setLevel(logging.INFO)


set_up()
PREFIX = "[Noise Order] "


def info(message: str) -> None:
    log.info("%s%s", PREFIX, message)


def warn(message: str) -> None:
    log.warning("%s%s", PREFIX, message)


def exception(message: str) -> None:
    """Log an error that nobody expected, with its trace."""
    log.warning("%s%s", PREFIX, message, exc_info=True)
