"""Pictures that mean harm: small files whose decoding costs much."""

import os
import struct
import zlib


def riff(*chunks):
    """A WebP of (name, body) chunks, or of (name, body, claimed length)."""
    body = b"WEBP"
    for name, content, *claimed in chunks:
        length = claimed[0] if claimed else len(content)
        body += name + struct.pack("<I", length) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def canvas(flags, width, height):
    return bytes([flags, 0, 0, 0]) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


def lossy(width, height, partition=14, tokens=16):
    """A key frame of VP8 of zeros: a first partition, and one of tokens."""
    tag = 0x10 | partition << 5
    head = struct.pack("<I", tag)[:3] + b"\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return head + bytes(partition + tokens)


def long_metadata():
    return riff((b"VP8X", canvas(8, 64, 64)), (b"VP8 ", lossy(64, 64)), (b"EXIF", b"MM", 0xFFFF_FFF0))


def small_canvas():
    return riff((b"VP8X", canvas(0, 64, 64)), (b"VP8 ", lossy(16383, 16383, 500_000, 4_000_000)))


class Bits:
    """Bits of a lossless stream, the lowest first."""

    def __init__(self):
        self.value = 0
        self.length = 0

    def put(self, value, count):
        self.value |= value << self.length
        self.length += count

    def times(self, count):
        """These bits, one time after the other."""
        many, length = self.value, self.length
        done = 1
        while done < count:
            step = min(done, count - done)
            many |= (many & ((1 << step * length) - 1)) << done * length
            done += step
        bits = Bits()
        bits.put(many, count * length)
        return bits


def only(bits, symbol):
    bits.put(0b101, 3)
    bits.put(symbol, 8)


def deep(bits):
    """A code of 11 symbols with lengths 1, 2, … 10, 10, which takes a table of 1024 entries."""
    bits.put(0, 1)
    bits.put(10, 4)  # 14 lengths follow, up to that of the symbol 10
    order = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10]
    lengths = {symbol: 3 if symbol <= 6 else 4 for symbol in range(1, 11)}
    for symbol in order:
        bits.put(lengths.get(symbol, 0), 3)
    bits.put(1, 1)
    bits.put(1, 3)
    bits.put(9, 4)  # 11 symbols
    codes, code = {}, 0
    for length in (3, 4):
        code <<= length - 3
        for symbol in (s for s in lengths if lengths[s] == length):
            codes[symbol] = int(f"{code:0{length}b}"[::-1], 2), length
            code += 1
    for length in [*range(1, 11), 10]:
        bits.put(*codes[length])


def many_groups(groups=65536):
    """A picture of 4×4 with so many groups of Huffman codes."""
    bits = Bits()
    bits.put(0x2F, 8)
    bits.put(3, 14)
    bits.put(3, 14)
    bits.put(0, 4)
    for value, count in ((0, 1), (0, 1), (1, 1), (0, 3), (0, 1)):
        bits.put(value, count)
    last = groups - 1
    for symbol in (last & 0xFF, last >> 8, 0, 255, 0):
        only(bits, symbol)
    group = Bits()
    for _ in range(5):
        deep(group)
    many = group.times(groups)
    bits.put(many.value, many.length)
    stream = bits.value.to_bytes(bits.length // 8 + 64, "little")
    return riff((b"VP8L", stream))


def many_scans(scans=64, side=4096):
    """A grey progressive JPEG whose scans say nothing, in 25 bytes each."""
    def segment(code, body):
        return bytes([0xFF, code]) + struct.pack(">H", len(body) + 2) + body

    # Two codes: a run of 2¹⁴ and more empty blocks, and the end of one block.
    table = bytes([0x10, 1, 1, *[0] * 14, 0xE0, 0x00])
    jpeg = b"\xff\xd8" + segment(0xDB, b"\0" + b"\x10" * 64)
    jpeg += segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0])) + segment(0xC4, table)
    blocks, data = (side // 8) ** 2, ""
    while blocks:
        if blocks >= 1 << 14:
            run = min(blocks, (1 << 15) - 1)
            data += "0" + f"{run - (1 << 14):014b}"
            blocks -= run
        else:
            data += "10"
            blocks -= 1
    data += "1" * (-len(data) % 8)
    coded = int(data, 2).to_bytes(len(data) // 8, "big").replace(b"\xff", b"\xff\0")
    for scan in range(scans):
        band = 1 + scan % 63
        jpeg += segment(0xDA, bytes([1, 1, 0, band, band, 0])) + coded
    return jpeg + b"\xff\xd9"


def noise(width=1600, height=1200):
    """A PNG of noise: what is drawn on it does not get smaller."""
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + os.urandom(3 * width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
