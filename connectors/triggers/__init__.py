"""Runs that users' events start."""
