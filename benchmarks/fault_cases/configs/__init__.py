"""The smallest configs: a run of seconds with every kind of phase."""
