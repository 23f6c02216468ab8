"""Singer taps as sources: real external programs, each in a virtual environment of its own."""
