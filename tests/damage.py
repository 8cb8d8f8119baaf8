"""What a failing disk does to bytes."""


def flipped(data: bytes, at: int) -> bytes:
    """One bit of them, in the byte at this index."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)
