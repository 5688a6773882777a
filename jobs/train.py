"""Training as a Ray job, over as many workers as there are GPUs to use (Ray Train):

    ray job submit --address http://HEAD:8265 --working-dir . -- \\
        python jobs/train.py --workers 4 --gpu configs/train/lora/*.yaml --data DIR --out DIR --model Qwen/Qwen2.5-VL-7B-Instruct

Takes what `focalface train` takes, and how many workers share each step. Data and output folder must be on storage that every node sees at
the same path. A worker that dies is started again and the training goes on from its last whole state.
"""

from __future__ import annotations

import argparse
from typing import Any

RETRIES = 3
"""How often a training whose worker died is taken up again."""


def work(config: dict[str, Any]) -> None:
    """One worker's part."""
    from pipeline.cli import app

    app(["train", *config["arguments"]], standalone_mode=False)


def main() -> None:
    """Run `focalface train` on several workers at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1, help="processes that share each step")
    parser.add_argument("--gpu", action="store_true", help="a GPU for each of them")
    options, arguments = parser.parse_known_args()

    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(
        work,
        train_loop_config={"arguments": arguments},
        scaling_config=ScalingConfig(num_workers=options.workers, use_gpu=options.gpu),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=RETRIES)),
    ).fit()


if __name__ == "__main__":
    main()
