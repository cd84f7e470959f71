"""Look at every raw folder, in seconds: what is there, what is missing and where to get it."""

from pathlib import Path

from swift_debias.config import load
from swift_debias.data import adapters, check, fingerprint
from swift_debias.files import write_json, write_text
from swift_debias.run.job import logged

with logged(snakemake):
    config = load.typed(snakemake.params.settings, adapters.options_models())
    expected = check.load_expected(Path(snakemake.input.expected))
    changed = {
        name: fingerprint.last_change(Path(seen)) for name, seen in snakemake.params.seen.items()
    }
    report = check.check(config, Path(), expected, changed)
    write_json(snakemake.output.json, report.as_json())
    write_text(snakemake.output.text, report.as_text())
    print(report.as_text())
