"""Say what a change of the configuration or the code reruns, and why, before it runs."""

from __future__ import annotations

import argparse

from ..run import what_changed

EXAMPLE = """example, in the folder of the project:
  swift-debias what-changed --profile profiles/demo"""
add_arguments = what_changed.add_arguments


def run(options: argparse.Namespace) -> None:
    """Carry it out."""
    from ..data import fingerprint

    what_changed.run(options, fingerprint.explain)
