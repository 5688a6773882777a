"""The FaceFocalDesc benchmark: how good a describer is, where it fails, and against what."""
