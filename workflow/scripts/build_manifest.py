"""Read one data set's official files into a manifest."""

from pathlib import Path

from swift_debias import datasets, manifest
from swift_debias.job import logged, whole
from swift_debias.settings import make_dataset

with logged(snakemake):
    params = snakemake.params
    result = datasets.read(make_dataset(params.dataset), Path())
    if params.invert_labels:
        result.frame["label"] = 1 - result.frame["label"]
    with whole(snakemake.output.manifest) as frame, whole(snakemake.output.log) as log:
        manifest.write(result, snakemake.wildcards.dataset, frame, log)
    print(f"{result.log['rows_read']} rows read, {len(result.frame)} images kept")
    for rule in result.log["rules"]:
        print(f"  {rule['rule']}: {rule['removed']}")
