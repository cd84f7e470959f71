"""Score the test sets with the models of all methods and folds of one setup."""

from pathlib import Path

import pandas as pd

from swift_debias.config.schema import Attribute, Backbone, Compute
from swift_debias.data.image_cache import CachedImages, cache_pairs
from swift_debias.data.labelled import read_labelled
from swift_debias.data.normalization import Normalization
from swift_debias.errors import of_job
from swift_debias.evaluation.decision_rule import Rule, image_names
from swift_debias.evaluation.one_vs_rest import score_columns
from swift_debias.files import read_json, write_parquet
from swift_debias.learning import devices, inference, networks
from swift_debias.learning.objectives import probabilities
from swift_debias.learning.samples import make_samples
from swift_debias.run import layout
from swift_debias.run.job import classes_of, logged

with logged(snakemake):
    params = snakemake.params
    classes = classes_of(params)
    backbone, compute = Backbone(**params.backbone), Compute(**params.compute)
    device = devices.prepare_device(compute)
    tests = read_labelled(
        params.datasets,
        snakemake.input.manifests,
        snakemake.input.index,
        snakemake.input.skin_tone,
        Attribute(**params.attribute),
    )
    images = CachedImages(cache_pairs(snakemake.input.pixels, snakemake.input.index))
    samples = make_samples(
        images,
        images.rows(tests.dataset.tolist(), tests.image_id.tolist()),
        tests.label.to_numpy(),
        tests.group.to_numpy(),
        device,
        compute.resident,
        Normalization.of(**params.normalization),
        classes,
    )
    run = layout.run_folder("setup_predictions", snakemake.output[0])
    thresholds = {Path(path).parent: read_json(path) for path in snakemake.input.thresholds}
    repeated = set(snakemake.input.get("repeat_models", []))
    for model in (*snakemake.input.models, *repeated):
        classifier = devices.place(networks.load(Path(model), backbone), device, compute)
        with of_job(model):
            logits = inference.predict(classifier, samples)
        scores = probabilities(logits).cpu().numpy().reshape(len(logits), -1)
        # the keys of its model: scores cannot be filed under another method, fold or repeat
        kind = "repeat_" if model in repeated else ""
        keys = layout.keys(f"{kind}model", model)
        predictions = tests.assign(**dict(zip(score_columns(classes), scores.T, strict=True)))
        if classes == 2:
            found = thresholds[Path(model).parent]
            predictions["threshold"] = pd.Series(found["threshold"], tests.index, "float64")
            if "rule" in found:
                names = image_names(tests.dataset, tests.image_id)
                rule = Rule.from_json(found["rule"])
                predictions["decision"] = rule.decide(predictions.score, tests.group, names)
        output = run / layout.path(f"{kind}predictions", **keys)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(predictions, output)
        print(f"{model}: {len(predictions)} images scored")
