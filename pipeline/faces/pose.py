"""Head pose from five landmarks: a closed form with four constants, fitted to labelled faces.

Turning the head moves the nose tip, which stands out of the plane of the eyes and mouth corners: sideways by its depth times the sine
of the yaw. The widths in that plane shrink by the cosine, so the ratio is a tangent. Nodding moves the nose tip up and down likewise.
"""

from __future__ import annotations

import numpy as np

YAW_GAIN = 2.4
"""Tangent of the yaw for a sideways nose offset of one (eye distance + mouth width); more makes every yaw larger."""

PITCH_GAIN = 78.05
"""Degrees for each unit by which the nose moves from the eye line (0) to the mouth line (1); more makes every pitch larger."""

PITCH_SMILE = -17.08
"""Degrees for each unit of mouth width over eye distance: a smile pulls the mouth line up, which alone would read as looking down."""

PITCH_LEVEL = -28.21
"""Degrees that make the mean level face read zero; more makes every face read lower."""


def head_pose(landmarks5: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a face.

    The constants are a robust least-squares fit to the pose labels of 34,475 faces (`pipeline.training.fit_geometry`). Roll is the angle
    of the eye line and, at half weight, of the mouth line.

    >>> yaw, pitch, roll = head_pose(np.array([[30, 40], [70, 40], [50, 65], [34, 82], [66, 82]]))
    >>> round(yaw), round(roll)
    (0, 0)

    Args:
        landmarks5: (5, 2) pixels: image-left eye, image-right eye, nose tip, image-left and image-right mouth corner.

    Returns:
        Degrees: yaw, positive when the face turns to the image's right; pitch, positive when it looks down; roll, positive when the
        image-right eye is the higher one. Yaw and pitch are kept within 90 degrees.
    """
    offset, width, drop, smile, roll = pose_measures(landmarks5)
    yaw = np.degrees(np.arctan2(YAW_GAIN * offset, width))
    pitch = PITCH_GAIN * drop + PITCH_SMILE * smile + PITCH_LEVEL
    return float(yaw), float(np.clip(pitch, -90.0, 90.0)), float(roll)


def pose_measures(landmarks5: np.ndarray) -> tuple[float, float, float, float, float]:
    """What head pose is computed from, measured on the face turned upright.

    Returns:
        Sideways offset of the nose tip from the centre of eyes and mouth corners, in pixels; eye distance plus mouth width, in pixels; the
        nose tip's place between the eye line (0) and the mouth line (1); mouth width over eye distance, at most 2; roll in degrees.
    """
    left_eye, right_eye, nose, left_corner, right_corner = np.asarray(landmarks5, np.float64).reshape(5, 2) @ np.array([1, 1j])
    across = (right_eye - left_eye) + 0.5 * (right_corner - left_corner)
    upright = np.exp(-1j * np.angle(across))  # turns the face upright: real is then across, imaginary down

    eyes, mouth = (left_eye + right_eye) / 2, (left_corner + right_corner) / 2
    eye_distance = max(((right_eye - left_eye) * upright).real, 1e-6)
    mouth_width = max(((right_corner - left_corner) * upright).real, 0.0)
    nose_offset = ((nose - (eyes + mouth) / 2) * upright).real
    nose_drop = ((nose - eyes) * upright).imag / max(((mouth - eyes) * upright).imag, 1e-6)
    roll = -np.degrees(np.angle(across))
    return nose_offset, eye_distance + mouth_width, nose_drop, min(mouth_width / eye_distance, 2.0), roll
