"""focalface: what every face in a video archive is doing, region by region and moment by moment."""

__version__ = "0.1.0"
