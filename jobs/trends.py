"""The analysis over time as a Ray job, on the cluster that it is started in:

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/trends.py DIR... --out DIR

Takes what `focalface trends` takes. Folders may be URLs (`s3://results/run`); others must be on storage that the head node sees.
"""

from __future__ import annotations

import sys

from pipeline.cli import main

if __name__ == "__main__":
    main(["trends", *sys.argv[1:]])
