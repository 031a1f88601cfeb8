"""Studies: the paper reproduced, ablations, training speed beside torchreid."""
