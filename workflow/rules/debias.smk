# Every method of the config, on the same Baseline and the same external set.

UNTOUCHED = [
    name for name, method in settings.methods.items() if method.algorithm == "baseline"
]


def recipe(method):
    """Settings of a named variant; its title is for tables and figures only."""
    return settings.methods[method].model_dump(mode="json", exclude={"title"})


def full_settings(method):
    """The settings of a variant's algorithm, defaults filled in."""
    variant = settings.methods[method]
    return methods.load(variant.algorithm).Settings.model_validate(variant.settings)


def algorithm(wildcards):
    """The algorithm of a named variant."""
    return settings.methods[wildcards.method].algorithm


def shared_importance(wildcards):
    """The importances, for the variants that read them."""
    own = full_settings(wildcards.method)
    if not methods.read_importances(algorithm(wildcards), own):
        return []
    keys = {key: wildcards[key] for key in ("task", "backbone", "attribute")}
    return [folder("importance", fold=fold, **keys) for fold in FOLDS]


rule copy_baseline:
    input:
        model=rules.train_baseline.output.model,
        history=rules.train_baseline.output.history,
        cost=rules.train_baseline.output.cost,
    output:
        model=folder("model"),
        history=folder("history"),
        cost=folder("cost"),
    log:
        log_of("copy_baseline", "task", "backbone", "attribute", "method", "fold"),
    wildcard_constraints:
        method=one_of(UNTOUCHED),
    localrule: True
    conda:
        "../../envs/data.yaml"
    shell:
        "(cp {input.model:q} {output.model:q} && cp {input.history:q} {output.history:q}"
        " && cp {input.cost:q} {output.cost:q}) 2> {log:q}"


# One job takes all folds: its fixed cost is its imports, and on a cluster a job should be minutes long.
rule debias:
    input:
        unpack(pool_images),
        models=all_folds("baseline_model"),
        external=external_sets,
        importance=shared_importance,
    output:
        models=all_folds("model"),
        history=all_folds("history"),
        costs=all_folds("cost"),
    log:
        log_of("debias", "task", "backbone", "attribute", "method"),
    benchmark:
        benchmark_of("debias", "task", "backbone", "attribute", "method")
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
        method=lambda wildcards: recipe(wildcards.method),
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        module=lambda wildcards: module_of(wildcards.backbone),
        task=task_slice("pretraining", "augmentation", "finetuning"),
        normalization=normalization,
        groups=groups_of,
        folds=FOLDS,
        compute=dump(settings.compute),
        seed=settings.seed,
        checkpoints=folder("checkpoints"),
        torch=TORCH,
        code=lambda wildcards: code_id(
            "debias.py", f"swift_debias.methods.{algorithm(wildcards)}"
        ),
    script:
        "../scripts/debias.py"
