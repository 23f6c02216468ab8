"""A pipeline's definition run in memory, in virtual time, with steps that do what a scenario says."""
