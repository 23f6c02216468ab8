"""Runners: they claim offered steps, carry them out in child processes, and report what happened."""
