"""Write the pages that are made from the code, or from JSON. `make docs` runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "workflow" / "scripts"), str(PROJECT)]

from benchmarks import page  # noqa: E402

from swift_debias import methods  # noqa: E402
from swift_debias.config import document  # noqa: E402
from swift_debias.data import adapters  # noqa: E402
from swift_debias.run import layout  # noqa: E402


def pages() -> dict[str, str]:
    """File of the project -> its text."""
    options, settings = adapters.options_models(), methods.settings_models()
    return {
        "config/README.md": document.document(options, settings),
        "config/schema.json": json.dumps(document.json_schema(options, settings), indent=1) + "\n",
        "results/README.md": layout.document(),
        "docs/performance.md": page.written(page.PAGE.read_text(encoding="utf-8"), page.read()),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        path = PROJECT / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(PROJECT))
