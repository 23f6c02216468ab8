"""The demo: the main job on real input, every figure checked by a client that is not the product's."""
