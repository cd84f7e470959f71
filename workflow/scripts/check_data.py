"""Look at every raw folder, in seconds: what is there, what is missing and where to get it."""

from pathlib import Path

from swift_debias import settings
from swift_debias.datasets import check
from swift_debias.job import logged, write_json, write_text

with logged(snakemake):
    config = settings.Settings(**snakemake.params.settings)
    expected = check.load_expected(Path(snakemake.input.expected))
    report = check.check(config, Path(), expected)
    write_json(snakemake.output.json, report.as_json())
    write_text(snakemake.output.text, report.as_text())
    print(report.as_text())
    if not report.ok:
        raise settings.UserError(report.as_text())
