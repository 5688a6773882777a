"""From tracked faces to the regions that are worth a description, window by window.

In: `pipeline.records.Face`. Out: `pipeline.records.Selection`. Open `selection.py` first; `placement.py` says where a region lies.
"""
