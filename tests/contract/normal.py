"""Placeholders for what differs from run to run."""

import json
import re

# Whole milliseconds: since 1970, or what is left of a budget.
TIMES = {"captured_at", "received_at", "at", "seen_at", "deadline_ms"}
# Settings. All other fractions are measured.
SETTINGS = {"min_score"}
OWN_ID = re.compile(r"\b(gw|s|still|stream)-[0-9a-f]{32}\b")
FRACTION = re.compile(r"<float ([^>\"]+)>")


def parse(text):
    """Our JSON, with `<float 0.5>` for numbers with a fraction. It must be compact and hold each key once, so that
    what is parsed says what the bytes are."""
    value = json.loads(text, parse_float="<float {}>".format, object_pairs_hook=each_key_once)
    again = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert re.sub(r'"<float ([^>"]+)>"', r"\1", again) == text, "JSON is compact"
    return value


def each_key_once(pairs):
    assert len(dict(pairs)) == len(pairs), f"a key comes twice: {pairs}"
    return dict(pairs)


class Normal:
    """Takes out of values what differs from run to run. Ids that are equal stay equal: they are numbered."""

    def __init__(self):
        self.ids = {}

    def __call__(self, value, key=None):
        match value:
            case dict():
                return {self(name): self(item, name) for name, item in value.items()}
            case list() if key == "labels" and len(value) > 10:
                return f"<{len(value)} labels>"
            case list():
                return [self(item, key) for item in value]
            case int() if key in TIMES and value:
                return "<ms>"
            # Classes that are equally likely change places from processor to processor.
            case str() if key == "label":
                return "<label>"
            case str() if fraction := FRACTION.fullmatch(value):
                return float(fraction[1]) if key in SETTINGS else "<float>"
            case str():
                value = re.sub(r"\bCloudPose \d+\.\d+\.\d+", "CloudPose <version>", value)
                return OWN_ID.sub(self.number, value)
        return value

    def number(self, found):
        return self.ids.setdefault(found[0], f"<{found[1]} {len(self.ids) + 1}>")


def picture(jpeg):
    """A JPEG's size, sampling and quantisation: what our encoder was told. Its pixels differ with the processor."""
    assert jpeg[:2] == b"\xff\xd8" and jpeg[-2:] == b"\xff\xd9", "a whole JPEG"
    at, coarseness = 2, []
    while True:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4])
        segment = jpeg[at + 4 : at + 2 + length]
        if marker == 0xDB:
            coarseness += [sum(segment[start + 1 : start + 65]) for start in range(0, len(segment), 65)]
        if marker in (0xC0, 0xC2):
            height, width = int.from_bytes(segment[1:3]), int.from_bytes(segment[3:5])
            samplings = [f"{factors >> 4}x{factors & 15}" for factors in segment[7::3]]
            return f"<JPEG {width}x{height}, {' '.join(samplings)}, quantisation tables of sum {coarseness}>"
        at += 2 + length
