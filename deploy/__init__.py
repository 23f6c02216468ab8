"""How FlexCore is run: the local stack, the demo, and what images and charts need."""
