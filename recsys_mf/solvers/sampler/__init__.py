"""The parts of `gibbs`: a chain, its tables and their priors, the links of the priors to data, the likelihood."""
