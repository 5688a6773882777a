"""The promises that focalface keeps."""
