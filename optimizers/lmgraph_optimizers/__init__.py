"""The optimizers that come with lmgraph. They use public names of lmgraph only, as anybody's would."""
