# SWiFT workflow: raw data folders in, debiased classifiers compared, tables and figures out.
#
#   make demo                                             synthetic data, a laptop, minutes
#   snakemake --profile profiles/slurm --cores all        the paper, on a cluster
#
# Without --configfile the demo is run; --config KEY=VALUE changes single keys of either. The rules stand in the order of the road.

from snakemake.utils import min_version

min_version("9.0")


# Values of the command line alone (--config folds=3) are no configuration: they change the demo's.
if not workflow.configfiles and not {"datasets", "extends"} & set(config):

    configfile: "config/demo.yaml"


include: "workflow/rules/source.smk"
include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/importance.smk"
include: "workflow/rules/debias.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.check_data.output,
        rules.data_suffices.output,
        expand(rules.set_sizes.output, task=sorted({task for task, *_ in SETUPS})),
        rules.summary.output,
        rules.report.output,
        rules.cost_table.output,
        [folder("figure", figure=name, format="pdf") for name in FIGURES],
