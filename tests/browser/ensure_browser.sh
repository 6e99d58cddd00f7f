#!/bin/sh
# A Chromium for the browser tests: the one that is there, else the system's package, else Playwright's own.
for name in chromium chromium-browser google-chrome google-chrome-stable; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -q && apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core && exit 0
fi
exec "$1" -m playwright install chromium
