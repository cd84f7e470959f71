# Every method of the config, on the same Baseline and the same external set.


rule copy_baseline:
    input:
        model=rules.train_baseline.output.model,
        history=rules.train_baseline.output.history,
        cost=rules.train_baseline.output.cost,
    output:
        model=folder(
            "debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/model.safetensors"
        ),
        history=folder(
            "debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/history.parquet"
        ),
        cost=folder(
            "debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/cost.json"
        ),
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


rule debias:
    input:
        unpack(pool_images),
        model=rules.train_baseline.output.model,
        external=external_set,
        importance=shared_importance,
    output:
        model=folder(
            "debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/model.safetensors"
        ),
        history=folder(
            "debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/history.parquet"
        ),
        cost=folder(
            "debiased/{task}/{backbone}/{attribute}/{method}/fold{fold}/cost.json"
        ),
    log:
        folder("logs/debias/{task}/{backbone}/{attribute}/{method}/fold{fold}.log"),
    benchmark:
        folder(
            "benchmarks/debias/{task}/{backbone}/{attribute}/{method}/fold{fold}.tsv"
        )
    wildcard_constraints:
        method="|".join(set(settings.methods) - set(UNTOUCHED)) or "(?!)",
    conda:
        "../../envs/torch.yaml"
    threads: settings.compute.threads
    resources:
        gpu=1,
    params:
        method=lambda wildcards: dump(settings.methods[wildcards.method]),
        backbone=lambda wildcards: dump(settings.backbones[wildcards.backbone]),
        task=task_slice("pretraining", "augmentation", "finetuning"),
        groups=groups_of,
        compute=dump(settings.compute),
        seed=settings.seed,
        checkpoints=folder(
            "checkpoints/{task}/{backbone}/{attribute}/{method}/fold{fold}"
        ),
        code=lambda wildcards: code_id(
            "debias.py", f"swift_debias.methods.{algorithm(wildcards)}"
        ),
    script:
        "../scripts/debias.py"
