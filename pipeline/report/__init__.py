"""What people look at, from the tables of a run: pages, per-frame exports, annotated videos."""
