"""Outlines as masks: COCO and labelme, and files that are neither."""

import base64
import json

import numpy as np
import pytest

from medseg_runtime.errors import DataError
from medseg_trainer.data.layouts import read_cases
from tests.trainer.data.own_folder import DISC, PHOTO, build, encoded

H, W = PHOTO.shape
BOX = [[10, 5], [30, 5], [30, 25], [10, 25]]
FLAT = [10, 5, 30, 5, 30, 25, 10, 25]
SPLITS = "image,split\na,train\nb,train\n"


def area(top, bottom, left, right):
    found = np.zeros((H, W), bool)
    found[top:bottom, left:right] = True
    return found


def coco(*annotations, names=("polyp",), images=None, **further):
    entries = images or [{"id": k, "file_name": f"{name}.png", "height": H, "width": W} for k, name in enumerate("ab")]
    categories = [{"id": 7 + k, "name": name} for k, name in enumerate(names)]
    return {
        "images": entries,
        "categories": categories,
        "annotations": [{"id": k, "iscrowd": 0, **one} for k, one in enumerate(annotations)],
    } | further


def instance(segmentation, image=0, category=7, **more):
    return {"image_id": image, "category_id": category, "segmentation": segmentation, **more}


def folder(root, content, name="annotations.json", splits=SPLITS):
    text = content if isinstance(content, str) else json.dumps(content)
    return build(root, {"images/a.png": PHOTO, "images/b.png": PHOTO, name: text}, splits)


def masks(data, *classes):
    return [case.masks[0] for case in read_cases(data, "train", max(len(classes), 1), classes)]


RUNS = [10 * H + 5, 20, *([H - 20, 20] * 19), H * (W - 30) + H - 25]


@pytest.mark.parametrize(
    "name", ["annotations.json", "_annotations.coco.json", "annotations/instances_train.json", "images/coco.json"]
)
@pytest.mark.parametrize(
    "segmentation",
    [[FLAT], {"counts": RUNS, "size": [H, W]}, [FLAT[:6], [10, 5, 30, 25, 10, 25]]],
    ids=["polygon", "run lengths", "two parts"],
)
def test_coco_is_read(segmentation, name, tmp_path):
    first, second = masks(folder(tmp_path, coco(instance(segmentation)), name))
    np.testing.assert_array_equal(first > 0, area(5, 25, 10, 30))
    assert not second.any()  # it is listed, and nothing is marked


def test_a_crowd_is_foreground(tmp_path):
    data = folder(tmp_path, coco(instance({"counts": RUNS, "size": [H, W]}, iscrowd=1)))
    assert masks(data)[0].sum() == 400


def test_categories_are_classes_by_name(tmp_path):
    two = [instance([FLAT], category=8), instance([[40, 5, 50, 5, 50, 15, 40, 15]], category=9)]
    data = folder(tmp_path, coco(*two, instance([[0, 30, 9, 30, 9, 39]]), names=("tool", "Rim", "core")))
    first = masks(data, "core", "rim")[0]
    assert (first[10, 20], first[10, 45], first[35, 8]) == (2, 1, 0)
    assert (masks(data, "rim")[0] > 0).sum() == 400
    with pytest.raises(DataError, match=r"has the categories Rim, core, tool, and none is called nodule.*--classes"):
        masks(data, "nodule")
    with pytest.raises(DataError, match="and one class is trained"):
        masks(data)


def test_a_single_category_may_have_any_name(tmp_path):
    data = folder(tmp_path, coco(instance([FLAT]), names=("polyp", "never used")))
    assert masks(data, "lesion")[0].sum() == 400


@pytest.mark.parametrize("given", ["images/p/a.png", "p/a.png", "train\\p\\a.png", "a.jpg"])
def test_images_are_found_by_the_end_of_their_path(given, tmp_path):
    entries = [{"id": 0, "file_name": given, "height": H, "width": W}]
    files = {"images/p/a.png": PHOTO, "annotations.json": json.dumps(coco(instance([FLAT]), images=entries))}
    assert masks(build(tmp_path, files, "image,split\np/a.png,train\n"))[0].sum() == 400


def test_an_image_that_is_not_in_the_file_is_refused(tmp_path):
    entries = [{"id": 0, "file_name": "a.png", "height": H, "width": W}]
    with pytest.raises(DataError, match=r"images/b.png has no outlines in annotations.json"):
        masks(folder(tmp_path, coco(images=entries)))


def test_outlines_of_another_size_are_refused(tmp_path):
    entries = [{"id": k, "file_name": f"{name}.png", "height": W, "width": H} for k, name in enumerate("ab")]
    with pytest.raises(DataError, match=r"annotations.json for a.png is 40x60 px, its image 60x40"):
        masks(folder(tmp_path, coco(instance([FLAT]), images=entries)))


def test_masks_that_are_pictures_come_first(tmp_path):
    data = folder(tmp_path, coco(instance([FLAT])))
    build(data, {"masks/a.png": (DISC * 255).astype(np.uint8), "masks/b.png": (DISC * 255).astype(np.uint8)}, None)
    np.testing.assert_array_equal(masks(data)[0] > 0, DISC)


BROKEN = {
    "no outline": coco(instance([])),
    "a string for an outline": coco(instance("abc")),
    "a list of words": coco(instance([["a", "b"] * 3])),
    "an odd number of coordinates": coco(instance([[1, 2, 3, 4, 5, 6, 7]])),
    "two points": coco(instance([[1, 2, 3, 4]])),
    "NaN": coco(instance([[float("nan"), 2, 3, 4, 5, 6]])),
    "run lengths that are too long": coco(instance({"counts": [0, 10**12], "size": [H, W]})),
    "run lengths of another size": coco(instance({"counts": [H * W], "size": [W, H]})),
    "run lengths without their size": coco(instance({"counts": [H * W]})),
    "an unknown category": coco(instance([FLAT], category=99)),
    "an unknown image": coco(instance([FLAT], image=99)),
    "no category": coco({"image_id": 0, "segmentation": [FLAT]}),
    "an image that is a number": coco(images=[5]),
    "an image without a size": coco(images=[{"id": 0, "file_name": "a.png"}]),
    "a size that is a word": coco(images=[{"id": 0, "file_name": "a.png", "height": "x", "width": 3}]),
    "a size that is huge": coco(
        images=[{"id": k, "file_name": f"{n}.png", "height": 10**9, "width": 10**9} for k, n in enumerate("ab")]
    ),
    "a size of infinity": coco(images=[{"id": 0, "file_name": "a.png", "height": float("inf"), "width": 3}]),
    "an id that is a list": coco(images=[{"id": [], "file_name": "a.png", "height": 3, "width": 3}]),
    "an image twice": coco(images=[{"id": k, "file_name": "a.png", "height": H, "width": W} for k in range(2)]),
    "two images of one id": coco(images=[{"id": 0, "file_name": f"{n}.png", "height": H, "width": W} for n in "ab"]),
    "not JSON": "{",
    "deep JSON": "[" * 100_000,
    "categories that are numbers": coco(categories=[1, 2]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_not_coco_s_is_one_error(name, tmp_path):
    with pytest.raises(DataError, match=r"annotations\.json.*\. [A-Z].*\.$"):
        masks(folder(tmp_path, BROKEN[name]))


def labelme(*shapes, **more):
    return {"version": "5.5", "shapes": list(shapes), "imageHeight": H, "imageWidth": W} | more


def shape(points, kind="polygon", label="polyp", **more):
    return {"label": label, "points": points, "shape_type": kind, **more}


PASTED = base64.b64encode(encoded(np.full((20, 20), True))).decode()
SHAPES = {
    "polygon": shape(BOX),
    "no type": {"label": "polyp", "points": BOX},
    "rectangle": shape([BOX[2], BOX[0]], "rectangle"),
    "mask": shape([[10, 5], [29, 24]], "mask", mask=PASTED),
}


@pytest.mark.parametrize("place", ["images", "masks", "annotations", "labels"])
@pytest.mark.parametrize("name", SHAPES)
def test_labelme_is_read(name, place, tmp_path):
    files = {f"images/{n}.png": PHOTO for n in "ab"}
    files |= {f"{place}/a.json": json.dumps(labelme(SHAPES[name])), f"{place}/b.json": json.dumps(labelme())}
    first, second = masks(build(tmp_path, files, SPLITS))
    np.testing.assert_array_equal(first > 0, area(5, 25, 10, 30))
    assert not second.any()


@pytest.mark.parametrize(("left", "top"), [(-5, -7), (50, 30), (-30, 0), (70, 5)])
def test_a_mask_over_the_edge_is_cut_off(left, top, tmp_path):
    pasted = shape([[left, top], [left + 19, top + 19]], "mask", mask=PASTED)
    files = {"images/a.png": PHOTO, "images/a.json": json.dumps(labelme(pasted))}
    (found,) = masks(build(tmp_path, files, "image,split\na,train\n"))
    expected = np.zeros((3 * H, 3 * W), bool)
    expected[H + top : H + top + 20, W + left : W + left + 20] = True
    np.testing.assert_array_equal(found > 0, expected[H : 2 * H, W : 2 * W])


BAD_SHAPES = {
    "a point": shape([[3, 3]], "point"),
    "a line": shape([[3, 3], [5, 5]], "line"),
    "a rectangle of one point": shape([[3, 3]], "rectangle"),
    "a mask that is text": shape([[3, 3], [5, 5]], "mask", mask="abc"),
    "a mask that is no picture": shape([[3, 3], [5, 5]], "mask", mask="YWJj"),
    "a mask that is missing": shape([[3, 3], [5, 5]], "mask"),
    "points that are none": shape(5),
    "a mask at infinity": shape([[float("inf"), 3], [5, 5]], "mask", mask=PASTED),
    "a circle of one point": shape([[3, 3]], "circle"),
    "no points": {"label": "polyp"},
    "a shape that is a word": "polyp",
}


@pytest.mark.parametrize("name", BAD_SHAPES)
def test_a_shape_without_an_area_is_one_error(name, tmp_path):
    files = {"images/a.png": PHOTO, "images/a.json": json.dumps(labelme(BAD_SHAPES[name]))}
    with pytest.raises(DataError, match=r"a\.json|a mask in it"):
        masks(build(tmp_path, files, "image,split\na,train\n"))


def test_shapes_of_other_labels_may_have_no_area(tmp_path):
    content = labelme(shape(BOX), shape([[3, 3]], "point", label="landmark"))
    files = {"images/a.png": PHOTO, "images/a.json": json.dumps(content)}
    assert masks(build(tmp_path, files, "image,split\na,train\n"), "polyp")[0].sum() == 400


@pytest.mark.parametrize("points", [[[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]], [[900, 9, 990, 9, 990, 99]]])
def test_an_outline_that_covers_no_pixel_is_warned_of(points, tmp_path):
    """It is in shares of the image instead of pixels, or of another image."""
    data = folder(tmp_path, coco(instance([FLAT]), instance(points, image=1)))
    first, second = read_cases(data, "train", 1)
    assert not first.warnings
    assert "an outline covers no pixel" in second.warnings[0]


def test_a_single_category_is_not_the_class_if_another_has_its_name(tmp_path):
    data = folder(tmp_path, coco(instance([FLAT]), names=("tool", "polyp")))
    assert not masks(data, "polyp")[0].any()  # nobody marked one
    assert masks(data, "tool")[0].sum() == masks(data, "lesion")[0].sum() == 400


def test_spaces_around_the_name_of_a_category_do_not_matter(tmp_path):
    two = instance([FLAT], category=8), instance([[40, 5, 50, 5, 50, 15, 40, 15]])
    data = folder(tmp_path, coco(*two, names=("tool", " Polyp ")))
    assert masks(data, "polyp")[0].sum() == 400


@pytest.mark.parametrize("kind", ["rectangle", "rotation"])
def test_x_anylabeling_gives_four_corners(kind, tmp_path):
    files = {"images/a.png": PHOTO, "images/a.json": json.dumps(labelme(shape(BOX, kind)))}
    assert masks(build(tmp_path, files, "image,split\na,train\n"))[0].sum() == 400


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (coco(instance(FLAT)), "no list of polygons, each a list x, y"),
        (coco(images=[{"id": 0, "file_name": "a.png", "height": None, "width": 3}]), "height and width are not"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_format(content, told, tmp_path):
    with pytest.raises(DataError, match=told):
        masks(folder(tmp_path, content))


def test_a_shape_of_another_kind_is_named(tmp_path):
    files = {"images/a.png": PHOTO, "images/a.json": json.dumps(labelme(shape(BOX[:3], "linestrip")))}
    with pytest.raises(DataError, match="a shape of the kind 'linestrip', and areas are polygons"):
        masks(build(tmp_path, files, "image,split\na,train\n"))


def test_json_of_another_program_beside_labelme_s_is_named(tmp_path):
    files = {f"images/{n}.png": PHOTO for n in "ab"} | {"images/a.json": "{}", "images/b.json": json.dumps(labelme())}
    with pytest.raises(DataError, match=r"a\.json is not as COCO or labelme"):
        masks(build(tmp_path, files, SPLITS))
