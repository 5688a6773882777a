"""`focalface run` as a Ray job, from a clone of the project (`focalface submit` does the same from an installation):

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/describe.py VIDEO_OR_FOLDER_OR_GLOB... --out DIR

Takes the arguments of `focalface run`. Every node must reach the videos and the output folder, at the same path or at a URL (s3://...).
"""

from __future__ import annotations

import sys

from pipeline.cli import main

if __name__ == "__main__":
    main(["run", "--set", "execution.address=auto", "--verbose", *sys.argv[1:]])
