"""Kinds of jobs of a comparison, and the exit status of an interrupted job."""

CHECK = 'check'  # Which strategies apply to the data set.
INITIAL = 'initial'  # The initial model of a seed.
TUNE = 'tune'  # The learning rate of a strategy.
UNIT = 'unit'
INTERRUPTED = 75  # Exit status of a job that was stopped and can continue.
