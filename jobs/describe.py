"""The main job as a Ray job, on the cluster that it is started in:

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/describe.py VIDEO_OR_FOLDER_OR_GLOB... --out DIR

Takes what `focalface run` takes. Videos and the output folder must be on storage that every node sees at the same path.
"""

from __future__ import annotations

import sys

from pipeline.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:], "--set", "engine.address=auto"])
