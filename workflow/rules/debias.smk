# Every method of the config, on the same Baseline and the same external set.

UNTOUCHED = [
    name for name, method in settings.methods.items() if method.algorithm == "baseline"
]


import hashlib
import json


# Variants that begin alike share their first step: digest -> the step as a variant of its own. It is
# a job of its own where at least two methods of the config have it.
def first_step(name):
    """The first step of a method as a variant of its own, and whose search sets which of its keys."""
    own = methods.shared_first(settings.methods[name])
    owner, keys = methods.searched(settings.methods, name)
    return own and (own, owner, methods.first_keys(own, keys))


FIRST_OF = {
    name: hashlib.sha256(json.dumps([dump(first[0]), *first[1:]]).encode()).hexdigest()[
        :12
    ]
    for name in settings.methods
    if (first := first_step(name)) is not None
}
FIRST_OF = {
    name: found
    for name, found in FIRST_OF.items()
    if list(FIRST_OF.values()).count(found) > 1
}
FIRST_STEPS = {found: first_step(name) for name, found in FIRST_OF.items()}
SEARCHED = [
    name for name, method in settings.methods.items() if isinstance(method.search, dict)
]
SEARCHED_FOLDS = FOLDS[: settings.selection.on_folds]


def variant(wildcards):
    """The variant that a job runs: a named one, or the first step that several share."""
    first = wildcards.get("first")
    return FIRST_STEPS[first][0] if first else settings.methods[wildcards.method]


def recipe(wildcards):
    """Settings of a variant; its title is for tables and figures only."""
    return variant(wildcards).model_dump(mode="json", exclude={"title", "search"})


def set_by_search(wildcards):
    """Whose search sets a variant, and which of its keys."""
    first = wildcards.get("first")
    if first:
        return FIRST_STEPS[first][1:]
    return methods.searched(settings.methods, wildcards.method)


def search_of(wildcards):
    """What a search found, for a variant whose settings it sets."""
    owner, keys = set_by_search(wildcards)
    names = {key: wildcards[key] for key in ("task", "backbone", "attribute")}
    return folder("search", method=owner, **names) if keys else []


def first_step_of(wildcards):
    """Models, histories and costs of the shared first step, fold by fold; or nothing."""
    if wildcards.method not in FIRST_OF:
        return {}
    keys = {key: wildcards[key] for key in ("task", "backbone", "attribute")}
    keys["first"] = FIRST_OF[wildcards.method]
    return {
        name: [folder(name, fold=fold, **keys) for fold in FOLDS]
        for name in ("first_model", "first_history", "first_cost")
    }


def full_settings(variant):
    """The settings of a variant's algorithm, defaults filled in."""
    return methods.load(variant.algorithm).Settings.model_validate(variant.settings)


def shared_importance(wildcards):
    """The importances, for the variants that read them."""
    own = variant(wildcards)
    if not methods.read_importances(own.algorithm, full_settings(own)):
        return []
    keys = {key: wildcards[key] for key in ("task", "backbone", "attribute")}
    return [folder("importance", fold=fold, **keys) for fold in FOLDS]


def holds_out(wildcards):
    """Whether a variant chooses something on samples that it holds out."""
    return not wildcards.get("first") and methods.holds_out(
        settings.methods, wildcards.method
    )


def cohort_of(wildcards):
    """Whose the images are, for the variants that hold some out."""
    return folder("cohort", task=wildcards.task) if holds_out(wildcards) else []


def selection_of(wildcards):
    """How much such a variant holds out, and by which rule it chooses."""
    return dump(settings.selection) if holds_out(wildcards) else None


debias_task = task_slice("pretraining", "augmentation", "finetuning")


def debias_code(wildcards):
    """The code that a variant runs: of its own method only."""
    return code_id("debias.py", f"swift_debias.methods.{variant(wildcards).algorithm}")


# what a debiasing depends on, and each of its repeats
DEBIASING = {
    "method": recipe,
    "searched": lambda wildcards: list(set_by_search(wildcards)[1]),
    "backbone": lambda wildcards: dump(settings.backbones[wildcards.backbone]),
    "module": lambda wildcards: module_of(wildcards.backbone),
    "task": debias_task,
    "normalization": normalization,
    "groups": groups_of,
    "classes": classes_of,
    "folds": FOLDS,
    "own_external": own_external,
    "selection": selection_of,
    "compute": compute,
    "arithmetic": ARITHMETIC,
    "seed": settings.seed,
}


# All folds in one job: five short ones would cost more to plan than to do.
rule copy_baseline:
    input:
        models=all_folds("baseline_model"),
        history=all_folds("baseline_history"),
        costs=all_folds("baseline_cost"),
        thresholds=all_folds("baseline_threshold"),
    output:
        models=all_folds("model"),
        history=all_folds("history"),
        costs=all_folds("cost"),
        thresholds=all_folds("threshold"),
    log:
        log_of("copy_baseline", "task", "backbone", "attribute", "method"),
    wildcard_constraints:
        method=one_of(UNTOUCHED),
    localrule: True
    conda:
        "../../envs/data.yaml"
    shell:
        '(set -- {input:q}; for copy in {output:q}; do cp "$1" "$copy" || exit; shift; done)'
        " 2> {log:q}"


rule search:
    input:
        unpack(pool_images),
        models=all_folds("baseline_model"),
        external=external_sets,
        groups=rules.choose_groups.output,
        cohort=rules.find_duplicates.output.cohort,
    output:
        folder("search"),
    log:
        log_of("search", "task", "backbone", "attribute", "method"),
    benchmark:
        benchmark_of("search", "task", "backbone", "attribute", "method")
    wildcard_constraints:
        method=one_of(SEARCHED),
    conda:
        "../../envs/torch.yaml"
    threads: settings.compute.threads
    resources:
        gpu=1,
        cpus_per_task=settings.compute.threads,
        mem_mb=memory(6000, per_input=2.2),
        runtime=minutes(30, search_passes),
    params:
        method=lambda wildcards: settings.methods[wildcards.method].model_dump(
            mode="json", exclude={"title"}
        ),
        selection=dump(settings.selection),
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        module=lambda wildcards: module_of(wildcards.backbone),
        task=task_slice("pretraining", "augmentation", "finetuning"),
        normalization=normalization,
        folds=SEARCHED_FOLDS,
        own_external=own_external,
        compute=compute,
        arithmetic=ARITHMETIC,
        seed=settings.seed,
        journal=placed(folder("search_journal")),
        torch=TORCH,
        code=lambda wildcards: code_id(
            "search.py", f"swift_debias.methods.{variant(wildcards).algorithm}"
        ),
    script:
        "../scripts/search.py"


# One job takes all folds: its fixed cost is its imports, and on a cluster a job should be minutes long.
# With `compute.debias_job: fold` it takes one. Inputs and params are the same, those of all folds, so
# that what was made in one way is not made again in the other.
OWN_FOLD = ("fold",) if settings.compute.debias_job == "fold" else ()


def debiased(name):
    """A file of every fold that a job debiases."""
    return [folder(name)] if OWN_FOLD else all_folds(name)


rule first_step:
    input:
        unpack(pool_images),
        models=all_folds("baseline_model"),
        external=external_sets,
        groups=rules.choose_groups.output,
        importance=shared_importance,
        search=search_of,
    output:
        models=debiased("first_model"),
        history=debiased("first_history"),
        costs=debiased("first_cost"),
    log:
        log_of("first_step", "task", "backbone", "attribute", "first", *OWN_FOLD),
    benchmark:
        benchmark_of("first_step", "task", "backbone", "attribute", "first", *OWN_FOLD)
    wildcard_constraints:
        first=one_of(FIRST_STEPS),
    conda:
        "../../envs/torch.yaml"
    threads: settings.compute.threads
    resources:
        gpu=1,
        cpus_per_task=settings.compute.threads,
        mem_mb=memory(6000, per_input=2.2),
        runtime=minutes(30, debias_passes),
    params:
        method=recipe,
        searched=lambda wildcards: list(set_by_search(wildcards)[1]),
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        module=lambda wildcards: module_of(wildcards.backbone),
        task=debias_task,
        normalization=normalization,
        groups=groups_of,
        classes=classes_of,
        folds=FOLDS,
        own_external=own_external,
        selection=selection_of,
        compute=compute,
        arithmetic=ARITHMETIC,
        seed=settings.seed,
        checkpoints=placed(folder("first_checkpoints")),
        torch=TORCH,
        code=debias_code,
    script:
        "../scripts/debias.py"


rule debias:
    input:
        unpack(pool_images),
        unpack(first_step_of),
        models=all_folds("baseline_model"),
        external=external_sets,
        groups=rules.choose_groups.output,
        importance=shared_importance,
        search=search_of,
        cohort=cohort_of,
    output:
        models=debiased("model"),
        history=debiased("history"),
        costs=debiased("cost"),
        thresholds=debiased("threshold"),
    log:
        log_of("debias", "task", "backbone", "attribute", "method", *OWN_FOLD),
    benchmark:
        benchmark_of("debias", "task", "backbone", "attribute", "method", *OWN_FOLD)
    wildcard_constraints:
        method=one_of(sorted(set(settings.methods) - set(UNTOUCHED))),
    conda:
        "../../envs/torch.yaml"
    threads: settings.compute.threads
    resources:
        gpu=1,
        cpus_per_task=settings.compute.threads,
        mem_mb=memory(6000, per_input=2.2),
        runtime=minutes(30, debias_passes),
    params:
        **DEBIASING,
        checkpoints=placed(folder("checkpoints")),
        torch=TORCH,
        code=debias_code,
    script:
        "../scripts/debias.py"


# The same with other draws. Nothing is shared with the first: a step that variants have in common
# depends on its draws.
use rule debias as debias_again with:
    input:
        unpack(pool_images),
        models=all_folds("baseline_model"),
        external=external_sets,
        groups=rules.choose_groups.output,
        importance=shared_importance,
        search=search_of,
        cohort=cohort_of,
    output:
        models=debiased("repeat_model"),
        history=debiased("repeat_history"),
        costs=debiased("repeat_cost"),
        thresholds=debiased("repeat_threshold"),
    log:
        log_of(
            *("debias_again", "task", "backbone", "attribute", "method", "repeat"),
            *OWN_FOLD,
        ),
    benchmark:
        benchmark_of(
            *("debias_again", "task", "backbone", "attribute", "method", "repeat"),
            *OWN_FOLD,
        )
    params:
        **DEBIASING,
        checkpoints=placed(folder("repeat_checkpoints")),
        torch=TORCH,
        code=debias_code,
