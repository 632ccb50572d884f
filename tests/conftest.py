"""What all tests of the binary share: numbers that are the same on every processor."""

import os

# Golden numbers and snapshots are of float32; whoever tests another precision names it.
os.environ.setdefault("CLOUDPOSE_PRECISION", "f32")
