"""Who is on a photo: photo.py PHOTO [SERVER]. Writes annotated.jpg."""

import sys
from pathlib import Path

from cloudpose import Client

if len(sys.argv) < 2:
    sys.exit(__doc__)
photo, *server = sys.argv[1:]
with Client(*server) as client:
    for person in client.pose(photo).persons:
        print(f"{person.score:.2f}", person.box, person["nose"])
    Path("annotated.jpg").write_bytes(client.annotate(photo))
