"""The rules: commands, events, state, ``decide`` and ``evolve`` of every aggregate. Standard library only, no IO, clock or dice."""
