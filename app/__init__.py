"""The edge: commands in, views out; the only package that knows all others."""
