# Which method to take for which kind of bias: of a run that drew its biases, so that they are known.

from swift_debias.config import drawn_biases


def biases_of(setups):
    """The biases that were drawn for the tasks of some setups."""
    drawn = settings.synthetic.populations if settings.synthetic else {}
    return drawn_biases.of_tasks(
        {name: dump(population) for name, population in drawn.items()},
        {task: dump(settings.tasks[task]) for task, *_ in setups},
    )


BIASES = biases_of(SETUPS)


def which_method_of_run(setups=SETUPS):
    """The folder of the answer; none where the run has no known bias or no oracle to compare with.

    The oracle is the Baseline of a pool without a bias, debiased with a clean external set.
    """
    biases = biases_of(setups)
    kinds = {bias.kind for bias in biases.values()}
    oracle = any(
        BASELINE in names and biases[task].kind == drawn_biases.NO_BIAS
        for (task, *_), names in setups.items()
        if task in biases and not biases[task].external_biased
    )
    return [folder("which_method")] if oracle and len(kinds) > 1 else []


def of_known(file):
    """A file of every setup whose bias is known."""
    return [
        path for path in of_setups(file) if layout.keys(file, path)["task"] in BIASES
    ]


rule which_method:
    input:
        **({"repeats": of_known("setup_repeats")} if settings.repeats > 1 else {}),
        intervals=of_known("intervals"),
        plausibility=of_known("setup_plausibility"),
    output:
        directory(folder("which_method")),
    log:
        log_of("which_method"),
    benchmark:
        benchmark_of("which_method")
    conda:
        "../../envs/report.yaml"
    params:
        run=settings.run,
        folds=settings.folds,
        repeats=settings.repeats,
        titles={name: TITLES[name] for name in USED},
        baseline=BASELINE,
        biases={task: bias._asdict() for task, bias in BIASES.items()},
        code=code_id("which_method.py"),
    script:
        "../scripts/which_method.py"
