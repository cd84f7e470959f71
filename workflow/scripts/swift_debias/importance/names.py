"""Names of importances: `<estimator>.<part of the external set>.<objective>`. Without torch."""

from __future__ import annotations

OBJECTIVES = ("prediction", "bias", "group0", "group1")  # what is differentiated
PARTS = ("full", "balanced")  # of the external set
OF_ESTIMATOR = {"minibatch": OBJECTIVES[:2], "per_sample": OBJECTIVES}
NAMES = tuple(
    f"{estimator}.{part}.{objective}"
    for estimator, objectives in OF_ESTIMATOR.items()
    for part in PARTS
    for objective in objectives
)
