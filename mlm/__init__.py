"""Masked language models as an experiment: data, masking, model, training, evaluation.

The modules stand in the order of the data: corpus, vocabulary, shards, batches, masking,
encoder, objectives, train, evaluate, probe. This file stays empty so that importing one
room never loads another; `experiment` in particular must not load torch.
"""
