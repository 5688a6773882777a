"""`focalface bench`: this project beside what a user would write today, in one go, on one machine, with the answers compared.

`others` is the other side and `ours` this one; `sides` gives each side a process of its own, `rows` lets the two take turns and
compares what they say. `inside` says where our own time goes, and `fullsize` what full-size models
reach of what a device could do.
"""
