"""End the run where the data do not suffice for an experiment; check_data has told what lacks."""

from pathlib import Path

from swift_debias.errors import UserError
from swift_debias.files import read_json, write_text
from swift_debias.run.job import logged

with logged(snakemake):
    found = read_json(str(snakemake.input.json))
    if not found["ok"]:
        why: dict[str, list[str]] = {}  # several experiments have the same
        for one in found["experiments"]:
            if one["reasons"]:
                why.setdefault("; ".join(one["reasons"]), []).append(one["name"])
        told = [f"{', '.join(names)}: cannot run: {reasons}" for reasons, names in why.items()]
        text = Path(snakemake.input.text).read_text(encoding="utf-8")
        raise UserError(text, in_short="; ".join(told))
    write_text(snakemake.output[0], "Every experiment can be done with the data that are there.\n")
