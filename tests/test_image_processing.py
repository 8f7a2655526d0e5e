"""The image processor reads images of any kind and aligns faces, with the real detector on drawn people."""

import copy
import io
import json
import pickle
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from programs import Program
from transformers import AutoImageProcessor

from face_data.drawn import draw_face
from image_processing_facelivenet import (
    LANDMARK_TEMPLATE,
    MAX_PIXELS,
    Face,
    FaceLiveNetImageProcessor,
    NoFaceError,
    UnreadableImageError,
    load_image,
)

# EXIF orientation -> transpositions from an upright image to one that is stored with this orientation.
STORED = {
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}


def drawn(identity: int = 0, size: int = 250) -> Image.Image:
    return draw_face(identity, "neutral", np.random.default_rng(identity), size)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def difference(one, other) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header has this size, without any pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + check

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0])) + chunk(b"IDAT", zlib.compress(b""))


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    return drawn()


@pytest.fixture(scope="module", params=["margin", "similarity"])
def processor(request) -> FaceLiveNetImageProcessor:
    return FaceLiveNetImageProcessor(size=80, alignment=request.param)


@pytest.fixture(scope="module")
def margin() -> FaceLiveNetImageProcessor:
    return FaceLiveNetImageProcessor(size=80, alignment="margin")


@pytest.fixture(scope="module")
def similarity() -> FaceLiveNetImageProcessor:
    return FaceLiveNetImageProcessor(size=160, alignment="similarity")


# Images that can be read


def test_every_kind_of_input_gives_the_same_face(processor, portrait, tmp_path):
    portrait.save(tmp_path / "anna.png")
    array = np.asarray(portrait)
    planes = torch.tensor(array).permute(2, 0, 1)
    kinds = {
        "path": tmp_path / "anna.png",
        "string": str(tmp_path / "anna.png"),
        "bytes": (tmp_path / "anna.png").read_bytes(),
        "PIL": portrait,
        "PIL, not decoded yet": Image.open(tmp_path / "anna.png"),
        "height, width, channels": array,
        "channels, height, width": planes.numpy(),
        "tensor": planes,
        "tensor 0..1": planes / 255,
        "floats 0..255": array.astype(np.float64),
        "16 bits": array.astype(np.uint16) * 257,
        "opaque": np.dstack([array, np.full(array.shape[:2], 255, np.uint8)]),
    }
    expected = processor(portrait)
    assert {key: (tuple(value.shape), value.dtype) for key, value in expected.items()} == {
        "pixel_values": ((1, 3, 80, 80), torch.float32),
        "box": ((1, 4), torch.float32),
        "landmarks": ((1, 5, 2), torch.float32),
        "detection_probability": ((1,), torch.float32),
        "face_count": ((1,), torch.int64),
        "turn": ((1,), torch.int64),
        "roll": ((1,), torch.float32),
        "aside": ((1,), torch.float32),
        "sharpness": ((1,), torch.float32),
        "noise": ((1,), torch.float32),
        "flat_colour": ((1,), torch.float32),
    }
    for kind, source in kinds.items():
        for key, value in processor(source).items():
            torch.testing.assert_close(value, expected[key], msg=f"{key} of {kind}")
    together = processor(list(kinds.values()))["pixel_values"]
    torch.testing.assert_close(together, expected["pixel_values"].expand(len(kinds), -1, -1, -1))
    for stack in (np.stack([array] * 2), torch.stack([planes] * 2)):
        torch.testing.assert_close(processor(stack)["pixel_values"], together[:2])


def test_aligned_faces_are_only_resized_and_whitened(margin, portrait):
    faces = torch.tensor(np.asarray(portrait.resize((80, 80)))).permute(2, 0, 1)[None]
    batch = margin(faces, detect=False)
    assert set(batch) == {"pixel_values"}
    expected = (faces - faces.float().mean()) / faces.float().std(correction=0)
    torch.testing.assert_close(batch["pixel_values"], expected)
    assert margin(np.asarray(portrait), detect=False)["pixel_values"].shape == (1, 3, 80, 80)


def test_each_face_is_whitened_separately(processor, portrait):
    pictures = [portrait, np.asarray(portrait) // 2, drawn(1)]
    faces = processor(pictures)["pixel_values"]
    torch.testing.assert_close(faces.mean(dim=(1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(faces.std(dim=(1, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)
    bright, dark, _ = processor(pictures, detect=False)["pixel_values"]
    assert (bright - dark).abs().mean() < 0.02
    for side in (80, 90):  # a blank image stays blank, resized or not
        blank = processor(np.full((side, side, 3), 200), detect=False)["pixel_values"]
        torch.testing.assert_close(blank, torch.zeros(1, 3, 80, 80), atol=0.01, rtol=0)


def test_whitening_is_accurate_to_five_digits(processor):
    faces = (
        torch.rand(4, 3, 80, 80, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1, 255, 0.1, 1e-3])[:, None, None, None]
    )
    exact = faces.double()
    deviation = exact.std(dim=(1, 2, 3), keepdim=True, correction=0).clamp(min=(3 * 80 * 80) ** -0.5)
    expected = ((exact - exact.mean(dim=(1, 2, 3), keepdim=True)) / deviation).float()
    torch.testing.assert_close(processor.whiten(faces), expected, rtol=0, atol=1e-5)
    assert processor.whiten(faces[:0]).shape == (0, 3, 80, 80)


@pytest.mark.parametrize("orientation", STORED)
def test_the_exif_orientation_is_applied_once(margin, portrait, orientation):
    stored = portrait
    for turn in STORED[orientation]:
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind, tolerance in (("JPEG", 2.0), ("PNG", 0.0)):
        options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
        photograph = encoded(stored, kind, exif=exif, **options)
        upright = load_image(photograph)
        assert difference(upright, portrait) <= tolerance
        assert load_image(upright).tobytes() == upright.tobytes()  # it is not turned a second time
    faces = margin([photograph, portrait])
    torch.testing.assert_close(faces["pixel_values"][0], faces["pixel_values"][1])


def test_all_modes_are_converted_to_rgb(portrait):
    grey = np.asarray(portrait.convert("L"))
    as_rgb = np.dstack([grey] * 3)
    sixteen = Image.fromarray(grey.astype(np.uint16) * 257)
    assert sixteen.mode.startswith("I;16")
    exact = {
        "grey": (encoded(portrait.convert("L")), as_rgb),
        "16 bits": (encoded(sixteen), as_rgb),
        "32 bits": (Image.fromarray(grey.astype(np.int32) * 257), as_rgb),
        "floats": (Image.fromarray(grey.astype(np.float32)), as_rgb),
        "grey array": (grey, as_rgb),
        "grey plane": (grey[None], as_rgb),
        "grey column": (grey[..., None], as_rgb),
        "black and white": (grey > 127, np.where(as_rgb > 127, 255, 0)),
        "palette": (encoded(portrait.quantize(64)), portrait.quantize(64).convert("RGB")),
        "GIF": (encoded(portrait, "GIF"), Image.open(io.BytesIO(encoded(portrait, "GIF"))).convert("RGB")),
    }
    for name, (source, expected) in exact.items():
        image = load_image(source)
        assert image.mode == "RGB" and image.size == portrait.size
        assert difference(image, expected) == 0, name
    cmyk = load_image(encoded(portrait.convert("CMYK"), "JPEG", quality=95))
    assert cmyk.mode == "RGB" and difference(cmyk, portrait) < 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pixels_become_white(mode):
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    picture.paste((90, 90, 90, 255), (0, 0, 32, 64))
    if mode == "P":
        source = Image.new("P", (64, 64), 1)
        source.putpalette([90, 90, 90, 0, 0, 0])
        source.paste(0, (0, 0, 32, 64))
        source = encoded(source, transparency=1)
    elif mode == "RGB":
        source = encoded(picture.convert("RGB"), transparency=(0, 0, 0))
    else:
        source = encoded(picture.convert(mode))
    pixels = np.asarray(load_image(source))
    assert (pixels[:, :32] == 90).all() and (pixels[:, 32:] == 255).all()


# Images that cannot be used


def test_unusable_sources_are_named_with_their_cause(margin, portrait, tmp_path):
    photograph, avif = encoded(portrait, "JPEG"), encoded(portrait, "AVIF")
    files = {
        "truncated.jpg": (photograph[: len(photograph) // 2], "truncated"),
        "head.jpg": (photograph[:30], "damaged or incomplete"),
        "empty.jpg": (b"", "not an image"),
        "text.jpg": (b"This is not a photograph.\n" * 50, "not an image"),
        "broken.png": (encoded(portrait)[:2000], "damaged or incomplete"),
        "broken.avif": (avif[: len(avif) // 2] + b"\xff" * (len(avif) // 2), "damaged or incomplete"),
        "icon.png": (encoded(portrait, "ICO"), "an icon"),  # Pillow decodes icons before their size is known
        "large.png": (png_header(12000, 12000), "12000x12000 is 144 megapixels, over the limit of 64"),
        "bomb.png": (png_header(60000, 60000), "refused before decoding"),
        "missing.jpg": (None, "no such file"),
        "folder.jpg": (None, "a folder, not a file"),
        "nul\0.jpg": (None, "no such file"),
        f"{'long' * 100}.jpg": (None, "no such file"),
    }
    (tmp_path / "folder.jpg").mkdir()
    for name, (content, cause) in files.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        for source in (path, str(path)):
            with pytest.raises(UnreadableImageError, match=cause) as error:
                margin(source)
            assert str(error.value).startswith(f"{path}: ")
        if content is not None:
            with pytest.raises(UnreadableImageError, match=f"^image 1: .*({cause})"):
                margin([portrait, content], detect=False)
    with pytest.raises(UnreadableImageError, match=r"^image 0: damaged or incomplete"):
        margin(Image.open(tmp_path / "truncated.jpg"))  # opened by the caller, decoded here


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (np.full((50, 50, 3), np.nan), "NaN or infinite"),
        (np.full((50, 50, 3), np.inf, np.float32), "NaN or infinite"),
        (np.zeros(50), r"shape \(50,\)"),
        (np.zeros((50, 50, 2)), r"shape \(50, 50, 2\)"),
        (np.zeros((2, 2, 50, 50, 3)), r"shape \(2, 2, 50, 50, 3\)"),
        (np.zeros((0, 50, 3)), r"shape \(0, 50, 3\)"),
        (torch.zeros(5, 50, 50), r"shape \(5, 50, 50\)"),
        (np.full((50, 50), -1.0), "pixels from -1 to -1"),
        (np.linspace(0, 1.02, 2500).reshape(50, 50), "pixels from 0 to 1.02"),
        (np.full((50, 50), 70_000), "pixels from 70000 to 70000"),
        (np.full((50, 50), 1j), "complex128 holds no pixels"),
        (np.zeros((9000, 9000), np.uint8), "9000x9000 is 81 megapixels"),
        (Image.new("RGB", (0, 7)), "empty image"),
        (None, "NoneType"),
        (3, "int"),
    ],
)
def test_unusable_arrays_are_named_with_their_cause(source, cause):
    with pytest.raises(UnreadableImageError, match=f"^frame 7: .*{cause}"):
        load_image(source, "frame 7")


LARGE = {  # file name -> how to save it; Pillow stores a decoded image with four bytes per pixel
    "upright.png": lambda path: Image.new("RGB", (5000, 5000)).save(path, compress_level=1),
    "turned.png": lambda path: Image.new("RGB", (5000, 5000)).save(path, exif=orientation(6), compress_level=1),
    "16_bits.png": lambda path: Image.fromarray(np.full((5000, 5000), 300, np.uint16)).save(path, compress_level=1),
    "transparent.png": lambda path: Image.new("RGBA", (5000, 5000)).save(path, compress_level=1),
    "huge.png": lambda path: Image.new("1", (12000, 12000)).save(path),  # one bit per pixel is fast to write
}


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    return exif


@pytest.fixture(scope="module")
def large_pictures(tmp_path_factory, repository) -> dict[str, tuple[float, str]]:
    """For each image of LARGE, in a new process: the peak memory in bytes, and "read" or the type of the error."""
    folder = tmp_path_factory.mktemp("large")
    for name, save in LARGE.items():
        save(folder / name)
    script = """
import json, sys
from pathlib import Path
from image_processing_facelivenet import load_image

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

outcomes = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets the peak
    before, picture = peak(), None
    try:
        picture, outcome = load_image(path), "read"
    except ValueError as error:
        outcome = type(error).__name__
    outcomes[path.name] = peak() - before, outcome
    del picture
print(json.dumps(outcomes))
"""
    program = Program(["-c", script, folder], repository)
    assert program.wait() == 0, program.stderr
    return json.loads(program.stdout)


def test_huge_images_are_refused_by_their_header(large_pictures):
    """A real PNG of 12000x12000, which takes 432 MB when it is decoded."""
    assert MAX_PIXELS < 12000 * 12000
    memory, outcome = large_pictures["huge.png"]
    assert outcome == "UnreadableImageError" and memory < 50e6


@pytest.mark.parametrize("name", sorted(set(LARGE) - {"huge.png"}))
def test_decoding_needs_memory_for_two_copies_of_an_image_at_most(large_pictures, name):
    memory, outcome = large_pictures[name]
    assert outcome == "read" and 3.5 < memory / 5000**2 < 9


def test_the_limit_of_pixels_can_be_lowered():
    with pytest.raises(UnreadableImageError, match=r"^frame: 40x50 is 0 megapixels, over the limit of 0"):
        load_image(np.zeros((50, 40), np.uint8), "frame", max_pixels=1999)
    assert load_image(np.zeros((50, 40), np.uint8), "frame", max_pixels=2000).size == (40, 50)


def test_images_without_a_face_are_refused(margin, portrait, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with pytest.raises(NoFaceError) as error:
        margin(tmp_path / "noise.png")
    assert str(error.value) == f"{tmp_path / 'noise.png'}: no face found"
    for size in [(1, 1), (1, 5000), (5000, 1), (47, 300), (48, 48), (640, 48)]:
        with pytest.raises(NoFaceError, match=r"^image 0: no face found"):
            margin(Image.new("RGB", size, "gray"))
    with pytest.raises(NoFaceError):
        margin(portrait.resize((47, 47)))


@pytest.mark.parametrize("smallest", [47, 48, 94, 147])
def test_images_as_small_as_the_smallest_face_are_processed(smallest):
    """If rounding makes the image smaller than MTCNN's first scale, its pyramid is empty, and MTCNN raises an error."""
    processor = FaceLiveNetImageProcessor(min_face_size=smallest)
    for side in (smallest - 1, smallest, smallest + 1):
        assert isinstance(processor.detect(drawn().resize((side, side))), list)


def test_unusable_images_are_skipped_and_all_others_processed(margin, portrait, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "cut.jpg").write_bytes(encoded(portrait, "JPEG")[:1500])
    sources = [
        tmp_path / "text.jpg",
        portrait,
        Image.new("RGB", (99, 99)),
        drawn(1),
        tmp_path / "cut.jpg",
        np.full((9, 9), np.nan),
        None,
        drawn(2),
    ]
    batch = margin(sources, on_error="skip")
    assert batch["index"].tolist() == [1, 3, 7] and batch["index"].dtype == torch.int64
    assert [(row["index"], row["source"]) for row in batch["skipped"]] == [
        (0, str(tmp_path / "text.jpg")),
        (2, "image 2"),
        (4, str(tmp_path / "cut.jpg")),
        (5, "image 5"),
        (6, "image 6"),
    ]
    reasons = [row["reason"] for row in batch["skipped"]]
    assert reasons[:2] == ["not an image in any known format", "no face found"]
    assert reasons[2].startswith("damaged or incomplete: ") and "NaN" in reasons[3] and "NoneType" in reasons[4]
    torch.testing.assert_close(batch["pixel_values"], margin([portrait, drawn(1), drawn(2)])["pixel_values"])

    aligned = margin(sources, detect=False, on_error="skip")
    assert aligned["index"].tolist() == [1, 2, 3, 7] and len(aligned["skipped"]) == 4
    with pytest.raises(UnreadableImageError, match=r"text\.jpg"):
        margin(sources)


def test_a_batch_can_be_empty(margin):
    full = margin(drawn())
    for batch in (margin([]), margin([None], on_error="skip")):
        for key, value in full.items():
            assert (batch[key].shape, batch[key].dtype) == ((0, *value.shape[1:]), value.dtype)


# Choice and alignment of faces


@pytest.mark.parametrize("order", [1, -1])
def test_the_largest_face_is_chosen(margin, order):
    places = [(0, (20, 200), 160), (1, (240, 60), 320)][::order]
    canvas = Image.new("RGB", (620, 420), (120, 130, 140))
    for identity, corner, size in places:
        canvas.paste(drawn(identity).resize((size, size)), corner)
    batch = margin(canvas)
    assert batch["face_count"].tolist() == [2]
    left, top, right, bottom = batch["box"][0].tolist()
    assert 240 < left < right < 560 and 60 < top < bottom < 380
    areas = [np.prod(face.box[2:] - face.box[:2]) for face in margin.detect(canvas)]
    assert areas == sorted(areas, reverse=True)


@pytest.mark.parametrize("middle", [0, 1, 2])
def test_the_most_central_of_equal_faces_is_chosen(margin, middle):
    """The same face up to three times; each case has another of the three columns in the middle."""
    canvas = Image.new("RGB", (900, 260), (120, 130, 140))
    left = {0: 325, 1: 75, 2: -175}[middle]  # so that column `middle` begins at 325 of 900
    for column in range(3):
        if left + 250 * column >= 0:
            canvas.paste(drawn(), (left + 250 * column, 5))
    batch = margin(canvas)
    assert batch["face_count"].item() >= 2
    assert batch["box"][0, [0, 2]].mean() == pytest.approx(450, abs=30)


def test_boxes_of_large_frames_are_in_pixels_of_the_frame(similarity):
    small = similarity.detect(drawn())[0]
    canvas = Image.new("RGB", (2600, 2000), (120, 130, 140))
    canvas.paste(drawn(size=1000), (300, 700))
    face = similarity.detect(canvas)[0]
    np.testing.assert_allclose(face.box, small.box * 4 + [300, 700, 300, 700], atol=40)
    np.testing.assert_allclose(face.landmarks, small.landmarks * 4 + [300, 700], atol=30)
    crops = [similarity.align(picture, picture_face) for picture, picture_face in ((canvas, face), (drawn(), small))]
    assert difference(*crops) < 12 < difference(crops[0], similarity.align(drawn(1), similarity.detect(drawn(1))[0]))


def fit_to_template(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Landmarks after the similarity transform that fits them best to the template, by least squares over 4 numbers."""
    template = LANDMARK_TEMPLATE * size
    rows, values = [], []
    for (x, y), (u, v) in zip(template, landmarks, strict=True):  # crop -> picture, as the warp needs it
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        values += [u, v]
    p, q, right, down = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return (landmarks - [right, down]) @ np.linalg.inv([[p, -q], [q, p]]).T


@pytest.mark.parametrize(
    ("angle", "scale", "corner"), [(0, 1, (80, 60)), (25, 1, (80, 60)), (-40, 0.6, (10, 200)), (15, 2.8, (120, 40))]
)
def test_similarity_puts_landmarks_on_the_template(similarity, angle, scale, corner):
    """Bright dots at the landmarks of a rotated and scaled face are at the template's landmarks after the alignment."""
    canvas = Image.new("RGB", (900, 900), (120, 130, 140))
    side = round(250 * scale)
    canvas.paste(drawn(size=side).rotate(angle, Image.Resampling.BICUBIC, fillcolor=(120, 130, 140)), corner)
    face = similarity.detect(canvas)[0]
    expected = fit_to_template(face.landmarks.astype(float), similarity.size)
    assert np.abs(expected - LANDMARK_TEMPLATE * similarity.size).max() < 12  # the proportions of drawn people differ

    columns, rows = np.meshgrid(np.arange(900) + 0.5, np.arange(900) + 0.5)
    width = np.linalg.norm(face.landmarks[1] - face.landmarks[0]) / 25
    for point, target in zip(face.landmarks, expected, strict=True):
        dot = np.exp(-((columns - point[0]) ** 2 + (rows - point[1]) ** 2) / (2 * width**2))
        crop = similarity.align(Image.fromarray((255 * dot).astype(np.uint8)).convert("RGB"), face)[..., 0].astype(
            float
        )
        seen_rows, seen_columns = np.mgrid[: similarity.size, : similarity.size] + 0.5
        position = np.array([(crop * seen_columns).sum(), (crop * seen_rows).sum()]) / crop.sum()
        np.testing.assert_allclose(position, target, atol=1.0)

    aligned_faces = similarity.detect(Image.fromarray(similarity.align(canvas, face)).resize((320, 320)))
    left_eye, right_eye = aligned_faces[0].landmarks[:2]
    tilt = np.degrees(np.arctan2(*(right_eye - left_eye)[::-1]))
    assert abs(tilt) < 5 + abs(angle) / 2  # the detector underestimates rotations


def test_turning_and_scaling_do_not_change_the_similarity_crop(similarity):
    plain = drawn(size=500)
    turned = plain.rotate(20, Image.Resampling.BICUBIC, fillcolor=(120, 130, 140)).resize((260, 260))
    faces = [similarity.detect(picture)[0] for picture in (plain, turned)]
    change = {}
    for processor in (similarity, FaceLiveNetImageProcessor(size=160, alignment="margin")):
        crops = [processor.align(*pair) for pair in zip((plain, turned), faces, strict=True)]
        change[processor.alignment] = difference(*[crop[30:130, 30:130] for crop in crops])
    assert change["similarity"] < 0.7 * change["margin"], change


def test_a_face_at_the_border_is_aligned_without_a_black_bar(processor):
    whole = drawn()
    left, top, _, _ = (round(float(value)) for value in processor.detect(whole)[0].box)
    cut = whole.crop((left + 8, top + 8, 250, 250))
    batch = processor(cut)
    assert batch["box"][0, :2].max() < 25
    face = processor.detect(cut)[0]
    crop = processor.align(cut, face)
    assert crop.shape == (80, 80, 3) and crop.dtype == np.uint8
    assert not (crop == 0).all(axis=2).any()  # the area outside the image is not a black bar

    outside = Face(np.array([-40, -30, 90, 110], np.float32), face.landmarks - 60, 1.0)
    assert processor.align(cut, outside).shape == (80, 80, 3)


def test_the_margin_crop_is_the_enlarged_box(portrait):
    processor = FaceLiveNetImageProcessor(size=96, alignment="margin", margin=0.5)
    face = Face(np.array([60, 70, 160, 190], np.float32), np.zeros((5, 2), np.float32), 1.0)
    expected = portrait.crop((35, 40, 185, 220)).resize((96, 96), Image.Resampling.BICUBIC)  # a quarter on every side
    assert difference(processor.align(portrait, face), expected) < 0.5
    corner = Face(np.array([-10, 5, 90, 105], np.float32), np.zeros((5, 2), np.float32), 1.0)
    expected = portrait.crop((0, 0, 115, 130)).resize((96, 96), Image.Resampling.BICUBIC)
    assert difference(processor.align(portrait, corner), expected) < 0.5


def test_an_inaccurate_box_is_refined(margin):
    canvas = Image.new("RGB", (500, 400), (120, 130, 140))
    canvas.paste(drawn(), (130, 60))
    [detected] = margin.detect(canvas)
    side = detected.box[2] - detected.box[0]
    boxes = [
        detected.box + side * np.array(shift) for shift in ([0, 0, 0, 0], [0.1, 0, 0.1, 0], [-0.1, -0.1, 0.1, 0.1])
    ]
    for face in margin.refine(canvas, boxes):
        assert np.abs(face.box - detected.box).max() < 0.15 * side
        assert np.abs(face.landmarks - detected.landmarks).max() < 0.1 * side
        assert face.probability > 0.9


def test_a_box_without_a_face_has_a_low_probability(margin, portrait):
    nowhere = [[0, 0, 30, 30], [900, 900, 950, 950], [-80, -80, 0, 0], [np.nan] * 4, [60, 60, 60, 60], [90, 90, 50, 50]]
    assert [face.probability < 0.5 for face in margin.refine(portrait, nowhere)] == [True] * 6
    assert margin.refine(portrait, []) == []
    assert margin.refine(Image.new("RGB", (1, 1)), [[0, 0, 1, 1]])[0].probability < 0.5


def test_faces_of_another_detector_are_used(margin, portrait):
    face = Face(np.array([60, 70, 160, 190], np.float32), np.zeros((5, 2), np.float32), 0.95)
    batch = margin(portrait, detector=lambda image: [face, face])
    assert batch["box"][0].tolist() == [60, 70, 160, 190] and batch["face_count"].tolist() == [2]
    with pytest.raises(NoFaceError):
        margin(portrait, detector=lambda image: [])


# Settings, files, processes, threads


@pytest.mark.parametrize("alignment", ["margin", "similarity"])
def test_a_saved_processor_is_loaded_by_name(alignment, portrait, tmp_path):
    settings = {
        "size": 96,
        "alignment": alignment,
        "margin": 0.2,
        "min_face_size": 40,
        "detection_size": 500,
        "detection_threshold": 0.8,
        "thresholds": [0.5, 0.6, 0.7],
        "factor": 0.6,
    }
    processor = FaceLiveNetImageProcessor(**settings)
    expected = processor(portrait)  # this loads the detector, which must not be saved
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved.pop("auto_map") == {"AutoImageProcessor": "image_processing_facelivenet.FaceLiveNetImageProcessor"}
    assert saved == settings | {"image_processor_type": "FaceLiveNetImageProcessor"}
    loaded = AutoImageProcessor.from_pretrained(tmp_path, trust_remote_code=True)
    assert type(loaded).__module__.startswith("transformers_modules")  # the saved code, not that of the repository
    assert loaded.to_dict() == processor.to_dict()
    for key, value in loaded(portrait).items():
        torch.testing.assert_close(value, expected[key])
    assert "detector" not in repr(loaded)


def test_saved_settings_can_be_replaced_and_are_checked(tmp_path):
    FaceLiveNetImageProcessor(size=96, alignment="margin").save_pretrained(tmp_path)
    changed = FaceLiveNetImageProcessor.from_pretrained(tmp_path, size=64, alignment="similarity", min_face_size=60)
    assert (changed.size, changed.alignment, changed.min_face_size) == (64, "similarity", 60)
    with pytest.raises(ValueError, match="alignment"):
        FaceLiveNetImageProcessor.from_pretrained(tmp_path, alignment="landmarks")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("size", 31),
        ("size", 160.0),
        ("size", "160"),
        ("alignment", "landmarks"),
        ("margin", -0.1),
        ("margin", float("nan")),
        ("min_face_size", 11),
        ("min_face_size", 641),
        ("detection_size", 20),
        ("detection_threshold", 1.1),
        ("thresholds", (0.6, 0.7)),
        ("thresholds", (0.6, 0.7, 7)),
        ("factor", 1.0),
        ("factor", 0),
        ("sise", 160),
    ],
)
def test_wrong_settings_are_named(setting, value):
    with pytest.raises(ValueError, match=setting) as error:
        FaceLiveNetImageProcessor(**{setting: value})
    assert setting == "sise" or str(value) in str(error.value)


@pytest.mark.parametrize("argument", [{"on_error": "ignore"}, {"return_tensors": "np"}])
def test_wrong_arguments_are_named(margin, portrait, argument):
    [(name, value)] = argument.items()
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        margin(portrait, **argument)


def test_copies_work_like_the_original(processor, portrait):
    expected = processor(portrait)["pixel_values"]
    for twin in (pickle.loads(pickle.dumps(processor)), copy.deepcopy(processor)):
        assert twin.to_dict() == processor.to_dict()
        torch.testing.assert_close(twin(portrait)["pixel_values"], expected)


def test_threads_share_one_processor():
    pictures = [drawn(identity, 200 + 20 * identity) for identity in range(6)]
    separate = FaceLiveNetImageProcessor(size=80, alignment="similarity")
    expected = [separate(picture) for picture in pictures]
    shared, ready = FaceLiveNetImageProcessor(size=80, alignment="similarity"), threading.Barrier(4)

    def work(_) -> list:
        ready.wait()  # all four threads begin before the detector is loaded
        return [shared(picture) for picture in pictures]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(work, range(4)):
            for got, wanted in zip(results, expected, strict=True):
                for key, value in wanted.items():
                    torch.testing.assert_close(got[key], value)


def test_threads_detect_and_refine_with_identical_results():
    """Only the creation of the detector is locked; its results do not depend on other threads."""
    pictures = [drawn(identity, 200 + 20 * identity) for identity in range(4)]

    def detect_and_refine(processor, picture) -> list[np.ndarray]:
        face = processor.detect(picture)[0]
        [refined] = processor.refine(picture, face.box)
        return [face.box, face.landmarks, refined.box, refined.landmarks]

    separate, shared = FaceLiveNetImageProcessor(), FaceLiveNetImageProcessor()
    expected = [detect_and_refine(separate, picture) for picture in pictures] * 4
    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(partial(detect_and_refine, shared), pictures * 4), expected, strict=True):
            assert all(np.array_equal(one, other) for one, other in zip(got, wanted, strict=True))


def test_aligned_faces_work_without_the_detector_package(portrait, tmp_path, repository):
    """In a process that cannot import facenet-pytorch, aligned faces work, and the error names the package."""
    portrait.save(tmp_path / "face.png")
    script = """
import sys
sys.modules["facenet_pytorch"] = None
from image_processing_facelivenet import FaceLiveNetImageProcessor
processor = FaceLiveNetImageProcessor(size=80)
print(tuple(processor(sys.argv[1], detect=False)["pixel_values"].shape))
processor(sys.argv[1], on_error="skip")
"""
    program = Program(["-c", script, tmp_path / "face.png"], repository)
    assert program.wait() == 1 and program.stdout == "(1, 3, 80, 80)\n"
    assert "ImportError: Finding faces needs facenet-pytorch: pip install" in program.stderr
    assert "pass detect=False" in program.stderr


@pytest.mark.real_data
def test_faces_in_real_photographs_are_found(processor, real_data):
    photographs = sorted((real_data / "london").glob("*.jpg"))[:6]
    batch = processor(photographs)
    assert batch["face_count"].tolist() == [1] * 6 and batch["detection_probability"].min() > 0.99
    left_eye, right_eye, nose, left_corner, right_corner = batch["landmarks"].unbind(dim=1)
    assert (left_eye[:, 0] < nose[:, 0]).all() and (nose[:, 0] < right_eye[:, 0]).all()
    assert (left_corner[:, 1] > nose[:, 1]).all() and (right_corner[:, 1] > nose[:, 1]).all()
