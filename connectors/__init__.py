"""The world's edge: what flows into the platform and out of it, and the runners that move it."""
