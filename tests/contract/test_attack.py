"""Small pictures that mean harm take no more memory than others; the whole list is `make attack`."""

import sys

from processes import CLOUDPOSE, REPOSITORY

sys.path.append(str(REPOSITORY / "benches/attack"))
import attack  # noqa: E402

# What a worker's container may take in the chart.
MOST_MIB = 512


def test_pictures_that_mean_harm():
    names = ["webp_metadata", "webp_canvas", "webp_groups", "jpeg_scans", "long_text"]
    happened = list(attack.rows(CLOUDPOSE, short=True, names=names))
    assert len(happened) == len(names)
    for what, outcome, costs in happened:
        assert outcome.endswith("a photo afterwards: 200"), f"{what}: {outcome}"
        assert outcome.startswith(("422: ", "an error of ")), f"{what}: {outcome}"
        assert costs[0] is None or costs[0] < MOST_MIB, f"{what}: {costs}"


def test_names_in_what_detect_says_and_writes():
    happened = dict(attack.detect(CLOUDPOSE))
    assert list(happened.values()) == ["exits 1, 0 written", "not followed", "escaped"]
