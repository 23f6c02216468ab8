"""Telling people: incidents of alerts go out through channels."""
