"""What others stream: watch.py STREAM FRAMES [SERVER]. Writes each frame's picture, heads covered."""

import sys
from itertools import islice
from pathlib import Path

from cloudpose import Client

if len(sys.argv) < 3:
    sys.exit(__doc__)
stream, frames, *server = sys.argv[1:]
client = Client(*server)
print([live.stream for live in client.streams()])
for frame in islice(client.watch(stream, want="both", fps=5, draw="redacted"), int(frames)):
    print(frame.seq, len(frame.persons), "people")
    Path(f"{stream}-{frame.seq}.jpg").write_bytes(frame.picture or b"")
