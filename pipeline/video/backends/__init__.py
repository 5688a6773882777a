"""The decoders: PyAV, which reads every file, and decord, for files that it reads correctly."""
