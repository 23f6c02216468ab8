"""The log: decide, evolve, project, react."""
