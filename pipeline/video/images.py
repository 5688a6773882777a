"""Still images: reading a file as people see it."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image, ImageOps

from pipeline.errors import FocalfaceError, one_line


def load_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file: turned as its EXIF orientation says, transparency over white, grey and 16-bit images as 8-bit RGB.

    Args:
        path: path of a file that Pillow can read.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        FocalfaceError: when there is no such file, or it cannot be read.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image).astype(np.float32) / 257).clip(0, 255).astype(np.uint8))
            if image.has_transparency_data:
                layer = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            return np.array(image.convert("RGB"))
    except FileNotFoundError as error:
        raise FocalfaceError(f"there is no file {path}") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FocalfaceError(f"{path} cannot be read as an image: {one_line(error)}") from error
