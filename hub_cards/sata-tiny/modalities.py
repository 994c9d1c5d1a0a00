"""The sensors that SATA knows, in the order in which everything counts them."""

MODALITIES = ("rgb", "thermal", "depth", "event")
RGB = 0  # its place among them
