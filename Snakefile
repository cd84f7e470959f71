# For whoever looks here first. The workflow is workflow/Snakefile, its standard place.


include: "workflow/Snakefile"


# an included file cannot set it
workflow.default_target = rules.all.rule.name
