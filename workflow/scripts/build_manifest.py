"""Read one data set's official files into a manifest."""

from pathlib import Path

from swift_debias.data import adapters, manifest
from swift_debias.data.classes import label_classes
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params
    result = adapters.read(adapters.make_options(params.dataset | params.places), Path())
    if params.invert_labels:
        result.frame["label"] = 1 - result.frame["label"]
    classes = params.get("classes")
    if classes:
        result = label_classes(result, classes, snakemake.wildcards.dataset)
    manifest.write(
        result,
        snakemake.wildcards.dataset,
        Path(snakemake.output.manifest),
        Path(snakemake.output.log),
        len(classes or (0, 1)),
    )
    print(f"tables: {', '.join(result.log['tables'])}")
    print(f"{result.log['rows_read']} rows read, {len(result.frame)} images kept")
    for rule in result.log["rules"]:
        print(f"  {rule['rule']}: {rule['removed']}")
