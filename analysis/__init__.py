"""Results to statistics, tables, figures, numbers and the paper. Never imports torch.

In the order of the data: study and runs (what is on disk), collect, signflip and multiplicity,
contrasts and verdicts, table, the figures, numbers, paper. This file stays empty so that the
Snakefile can ask `outputs` for file names without loading pandas.
"""
