"""The main job as a Ray job, on the cluster that it is started in; what `focalface submit` sends:

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/describe.py VIDEO_OR_FOLDER_OR_GLOB... --out DIR

Takes what `focalface run` takes. Videos and the output folder must be where every node sees them: on storage that all have at the same
path, or at a URL (s3://...).
"""

from __future__ import annotations

import sys

from pipeline.cli import main

if __name__ == "__main__":
    main(["run", "--set", "execution.address=auto", "--verbose", *sys.argv[1:]])
