"""Which method to take for which kind of bias, where the run drew biases that are known."""

from pathlib import Path

from swift_debias.config.drawn_biases import DrawnBias
from swift_debias.evaluation import plausibility
from swift_debias.report import which_method, which_method_page
from swift_debias.run import results
from swift_debias.run.job import logged

with logged(snakemake):
    given, params = snakemake.input, snakemake.params
    run = which_method.Run(
        params.run,
        params.folds,
        params.repeats,
        params.titles,
        params.baseline,
        {task: DrawnBias(**bias) for task, bias in params.biases.items()},
        results.joined(given.intervals),
        plausibility.marks(results.joined(given.plausibility)),
        results.joined(given.get("repeats", [])),
    )
    print(*which_method_page.write(run, Path(snakemake.output[0])), sep="\n")
