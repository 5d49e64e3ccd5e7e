"""Floor 4: training, evaluation, benchmarks, the health of the machine."""
