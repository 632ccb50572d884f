"""Says how often persons and keypoints of some score are right, on photos labelled in COCO's format.

    cloudpose eval labels.json photos/ --model accurate --out found.json
    python benches/accuracy/reliability.py labels.json found.json

A person is right if their similarity (OKS) to a labelled one, whom no better person was matched with, is at least 0.5;
persons on people without labels do not count. A keypoint of a person who is right is right if it alone has that
similarity; one that is not labelled is out of sight, and so is wrong.
"""

import json
import math
import sys
from collections import defaultdict

SIGMAS = [0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089]
RIGHT = 0.5
# People of whom fewer joints are labelled say nothing of the others.
LEAST_LABELLED = 5


def points(keypoints: list[float]) -> list[tuple[float, float, float]]:
    return list(zip(keypoints[0::3], keypoints[1::3], keypoints[2::3]))


def of_joint(label: tuple, found: tuple, sigma: float, area: float) -> float:
    distance2 = (label[0] - found[0]) ** 2 + (label[1] - found[1]) ** 2
    return math.exp(-distance2 / (2 * area * (2 * sigma) ** 2))


def similarity(person: dict, found: dict) -> float:
    pairs = zip(points(person["keypoints"]), points(found["keypoints"]), SIGMAS)
    each = [of_joint(label, joint, sigma, person["area"]) for label, joint, sigma in pairs if label[2] > 0]
    return sum(each) / len(each)


def is_inside(box: list[float], found: dict) -> bool:
    joints = points(found["keypoints"])
    x, y = (sum(joint[axis] for joint in joints) / len(joints) for axis in (0, 1))
    return box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]


def judge(labels: dict, found: list[dict]) -> tuple[list, list]:
    """(score, is right) of each person, and of each keypoint of those who are right."""
    people, results = defaultdict(list), defaultdict(list)
    for person in labels["annotations"]:
        people[person["image_id"]].append(person)
    for result in found:
        results[result["image_id"]].append(result)
    persons, keypoints = [], []
    for photo, seen in results.items():
        labelled = [p for p in people[photo] if p["num_keypoints"] > 0 and not p["iscrowd"]]
        others = [p for p in people[photo] if p["num_keypoints"] == 0 or p["iscrowd"]]
        for result in sorted(seen, key=lambda result: -result["score"]):
            best = max(labelled, key=lambda person: similarity(person, result), default=None)
            if best and similarity(best, result) >= RIGHT:
                labelled.remove(best)
                persons.append((result["score"], True))
                if best["num_keypoints"] >= LEAST_LABELLED:
                    for label, joint, sigma in zip(points(best["keypoints"]), points(result["keypoints"]), SIGMAS):
                        right = label[2] > 0 and of_joint(label, joint, sigma, best["area"]) >= RIGHT
                        keypoints.append((joint[2], right))
            elif not any(is_inside(other["bbox"], result) for other in others):
                persons.append((result["score"], False))
    return persons, keypoints


def main() -> None:
    labels, found = (json.load(open(path)) for path in sys.argv[1:])
    print("| said | persons: right | of | keypoints: right | of |\n|---|---|---|---|---|")
    judged = judge(labels, found)
    for fifth in range(5):
        low, high = fifth / 5, (fifth + 1) / 5
        cells = []
        for scored in judged:
            rights = [right for score, right in scored if low <= score < high or score == high == 1]
            cells += [f"{sum(rights) / len(rights):.2f}" if rights else "–", str(len(rights))]
        print(f"| {low:.1f}–{high:.1f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
