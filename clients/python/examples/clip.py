"""Skeletons on a video of yours: clip.py VIDEO [SERVER]. Writes annotated.mp4. Needs cloudpose[video]."""

import sys

from cloudpose import Client, video

if len(sys.argv) < 2:
    sys.exit(__doc__)
clip, *server = sys.argv[1:]
frames = Client(*server).stream(clip, want="overlay")
count = video.write("annotated.mp4", (frame.picture for frame in frames), video.fps(clip))
print(count, "frames")
