"""`focalface train` as a Ray job, on one or several workers (Ray Train):

    ray job submit --address http://HEAD:8265 --working-dir . -- \\
        python jobs/train.py --workers 4 --gpu configs/train/lora/*.yaml --data DIR --out DIR --model Qwen/Qwen2.5-VL-7B-Instruct

All other arguments are those of `focalface train`. The dataset and the output folder must be on storage that every node mounts at the same
path. Ray restarts a worker that dies, and the training resumes from its last complete state.
"""

from __future__ import annotations

import argparse
from typing import Any

RETRIES = 3
"""Times that a training is restarted after a worker died."""


def train_worker(config: dict[str, Any]) -> None:
    """Run the training in one worker; torch.distributed is initialised."""
    from pipeline.cli import app

    app(["train", *config["arguments"]], standalone_mode=False)


def main() -> None:
    """Run `focalface train` on several workers that share each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1, help="number of processes that share each step")
    parser.add_argument("--gpu", action="store_true", help="give each worker one GPU")
    options, arguments = parser.parse_known_args()

    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(
        train_worker,
        train_loop_config={"arguments": arguments},
        scaling_config=ScalingConfig(num_workers=options.workers, use_gpu=options.gpu),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=RETRIES)),
    ).fit()


if __name__ == "__main__":
    main()
