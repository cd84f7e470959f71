"""The training pool without duplicates and without test images, tied to an attribute if asked."""

from pathlib import Path

import pandas as pd

from swift_debias.config.schema import Attribute, Duplicates, Tie
from swift_debias.data import duplicates, greys, image_cache, manifest, own_external
from swift_debias.data.groups import groups_in
from swift_debias.data.tie import tie_pool
from swift_debias.files import write_json, write_parquet
from swift_debias.run.job import logged

with logged(snakemake):
    params = snakemake.params

    def sources(names: list[str], manifests: list[str], indexes: list[str]) -> list:
        """The data sets as the search wants them."""
        found = []
        for name, rows, index in zip(names, manifests, indexes, strict=True):
            archive, lists_pairs = params.sources[name]
            found.append(
                duplicates.Source(
                    name,
                    manifest.read(Path(rows)),
                    image_cache.read_index(Path(index)),
                    archive,
                    duplicates.read_listed(Path(params.roots[name]), beside=lists_pairs),
                )
            )
        return found

    options = Duplicates(**params.duplicates)
    images = None
    if options.recoloured:
        given = snakemake.input
        pairs = zip(given.pixels, [*given.train_images, *given.test_images], strict=True)
        images = image_cache.CachedImages([(Path(npy), Path(index)) for npy, index in pairs])
    train = sources(params.train, snakemake.input.train_manifests, snakemake.input.train_images)
    tests = sources(params.tests, snakemake.input.test_manifests, snakemake.input.test_images)
    cohort = duplicates.find_duplicates(train, tests, options, params.group_by_patient, images)
    scaled = greys.scales({source.dataset: source.index for source in (*train, *tests)})
    cohort = cohort._replace(log=cohort.log | scaled.log)
    if params.external:
        marked = own_external.mark(cohort.frame, params.external)
        cohort = cohort._replace(frame=marked.frame, log=cohort.log | {"external": marked.log})
    if params.tie:
        attribute = Attribute(**params.tie["attribute"])
        tied = tie_pool(
            cohort.frame,
            groups_in(cohort.frame, attribute),
            attribute.group_names,
            Tie(**params.tie["tie"]),
            params.tie["seed"],
            params.get("class_names", ()),
        )
        cohort = cohort._replace(frame=tied.frame, log=cohort.log | {"tie": tied.log})
    write_parquet(cohort.frame, snakemake.output.cohort)
    write_parquet(cohort.pairs, snakemake.output.duplicates)
    write_json(snakemake.output.log, cohort.log)
    print("".join(f"{line}\n" for line in scaled.lines), end="")
    with pd.option_context("display.width", 160):
        print(pd.Series(cohort.log).to_string())
