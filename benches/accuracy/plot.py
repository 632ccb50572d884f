"""Draws docs/images/accuracy.svg: what the models find, by what a photo costs.

    for model in fast balanced accurate thunder lightning; do
        CLOUDPOSE_ISA=avx2 taskset -c 1 cloudpose eval labels.json photos/ --model $model --json
    done > measured.jsonl
    python benches/accuracy/plot.py measured.jsonl docs/images/accuracy.svg

Ours are measured on the photos given; what others publish is on the whole of COCO val2017, with the processors they
name, and stands in the picture only so that one sees how far there is to go.
"""

import json
import math
import sys

# Name, milliseconds, AP; by their publishers, on COCO val2017.
PUBLISHED = [
    # docs.ultralytics.com/tasks/pose: 640 px, ONNX on a server's processor.
    ("YOLO26n-pose", 40.3, 57.2),
    ("YOLO26s-pose", 85.3, 63.0),
    # open-mmlab/mmpose, projects/rtmpose/README.md, "Pipeline Performance": i7-11700, a detector every fifth frame.
    ("RTMPose-t", 12.4, 64.4),
    ("RTMPose-s", 16.7, 68.5),
    ("RTMPose-m", 26.6, 73.2),
    ("RTMPose-l", 36.3, 74.2),
]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 430, 56, 20, 20, 48
LEAST_MS, MOST_MS, MOST_AP = 4.0, 200.0, 80.0
TICKS = [5, 10, 20, 50, 100, 200]


def across(ms: float) -> float:
    share = math.log(ms / LEAST_MS) / math.log(MOST_MS / LEAST_MS)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def down(ap: float) -> float:
    return TOP + (1 - ap / MOST_AP) * (HEIGHT - TOP - BOTTOM)


def text(x: float, y: float, words: str, anchor: str = "start", colour: str = "#333") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'


def main() -> None:
    measured, target = sys.argv[1:]
    with open(measured) as lines:
        ours = [json.loads(line) for line in lines]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for ap in range(0, 81, 20):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(ap):.0f}" y2="{down(ap):.0f}" stroke="#e4e4e4"/>')
        parts.append(text(LEFT - 8, down(ap) + 4, str(ap), "end"))
    for ms in TICKS:
        parts.append(f'<line x1="{across(ms):.0f}" x2="{across(ms):.0f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#f0f0f0"/>')
        parts.append(text(across(ms), HEIGHT - BOTTOM + 18, str(ms), "middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "milliseconds a photo", "middle"))
    parts.append(f'<g transform="rotate(-90 14 {HEIGHT / 2})">{text(14, HEIGHT / 2, "COCO keypoint AP", "middle")}</g>')
    for name, ms, ap in PUBLISHED:
        parts.append(f'<circle cx="{across(ms):.1f}" cy="{down(ap):.1f}" r="4" fill="none" stroke="#888" stroke-width="1.5"/>')
        # Between its neighbours there is no room on the right.
        left = name == "RTMPose-m"
        parts.append(text(across(ms) + (-8 if left else 8), down(ap) + 4, name, "end" if left else "start", "#777"))
    for one in ours:
        x, y = across(one["median_ms"]), down(100 * one["ap"])
        if one["ap_interval"]:
            low, high = (down(100 * ap) for ap in one["ap_interval"])
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="#1769aa" stroke-opacity="0.35"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#1769aa"/>')
        parts.append(text(x + 9, y + 4, one["model"], colour="#1769aa"))
    parts.append(text(LEFT + 12, HEIGHT - BOTTOM - 10, "filled: measured, with what 95 of 100 such sets would say; rings: published, whole val2017", colour="#777"))
    with open(target, "w") as out:
        out.write("\n".join([*parts, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
