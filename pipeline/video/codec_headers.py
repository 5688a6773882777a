"""Which configuration a keyframe's headers name, read from a few bytes: pictures may change their size where it changes."""

from __future__ import annotations

import re

import av

HEAD_BYTES = 2048
"""Bytes of a keyframe in which its headers are looked for; encoders put them first. More finds headers behind larger messages."""

_START_CODE = re.compile(rb"\x00\x00\x01")
_H264_SPS, _HEVC_SPS = 7, 33
_AV1_SEQUENCE_HEADER = 1


def configuration(codec: str, packet: av.Packet) -> bytes | None:
    """What a keyframe's headers say about the size of pictures.

    Args:
        codec: FFmpeg's name of the codec or of the decoder.
        packet: a keyframe's.

    Returns:
        Bytes that are equal for two keyframes of the same size; None where the packet has no such headers.
    """
    if packet.has_sidedata("new_extradata"):
        return b"extradata" + bytes(packet.get_sidedata("new_extradata"))
    head = bytes(memoryview(packet)[:HEAD_BYTES])
    if "264" in codec or "hevc" in codec:
        return _parameter_set(head, hevc="hevc" in codec)
    if codec in ("mpeg2video", "mpeg1video"):
        at = head.find(b"\x00\x00\x01\xb3")
        return head[at + 4 : at + 8] if at >= 0 else None
    if "vp8" in codec or codec == "libvpx":
        return head[6:10] if head[3:6] == b"\x9d\x01\x2a" else None
    if "vp9" in codec:
        return _vp9_size(head)
    if "av1" in codec or "dav1d" in codec:
        return _av1_sequence(head)
    return b""


def _parameter_set(head: bytes, hevc: bool) -> bytes | None:
    """The first sequence parameter set, from start codes or from units that carry their length."""
    starts = [match.end() for match in _START_CODE.finditer(head)]
    units = [head[start : end - 3] for start, end in zip(starts, [*starts[1:], len(head) + 3], strict=False)]
    if not starts or starts[0] > 4:
        units, at = [], 0
        while at + 4 < len(head):
            size = int.from_bytes(head[at : at + 4], "big")
            units.append(head[at + 4 : at + 4 + size])
            at += 4 + size
    for unit in units:
        kind = (unit[0] >> 1 & 63 if hevc else unit[0] & 31) if unit else 0
        if kind == (_HEVC_SPS if hevc else _H264_SPS):
            return unit.rstrip(b"\x00")
    return None


def _vp9_size(head: bytes) -> bytes | None:
    """Width and height in a VP9 keyframe's uncompressed header (VP9 bitstream specification, 6.2)."""
    bits = "".join(f"{byte:08b}" for byte in head[:16])
    at = 2
    profile = int(bits[at]) + 2 * int(bits[at + 1])
    at += 2 + (profile == 3)
    if bits[at] == "1" or bits[at + 1] == "1":  # a frame shown again, or no keyframe
        return None
    at += 4 + 24 + (profile >= 2)
    is_rgb = bits[at : at + 3] == "111"
    at += 3 + (not is_rgb)
    if profile in (1, 3):
        at += 1 if is_rgb else 3
    return bits[at : at + 32].encode()


def _av1_sequence(head: bytes) -> bytes | None:
    """The sequence header of an AV1 temporal unit (AV1 bitstream specification, 5.3)."""
    at = 0
    while at < len(head):
        kind, has_extension, has_size = head[at] >> 3 & 15, head[at] & 4, head[at] & 2
        at += 2 if has_extension else 1
        size = shift = 0
        while has_size and at < len(head):
            byte, at = head[at], at + 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if kind == _AV1_SEQUENCE_HEADER:
            return head[at : at + size]
        if not has_size:
            return None
        at += size
    return None
