"""The commands, a module each; what is heavy (torch, Ray) is imported inside the command that needs it, so that `--help` is quick."""
