"""A table of everybody whom some streams see: listen.py STREAMS EVENTS NATS, as listen.py 'door-*' 100 nats://127.0.0.1:4222.

Needs cloudpose[nats,pandas]. Writes poses.csv.
"""

import sys
from itertools import islice

from cloudpose import Client, to_pandas

if len(sys.argv) != 4:
    sys.exit(__doc__)
streams, count, nats = sys.argv[1:]
events = list(islice(Client().events(streams, nats=nats), int(count)))
to_pandas(events).to_csv("poses.csv", index=False)
print(sum(len(event.persons) for event in events), "people in", len(events), "events")
