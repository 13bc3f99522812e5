"""High-dimensional neural-network potentials (Behler, Parrinello 2007) in the format of n2p2 and RuNNer."""
