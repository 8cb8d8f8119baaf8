"""Flip bits, as a failing disk does."""


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    """Return the bytes with one bit flipped in the byte at this index."""
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)
