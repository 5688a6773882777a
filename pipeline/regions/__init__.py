"""From tracked faces to the regions that are worth a description, window by window.

In: `pipeline.records.Face`. Out: `pipeline.records.Selection`. Open `selection.py` first. `placement.py` places the boxes of regions,
`motion.py` measures how much each of them moved.
"""
