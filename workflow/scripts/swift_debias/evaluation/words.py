"""How metrics, data sets, networks and attributes are called, and which way is better."""

from __future__ import annotations

import numpy as np

HIGHER_IS_BETTER = {"auc", "auc_min", "accuracy", "balanced_accuracy"}


LOWER_IS_BETTER = {
    *("spd", "eodds", "eodds_max", "eodds_signed", "eopp", "auc_gap", "ece", "brier"),
    *("seconds", "peak_memory_mb", "images_seen"),
}


_TITLES = {
    "auc": "AUC",
    "auc_min": "Min. AUC",
    "auc_gap": "Gap AUC",
    "spd": "SPD",
    "eodds": "EOdds",
    "eodds_max": "EOdds (max)",
    "eodds_signed": "EOdds (signed)",
    "eopp": "EOpp",
    "ece": "ECE",
    "brier": "Brier score",
    "tpr": "TPR",
    "fpr": "FPR",
    "tnr": "TNR",
    "fnr": "FNR",
    "ppv": "PPV",
    "f1": "F1",
    "n": "Images",
    "seconds": "Seconds",
    "peak_memory_mb": "Peak memory (MB)",
    "images_seen": "Images seen",
    "parameters_changed": "Parameters changed",
    "isic2017": "ISIC 2017",
    "isic2018": "ISIC 2018",
    "isic2019": "ISIC 2019",
    "isic2020": "ISIC 2020",
    "mimic_cxr": "MIMIC-CXR",
    "fitzpatrick17k": "Fitzpatrick-17k",
    "ddi": "DDI",
    "atlas": "Atlas",
    "pad_ufes_20": "PAD-UFES-20",
    "chexpert": "CheXpert",
    "nih": "NIH ChestX-ray14",
    "resnet50": "ResNet-50",
    "efficientnet_b3": "EfficientNet-B3",
    "densenet121": "DenseNet-121",
    "small_resnet": "small ResNet",
    "small_densenet": "small DenseNet",
    "skin_tone_6": "Skin tone, six types",
    "age_5": "Age, five bands",
    "skin": "Skin lesions",
    "cxr": "Chest X-rays",
}


DECIMALS = {"seconds": 1, "peak_memory_mb": 0, "images_seen": 0, "parameters_changed": 0, "n": 0}


MISSING = "–"


def title(key: str) -> str:
    """Display name of a metric, data set, backbone, attribute or task."""
    name, bracket, group = key.partition("[")
    shown = _TITLES.get(name) or name.replace("_", " ").capitalize()
    return f"{shown} [{group}" if bracket else shown


def arrow(metric: str) -> str:
    """Which way is better: ↑, ↓ or nothing."""
    if metric in HIGHER_IS_BETTER:
        return "↑"
    return "↓" if metric in LOWER_IS_BETTER else ""


def number(value: float, metric: str) -> str:
    """A value at the precision of its metric."""
    return MISSING if np.isnan(value) else f"{value:,.{DECIMALS.get(metric, 3)}f}"
