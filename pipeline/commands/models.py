"""`focalface models`: the checkpoints that come with focalface."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from pipeline.commands.options import Debug


def models(debug: Debug = False) -> None:
    """List the checkpoints that come with focalface and what they know.

    Example: focalface models
    """
    from pipeline.describe.checkpoints import embedded
    from pipeline.describe.grammar import Grammar

    console = Console()
    for name, folder in embedded().items():
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
        known = Grammar.load(folder).aus
        console.print(f"[bold]{escape(name)}[/]  {size:.1f} MB  {escape(str(folder))}", soft_wrap=True, highlight=False)
        console.print(f"  emotions, age, and {len(known)} action units: {', '.join(known)}", highlight=False)
    console.print("Any other Qwen2.5-VL checkpoint: --model FOLDER or --model HUB/ID, with --adapter FOLDER for a LoRA adapter.")
