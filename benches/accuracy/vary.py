"""Makes eight photos of each labelled one, mirrored or not and at four sizes, so that a small difference of accuracy between
two ways to compute one model can be told from chance; and says how sure the difference is.

    python benches/accuracy/vary.py photos labels.json photos/ varied/
    cloudpose eval varied/labels.json varied/photos --model balanced --precision f32 --out f32.json
    cloudpose eval varied/labels.json varied/photos --model balanced --precision bf16 --out bf16.json
    python benches/accuracy/vary.py compare varied/labels.json f32.json bf16.json

Needs numpy, pillow and pycocotools.
"""

import argparse
import contextlib
import io
import json
from collections import defaultdict
from pathlib import Path

import numpy
from PIL import Image, ImageOps
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SCALES = [1.0, 0.93, 0.87, 1.07]
# The joint of the other side, by COCO's order of joints.
MIRRORED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
DRAWS = 1000


def labelled(label: dict, mirrored: bool, width: int, across: float, down: float) -> dict:
    """A person's label on a picture `width` pixels wide that was scaled so."""
    left, top, wide, high = label["bbox"]
    left, wide = left * across, wide * across
    box = [width - left - wide if mirrored else left, top * down, wide, high * down]
    joints = numpy.array(label["keypoints"], float).reshape(-1, 3) * [across, down, 1]
    if mirrored:
        joints[:, 0] = width - 1 - joints[:, 0]
        joints = joints[MIRRORED]
    joints[joints[:, 2] == 0] = 0
    kept = {key: label[key] for key in ("category_id", "iscrowd", "num_keypoints")}
    return kept | {"bbox": box, "area": label["area"] * across * down, "keypoints": joints.ravel().tolist()}


def photos(args: argparse.Namespace):
    labels = json.loads(args.labels.read_text())
    of = defaultdict(list)
    for label in labels["annotations"]:
        of[label["image_id"]].append(label)
    (args.out / "photos").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for mirrored in (False, True):
        for scale in SCALES:
            for image in labels["images"]:
                picture = Image.open(args.photos / image["file_name"]).convert("RGB")
                width, height = round(picture.width * scale), round(picture.height * scale)
                by = (width / picture.width, height / picture.height)
                picture = picture.resize((width, height), Image.LANCZOS)
                number = len(images) + 1
                name = f"{number:06}.jpg"
                (ImageOps.mirror(picture) if mirrored else picture).save(args.out / "photos" / name, quality=95)
                images.append({"id": number, "file_name": name, "width": width, "height": height})
                for label in of[image["id"]]:
                    new = {"id": len(annotations) + 1, "image_id": number}
                    annotations.append(new | labelled(label, mirrored, width, *by))
    varied = labels | {"images": images, "annotations": annotations}
    (args.out / "labels.json").write_text(json.dumps(varied))


def compare(args: argparse.Namespace):
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO(str(args.labels))
        found = [COCOeval(labels, labels.loadRes(str(path)), "keypoints") for path in (args.before, args.after)]
        for evaluation in found:
            evaluation.evaluate()
        by_photo = [evaluation.evalImgs for evaluation in found]
        count = len(labels.imgs)

        def precision(evaluation: COCOeval, results: list, drawn) -> float:
            # By category, size and photo, in this order; there is one category.
            sizes = range(len(evaluation.params.areaRng))
            evaluation.evalImgs = [results[size * count + photo] for size in sizes for photo in drawn]
            evaluation.params.imgIds = evaluation._paramsEval.imgIds = list(range(len(drawn)))
            evaluation.accumulate()
            precisions = evaluation.eval["precision"][:, :, :, 0, 0]
            return 100 * precisions[precisions > -1].mean()

        before, after = (precision(*pair, range(count)) for pair in zip(found, by_photo))
        draw = numpy.random.default_rng(1)
        moved = []
        for _ in range(DRAWS):
            drawn = draw.integers(0, count, count)
            first, second = (precision(*pair, drawn) for pair in zip(found, by_photo))
            moved.append(second - first)
    low, high = numpy.percentile(moved, [2.5, 97.5])
    print(f"AP {before:.2f} and {after:.2f}: {after - before:+.2f}, 95 % of {DRAWS} draws of the photos {low:+.2f} to {high:+.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("photos", help="make the photos")
    make.set_defaults(run=photos)
    make.add_argument("labels", type=Path)
    make.add_argument("photos", type=Path)
    make.add_argument("out", type=Path)
    told = commands.add_parser("compare", help="compare what was found twice")
    told.set_defaults(run=compare)
    for name in ("labels", "before", "after"):
        told.add_argument(name, type=Path)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
