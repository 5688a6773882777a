"""From a region-level dataset to a checkpoint that the describer opens.

In: a dataset folder (`pipeline.dataset`) and one YAML file per stage (`configs/train`). Out: for each stage a folder with its weights, its
log and its validation figures; at the end a checkpoint or a LoRA adapter.

Open `run_stages.py` first: it runs the stages in order. `stage_settings.py` lists every key of a stage's file. A stage trains an objective
(`objectives.py`) on batches (`batches.py`) in the training loop (`training_loop.py`).
"""
