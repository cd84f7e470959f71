"""What each drawing shows, in words: for report.html and for `snakemake --report`.

Plain strings, so that the Snakefile may import them. The key is a view's `plot`.
"""

from __future__ import annotations

_FOLDS = "Mean over folds; {} one sample standard deviation over folds, cut at 0 and 1."

CAPTIONS: dict[str, str] = {
    "bias": "What bias looks like. Left: test images of each class and group, taken at the 10, 50 "
    "and 90 % quantiles of the Baseline's scores in their cell; below each its score, P(class 1), "
    "of the first fold's model, and whether the decision at 0.5 is right. Right: the scores of all "
    "images by group. " + _FOLDS.format("bands:"),
    "method": "The stages of SWiFT, drawn from the settings that this run uses. F: diagonal Fisher "
    "information; norm: per parameter tensor; the optimizer's whole update is masked.",
    "importance": "Importance of the weights of one layer for the bias and for the prediction, "
    "both normalized as in Eq. 9, and the soft mask made of them. First fold; the first output "
    "channels and the first weights of each; the importances' colour scale is a power law.",
    "epochs": "SWiFT against the number of fine-tuning epochs of each step; 0 is the Baseline. "
    + _FOLDS.format("bands:"),
    "external": "SWiFT against the share of the external set that is used; 0 is the Baseline. "
    + _FOLDS.format("bands:"),
    "reinit": "SWiFT against the share of the head's weights that step 2 sets to zero, those with "
    "the highest mask. The star is the paper's choice, all weights above the mean of the mask. "
    + _FOLDS.format("bands:"),
    "cam": "Where the methods see the true class: class activation maps (Zhou et al., 2016) of the "
    "same test images, those with the Baseline's median score in their class and group. Every map "
    "is scaled from its own minimum to its maximum; maps of class 0 are the negated maps of class "
    "1. Below each: the score P(class 1), and whether the decision at 0.5 is right. First fold.",
    "masks": "Distribution of the soft mask in each part of the network, the head included: a "
    "mirrored histogram of all its weights. tanh(1): equally important for bias and prediction. "
    + _FOLDS.format("dots with bars:"),
    "pareto": "AUC against equalized odds of every method on every test set. Outlined: methods "
    "that no other one beats in both; what lies left of and above the dashed line is beaten. "
    + _FOLDS.format("bars:"),
    "cost": "What debiasing costs beside the Baseline's own training. The importances, measured "
    "once for all methods, are not counted. Mean over folds; bars: one sample standard deviation.",
    "groups": "AUC and expected calibration error of every group; the worst group's AUC is the "
    "leftmost dot. " + _FOLDS.format("bars:"),
    "intervals": "Difference to the Baseline on the same test images, with 95 % intervals of a "
    "bootstrap over test images, stratified by group and class (the folds' models are fixed).",
    "thresholds": "What the decision threshold does; 0.5 is used in all tables. Nothing is chosen "
    "from these curves. " + _FOLDS.format("bands:"),
    "estimators": "The two estimators of importance: what SWiFT makes of each, and the masks of "
    "all weights. Rank correlation: Spearman's, of the two masks. " + _FOLDS.format("bars, bands:"),
}
