"""SWiFT: soft-mask weight fine-tuning of biased medical-image classifiers, and nine baselines.

Rooms, from top to bottom (a module imports only from rooms below its own):

    methods     one file a debiasing method
    external    the external set on the device, and the importances measured on it
    training    the one training loop; selection: which iterate DiffGda and DiffPrune keep
    masks       importance -> mask -> masked updates
    fisher      diagonal parameter importance
    losses      weighted cross-entropy and differentiable fairness proxies
    devices     the card a job takes, and how its process is set up for it
    networks    Classifier = extractor + head; cam: class activation maps
    samples     labelled images on a device, in batches
    augment     batched augmentation on the device
    metrics, statistics
    tables, figures (figure_metrics, figure_images, figure_arrays), verdict (claims), report
    datasets    one adapter a data set; synthetic: made-up folders for the demo
    splits, duplicates, skin_tone, labelled, images, manifest, raw
    settings    typed configuration; settings_document: config/README.md
    seeds, code, job    random state, identity of code, how a script runs
"""

__version__ = "0.1.0"
