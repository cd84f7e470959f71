"""SWiFT: soft-mask weight fine-tuning of biased medical-image classifiers, and nine baselines.

Rooms, from top to bottom (a module imports only from rooms below its own):

    methods     one file a debiasing method
    training    the one training loop
    masks       importance -> mask -> masked updates
    fisher      diagonal parameter importance
    losses      weighted cross-entropy and differentiable fairness proxies
    networks    Classifier = extractor + head
    samples     labelled images on a device, in batches
    augment     batched augmentation on the device
    metrics, statistics, cam
    tables, figures, verdict, report
    datasets    one adapter a data set
    splits, duplicates, skin_tone, images, manifest
    settings    typed configuration
    seeds, code, job    random state, identity of code, how a script runs
"""

__version__ = "0.1.0"
