# From text to paper, in the order of the data. `snakemake --cores all` runs the experiments that
# the scale names, `snakemake --cores all split` one of them, `--config scale=smoke` the quick version.
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from analysis import outputs, provenance, testable
from mlm import layout, memory, registration
from mlm.files import file_sha256
from mlm.identity import code_hash
from mlm.measured import planned_code, together
from mlm.pipeline import Plan
from mlm.refusal import refusing

plan = Plan(config)
study, scale = plan.study, plan.study.scale_name
stated = study.contrasts if study.scale.evidence else {}
for problem in (*testable.problems(study), *registration.problems(scale, stated)):
    print(f"note: {problem}", file=sys.stderr)
# Steps are made anew for what they read and are told, not for the times of files: who changed a table by hand
# is told so.
if workflow.is_main_process:
    with refusing(os._exit):
        provenance.check_scale(scale)

# Jobs on other machines parse this file too; there the scheduler has settled which GPU is whose.
if workflow.is_main_process:
    told = workflow.resource_settings._parsed_overwrite_resources.items()
    asked = {rule: found["gpu"].raw for rule, found in told if "gpu" in found}
    limit = workflow.global_resources.get("gpu").raw
    if (at_once := plan.gpu_jobs(limit, asked, workflow.local_exec)) is not None:
        workflow.global_resources["gpu"] = at_once


# A job that is killed cannot say why; its shell can. The prefix takes the place of Snakemake's own, which it begins with.
shell.prefix("set -euo pipefail; " + memory.MARKING)
shell.suffix("|| python -m mlm.ended $?")
# The jobs of a cluster read this file too.
asked = workflow.resource_settings
if workflow.is_main_process and (
    told := plan.told(sys.argv[1:], asked.cores, asked.nodes)
):
    print(told, file=sys.stderr)


report: "analysis/captions/workflow.rst"


def shown(path, category, name=None):
    """The path, marked with caption, category and label if the report shows it."""
    name = name or Path(path).name
    if name not in outputs.SHOWN:
        return path
    caption, labels = f"analysis/captions/{Path(name).stem}.rst", outputs.SHOWN[name]
    return report(path, caption, category=category, labels={"result": labels})


untested = (*study.trials, *study.pilots)


def results_of(name):
    """What an experiment comes to: of trials of learning rates, `split-tune`, their table, of a pilot what is collected.

    What the steps between leave is asked for too: Snakemake takes a failed job's outputs away, and misses them
    only if they are.
    """
    steps = "collect", "contrasts", "table", "figures"
    if name in untested:
        steps = ("collect", "tune") if name in study.trials else ("collect",)
    return [path for step in steps for path in outputs.files(step, scale, name)]


rule all:
    input:
        [results_of(name) for name in study.scale.experiments],
        outputs.files("numbers", scale),
        outputs.files("paper", scale),
        outputs.files("comparison", scale),
        [outputs.files("report", scale, name) for name in study.scale.experiments],
        [plan.tracked(name) for name in study.scale.experiments],


# One target an experiment, by its name: all but the paper.
for name in study.experiments:

    rule:
        name:
            name
        input:
            results_of(name),
            plan.tracked(name),
            [] if name in untested else outputs.files("report", scale, name),


# What cannot be run at this scale says why when it is asked for.
for name in study.left_out:

    rule:
        name:
            name
        input:
            lambda w, name=name: plan.refuse(name),


# Where jobs go to a cluster: what fetches, and what takes seconds, runs where Snakemake does.
localrules:
    corpus,
    sentences,
    task,
    collect,
    tune,
    contrasts,
    table,
    wandb,
    numbers,
    paper,
    comparison,
    report_page,


def needed(what):
    """The minutes or memory of training and measuring a run; a second attempt, which goes on with the first's work, has twice."""
    return lambda w, attempt: attempt * plan.training(w.run)[what]


wildcard_constraints:
    run="[0-9a-f]{16}",
    untrained="[0-9a-f]{16}",
    shape="[0-9a-f]{16}",
    identity="[0-9a-f]{16}",
    experiment="|".join(map(re.escape, study.experiments)),


onstart:
    # Where jobs go to other machines, each looks at its own.
    plan.write(sys.argv[1:], here=workflow.local_exec)
    # A limit of jobs a second is for clusters. Snakemake 9 heeds it by looking for jobs again a second after
    # each time it looked, in one more chain for every job that ends: after 300 jobs that takes a core.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


onerror:
    plan.tell_failures()


rule corpus:
    output:
        "results/data/corpora/{corpus}/corpus.json",
    log:
        "results/logs/corpus/{corpus}.log",
    params:
        name=lambda w: plan.corpora[w.corpus],
    shell:
        "export MLM_LOG={log:q}; python -m mlm corpus {params.name:q} results/data/corpora/{wildcards.corpus:q}"


rule vocabulary:
    input:
        lambda w: plan.of_vocabulary[w.vocabulary].corpus / "corpus.json",
    output:
        "results/data/vocabularies/{vocabulary}/vocabulary.model",
    log:
        "results/logs/vocabulary/{vocabulary}.log",
    params:
        corpus=lambda w: str(plan.of_vocabulary[w.vocabulary].corpus),
        words=lambda w: plan.vocabulary(w.vocabulary),
    shell:
        "export MLM_LOG={log:q}; python -m mlm vocabulary {params.corpus:q} {output:q} {params.words}"


rule shards:
    input:
        lambda w: plan.of_shards[w.shards].corpus / "corpus.json",
        model=lambda w: plan.of_shards[w.shards].vocabulary,
    output:
        "results/data/shards/{shards}/shards.json",
    log:
        "results/logs/shards/{shards}.log",
    threads: 64  # all there are: Snakemake lowers it to --cores
    params:
        corpus=lambda w: str(plan.of_shards[w.shards].corpus),
        folder="results/data/shards/{shards}",
    shell:
        "export MLM_LOG={log:q}; python -m mlm shards {params.corpus:q} {input.model:q} {params.folder:q} --cores {threads}"


# What measures read comes before any training: what is refused there must not be found an hour later.
rule sentences:
    output:
        "results/data/probes/{probe}/sentences.jsonl",
    log:
        "results/logs/sentences/{probe}.log",
    priority: 1
    params:
        words=lambda w, output: plan.preparing[output[0]],
    shell:
        "export MLM_LOG={log:q}; python -m mlm sentences {output:q} {params.words}"


rule task:
    output:
        "results/data/tasks/{task}-{identity}/sentences.jsonl",
    log:
        "results/logs/task/{task}-{identity}.log",
    priority: 1
    shell:
        "export MLM_LOG={log:q}; python -m mlm task {wildcards.task:q} {output:q}"


rule pairs:
    input:
        lambda w: plan.of_vocabulary[w.vocabulary].corpus / "corpus.json",
        vocabulary="results/data/vocabularies/{vocabulary}/vocabulary.model",
    output:
        "results/data/pairs/{vocabulary}-{identity}/pairs.jsonl",
    log:
        "results/logs/pairs/{vocabulary}-{identity}.log",
    priority: 1
    params:
        corpus=lambda w: str(plan.of_vocabulary[w.vocabulary].corpus),
        words=lambda w, output: plan.preparing[output[0]],
    shell:
        "export MLM_LOG={log:q}; python -m mlm grammar {params.corpus:q} {output:q} --vocabulary {input.vocabulary:q} {params.words}"


# Steps of one shape are compiled once, and found by all runs that have it.
rule compile:
    input:
        lambda w: plan.of_shape[w.shape].data.shards / "shards.json",
    output:
        "results/data/compiled/{shape}.json",
    log:
        "results/logs/compile/{shape}.log",
    resources:
        gpu=plan.gpus,
    params:
        # Any run of the shape does. Told the output, the function's value is none that makes Snakemake compile again.
        run=lambda w, output: str(plan.of_shape[w.shape].folder),
    shell:
        "export MLM_LOG={log:q}; python -m mlm compile {params.run:q} {output:q}"


rule train:
    input:
        lambda w: plan.runs[w.run].data.shards / "shards.json",
        # Not as `ancient`: where Snakemake compiles again it would then look at nothing that follows, and end well. A run
        # that has ended is not trained again, whatever is newer.
        lambda w: plan.compiled(w.run),
    output:
        # All else that training writes is not declared: Snakemake deletes what it knows of before
        # a rule runs and after it fails, and a checkpoint must outlive both.
        "results/runs/{run}/trained",
    log:
        "results/logs/train/{run}.log",
    threads: study.numerics.processes
    resources:
        gpu=plan.gpus * study.numerics.processes,
        runtime=needed("runtime"),
        mem_mb=needed("mem_mb"),
    shell:
        f"export MLM_LOG={{log:q}}; python -m mlm train results/runs/{{wildcards.run}}"
        f" --checkpoint-seconds {study.scale.checkpoint_seconds} --offline-later --then-measure {layout.measures_file(scale)}"


# Snakemake deletes a rule's outputs before it runs, but those to update: what is taken already is kept.
for number, (measures, runs) in enumerate(plan.measured, 1):

    rule:
        name:
            f"measure_{number}"
        input:
            "results/runs/{run}/trained",
            lambda w, measures=measures: plan.data(measures, plan.runs[w.run]),
        output:
            [update(f"results/runs/{{run}}/{one.file}") for one in measures],
        log:
            f"results/logs/measure/{{run}}-{together(measures)}.log",
        wildcard_constraints:
            run=runs,
        priority: 1  # what a run came to is seen as soon as it has ended
        resources:
            gpu=plan.gpus,
            runtime=needed("runtime"),
            mem_mb=needed("mem_mb"),
        params:
            words=lambda w, measures=measures: plan.words(measures, plan.runs[w.run]),
            # Told the output, as in `compile`: what is taken already is not taken again for it.
            planned=lambda w, output, measures=measures: planned_code(measures),
        shell:
            "export MLM_LOG={log:q}; python -m mlm measure results/runs/{wildcards.run} --keep {params.words} {params.planned}"


for number, (measures, encoders) in enumerate(plan.measured_untrained, 1):

    rule:
        name:
            f"measure_untrained_{number}"
        input:
            lambda w: plan.of_untrained[w.untrained].data.shards / "shards.json",
            lambda w, measures=measures: plan.data(
                measures, plan.of_untrained[w.untrained]
            ),
        output:
            [update(f"results/untrained/{{untrained}}/{one.file}") for one in measures],
        log:
            f"results/logs/measure_untrained/{{untrained}}-{together(measures)}.log",
        wildcard_constraints:
            untrained=encoders,
        resources:
            gpu=plan.gpus,
        params:
            words=lambda w, measures=measures: plan.words(
                measures, plan.of_untrained[w.untrained], w.untrained
            ),
            planned=lambda w, output, measures=measures: planned_code(measures),
        shell:
            "export MLM_LOG={log:q}; python -m mlm measure {wildcards.untrained} --untrained --keep {params.words} {params.planned}"


rule collect:
    input:
        lambda w: plan.collected(w.experiment),
    output:
        outputs.files("collect", scale, "{experiment}"),
    log:
        f"results/logs/collect/{scale}/{{experiment}}.log",
    params:
        study=lambda w: plan.stated(w.experiment),
        mixed=plan.mixed,
        code=code_hash(outputs.modules("collect")),
    shell:
        f"export MLM_LOG={{log:q}}; python -m analysis collect {scale} {{wildcards.experiment:q}} {{params.mixed:q}}"


rule tune:
    input:
        rules.collect.output,
    output:
        [
            shown(path, "{experiment}")
            for path in outputs.files("tune", scale, "{experiment}")
        ],
    log:
        f"results/logs/tune/{scale}/{{experiment}}.log",
    params:
        study=lambda w: plan.stated(w.experiment),
        code=code_hash(outputs.modules("tune")),
    shell:
        f"export MLM_LOG={{log:q}}; python -m analysis tune {scale} {{wildcards.experiment:q}}"


rule contrasts:
    input:
        rules.collect.output,
    output:
        outputs.files("contrasts", scale, "{experiment}"),
    log:
        f"results/logs/contrasts/{scale}/{{experiment}}.log",
    params:
        study=lambda w: plan.stated(w.experiment),
        code=code_hash(outputs.modules("contrasts")),
    shell:
        f"export MLM_LOG={{log:q}}; python -m analysis contrasts {scale} {{wildcards.experiment:q}}"


rule table:
    input:
        rules.collect.output,
        rules.contrasts.output,
    output:
        [
            shown(path, "{experiment}")
            for path in outputs.files("table", scale, "{experiment}")
        ],
    log:
        f"results/logs/table/{scale}/{{experiment}}.log",
    params:
        study=lambda w: plan.stated(w.experiment),
        code=code_hash(outputs.modules("table")),
    shell:
        f"export MLM_LOG={{log:q}}; python -m analysis table {scale} {{wildcards.experiment:q}}"


# Each experiment asks for figures of its own, and a rule states its outputs once.
for name, experiment in study.experiments.items():
    if name in untested:
        continue

    rule:
        name:
            f"figures_{name}"
        input:
            [outputs.files(c, scale, name) for c in ("collect", "contrasts")],
        output:
            [shown(path, name) for path in outputs.files("figures", scale, name)],
            [shown(p, name, kind) for kind, p in outputs.own(scale, name, experiment)],
        log:
            f"results/logs/figures/{scale}/{name}.log",
        localrule: True
        params:
            name=name,
            study=plan.stated(name),
            code=code_hash(outputs.modules("figures"), ("matplotlib",)),
        shell:
            f"export MLM_LOG={{log:q}}; python -m analysis figures {scale} {{params.name:q}}"


rule wandb:
    input:
        lambda w: results_of(w.experiment),
    output:
        plan.tracked("{experiment}"),
    log:
        f"results/logs/wandb/{scale}/{{experiment}}.log",
    shell:
        f"export MLM_LOG={{log:q}}; python -m mlm sync --scale {scale} --experiment {{wildcards.experiment:q}} --as-configured {{output:q}}"


rule numbers:
    input:
        [
            outputs.files(c, scale, name)
            for name in study.scale.experiments
            for c in ("collect", "contrasts")
        ],
    output:
        outputs.files("numbers", scale),
    log:
        f"results/logs/numbers/{scale}.log",
    params:
        study=[plan.stated(name) for name in study.scale.experiments],
        experiments=[f"--experiment={name}" for name in study.scale.experiments],
        mixed=plan.mixed,
        code=code_hash(outputs.modules("numbers")),
    shell:
        f"export MLM_LOG={{log:q}}; python -m analysis numbers {scale} {{params.experiments:q}} {{params.mixed:q}}"


rule paper:
    input:
        rules.numbers.output,
        outputs.sources(),
        [
            outputs.files(c, scale, name)
            for name in study.scale.experiments
            for c in ("table", "figures")
        ],
    output:
        [shown(path, "study") for path in outputs.files("paper", scale)],
    log:
        f"results/logs/paper/{scale}.log",
    params:
        study=[plan.stated(name) for name in study.scale.experiments],
        sources=[file_sha256(Path(path)) for path in outputs.sources()],
        code=code_hash(outputs.modules("paper"), ("jinja2", "pypandoc_binary", "typst")),
    shell:
        f"export MLM_LOG={{log:q}}; python -m analysis paper {scale}"


rule comparison:
    input:
        outputs.comparison_sources(),
        [
            outputs.files(c, scale, name)
            for name in study.scale.experiments
            for c in ("collect", "contrasts")
        ],
    output:
        [shown(path, "study") for path in outputs.files("comparison", scale)],
    log:
        f"results/logs/comparison/{scale}.log",
    params:
        study=[plan.stated(name) for name in study.scale.experiments],
        experiments=[f"--experiment={name}" for name in study.scale.experiments],
        sources=[file_sha256(Path(path)) for path in outputs.comparison_sources()],
        code=code_hash(outputs.modules("comparison"), ("jinja2", "plotly")),
    shell:
        f"export MLM_LOG={{log:q}}; python -m analysis comparison {scale} {{params.experiments:q}}"


rule report_page:
    input:
        rules.collect.output,
        rules.contrasts.output,
        outputs.files("figures", scale, "{experiment}"),
        outputs.report_sources(),
    output:
        [
            shown(path, "{experiment}", "report.html")
            for path in outputs.files("report", scale, "{experiment}")
        ],
    log:
        f"results/logs/report_page/{scale}/{{experiment}}.log",
    params:
        study=lambda w: plan.stated(w.experiment),
        sources=[file_sha256(Path(path)) for path in outputs.report_sources()],
        code=code_hash(outputs.modules("report"), ("jinja2", "rich")),
    shell:
        f"export MLM_LOG={{log:q}}; python -m analysis report {scale} {{wildcards.experiment:q}}"


# Of what is not there Snakemake says that a rule is missing.
if workflow.is_main_process:
    plan.check_targets(sys.argv[1:], [rule.name for rule in workflow.rules])
