"""Proof of the log: is it whole, and if not, which record is the first bad one. Pure functions over records."""
