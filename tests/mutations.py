"""Damaged files."""

from random import Random


def mutate(content: bytes, random: Random) -> bytes:
    """Return a damaged copy: bits turned, bytes replaced, put in or left out, the end cut off, parts exchanged."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        at = random.randrange(len(data) + 1)
        kind = random.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at : at + random.choice((1, 2, 4, 8))] = random.randbytes(random.choice((1, 2, 4, 8)))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = random.randbytes(random.randrange(1, 40))
        elif kind == 4:
            del data[at : at + random.randrange(1, 40)]
        elif kind == 5:  # a length, at its extremes
            size = random.choice((1, 2, 4, 8))
            extremes = (0, 1, (1 << 8 * size) - 1, 1 << (8 * size - 1), (1 << (8 * size - 1)) - 1)
            data[at : at + size] = random.choice(extremes).to_bytes(size, random.choice(("little", "big")))
        else:
            other = random.randrange(len(data) + 1)
            data[at : at + 32] = data[other : other + 32]
    return bytes(data)
