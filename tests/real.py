"""Where the real data of the tests lie; README.md beside this file says more.

The sample of images comes with the project. The official tables of whole data sets and the paper's
text do not, since their terms forbid shipping them: a test that needs one is skipped without it.
"""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SAMPLES = PROJECT / "resources" / "samples"  # <data set>/table.csv and <data set>/images/
DATA = Path(os.environ.get("SWIFT_REAL_DATA") or PROJECT.parent / "shared" / "data")
METADATA = DATA / "metadata"
PAPER = DATA.parent / "paper" / "paper.txt"
