"""`python -m tests.console.screenshots [DATA]`: docs/images/console-{dark,light}.png and one of each other view.

DATA is the folder of an embedded platform, and where it runs docs/images/watch.svg is drawn too; without DATA, tables
are made up.
"""

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from k2.cli.commands.query import running
from k2.cli.embedded import state
from k2.cli.embedded.layout import Layout
from tests.console.browser import PROGRAM, Page, browser
from tests.console.lake import Lake, now
from tests.console.serving import serving

IMAGES: Final = Path(__file__).parents[2] / "docs/images"
_DRAWN: Final = (
    "Number(document.querySelector('#chart').dataset.bars) > 5 && document.querySelector('#price').textContent"
)
_VIEWS: Final = {
    "completeness": "document.querySelectorAll('#map [data-state]').length > 5",
    "dead-letters": "document.querySelector('#dead-letters td') !== null",
}


def take(page: Page, url: str, folder: Path) -> list[Path]:
    """Save screenshots of the console, and return their paths."""
    taken = []
    for scheme in ("dark", "light"):
        page.scheme(scheme)
        page.open(f"{url}/console/")
        page.until(_DRAWN)
        page.run("new Promise((done) => setTimeout(done, 1500))")
        taken.append(folder / f"console-{scheme}.png")
        page.picture(taken[-1])
    for view, ready in _VIEWS.items():
        page.scheme("dark" if view == "completeness" else "light")
        page.run(f"location.hash = '{view}'")
        page.until(ready)
        if view == "dead-letters":
            page.run("document.querySelector('#dead-letters tbody tr[tabindex]')?.click()")
            page.run("new Promise((done) => setTimeout(done, 1500))")
        taken.append(folder / f"console-{view}.png")
        page.picture(taken[-1])
    return taken


def terminal(layout: Layout, path: Path) -> Path:
    """Save a screenshot of `k2 watch`, and return its path."""
    words = ["watch", "--data", str(layout.root), "--duration", "8s", "--picture", str(path)]
    subprocess.run([Path(sys.executable).with_name("k2"), *words], check=True, stdout=subprocess.DEVNULL, timeout=60)
    return path


def main(words: list[str]) -> int:
    """Takes the pictures."""
    if not PROGRAM:
        print("there is no Chromium in PATH; install one", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        layout = Layout.at(Path(words[0])) if words else Layout.at(folder / "data")
        if not words:
            Lake(layout).fill(now())
        live = bool(words) and state.load(layout.state).running
        url = stack.enter_context(serving(running(layout) if live else layout.platform()))
        for path in take(stack.enter_context(browser(folder / "browser")), url, IMAGES):
            print(path)
        if live:
            print(terminal(layout, IMAGES / "watch.svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
