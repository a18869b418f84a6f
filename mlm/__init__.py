"""Masked language models as an experiment: data, masking, model, training, evaluation.

The modules stand in the order of the data: corpus, vocabulary, shards, batches, masking,
encoder, objectives, train, evaluate, probe. Importing one loads no other that it does not use;
`study` in particular loads no torch.
"""

import os

# One thread a process, said before anything loads a BLAS: results then do not depend on the number
# of cores, and two runs of one thread do about a fifth more than one of two.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"
