# Every method of the config, on the same Baseline and the same external set.


rule copy_baseline:
    input:
        model=rules.train_baseline.output.model,
        history=rules.train_baseline.output.history,
        cost=rules.train_baseline.output.cost,
    output:
        model=folder(MODELS),
        history=folder(HISTORIES),
        cost=folder(COSTS),
    log:
        folder(
            "logs/copy_baseline/{task}/{backbone}/{attribute}/{method}/fold{fold}.log"
        ),
    wildcard_constraints:
        method="|".join(UNTOUCHED) or "(?!)",
    localrule: True
    conda:
        "../../envs/data.yaml"
    shell:
        "(cp {input.model} {output.model} && cp {input.history} {output.history}"
        " && cp {input.cost} {output.cost}) 2> {log}"


# One job takes all folds: its fixed cost is its imports, and on a cluster a job should be minutes long.
rule debias:
    input:
        unpack(pool_images),
        models=all_folds(rules.train_baseline.output.model),
        external=external_sets,
        importance=shared_importance,
    output:
        models=all_folds(folder(MODELS)),
        history=all_folds(folder(HISTORIES)),
        costs=all_folds(folder(COSTS)),
    log:
        folder("logs/debias/{task}/{backbone}/{attribute}/{method}.log"),
    benchmark:
        folder("benchmarks/debias/{task}/{backbone}/{attribute}/{method}.tsv")
    wildcard_constraints:
        method="|".join(sorted(set(settings.methods) - set(UNTOUCHED))) or "(?!)",
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
        task=task_slice("pretraining", "augmentation", "finetuning"),
        groups=groups_of,
        folds=FOLDS,
        compute=dump(settings.compute),
        seed=settings.seed,
        checkpoints=folder("checkpoints/{task}/{backbone}/{attribute}/{method}"),
        torch=TORCH,
        code=lambda wildcards: code_id(
            "debias.py", f"swift_debias.methods.{algorithm(wildcards)}"
        ),
    script:
        "../scripts/debias.py"
