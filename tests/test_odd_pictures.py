"""Unusual images: formats, colour profiles, all kinds of sources, and rotated photographs."""

import base64
import io
import os
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin

from authentication.authenticator import DEFAULT_MODEL
from demo.examples import WELL_KNOWN
from face_data.drawn import draw_face, drawn_photograph
from image_processing_facelivenet import (
    MAX_PIXELS,
    UPRIGHT_PROBABILITY,
    FaceLiveNetImageProcessor,
    UnreadableImageError,
    load_image,
    name_of,
)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A drawn face, 250x250 RGB."""
    return draw_face(1, "happy", np.random.default_rng(1))


@pytest.fixture(scope="module")
def processor() -> FaceLiveNetImageProcessor:
    return FaceLiveNetImageProcessor(size=96)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def difference(one, other) -> float:
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())


def grey16(image: Image.Image, bits: int = 16) -> np.ndarray:
    return (np.asarray(image.convert("L")).astype(np.uint16) * 257) >> (16 - bits)


def tiff(planes: list[np.ndarray], tags: dict[int, list[int]], order: str = "<") -> bytes:
    """An uncompressed TIFF with one plane after the other; Pillow writes only few kinds of TIFF."""
    data = b"".join(plane.astype(plane.dtype.newbyteorder(order)).tobytes() for plane in planes)
    height, width, bits = *planes[0].shape[:2], 8 * planes[0].dtype.itemsize
    samples = sum(plane[0, 0].size for plane in planes)
    starts = [8 + number * planes[0].nbytes for number in range(len(planes))]
    tags = {256: [width], 257: [height], 258: [bits] * samples, 259: [1], 273: starts, 277: [samples]} | tags
    tags |= {278: [height], 279: [planes[0].nbytes] * len(planes)}
    table, further = struct.pack(order + "H", len(tags)), b""
    end = 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        content = struct.pack(f"{order}{len(values)}I", *values)
        if len(content) > 4:
            content, further = struct.pack(order + "I", end + len(further)), further + content
        table += struct.pack(order + "HHI", tag, 4, len(values)) + content
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    return head + data + table + bytes(4) + further


def white_is_zero(image: Image.Image, bits: int = 16, order: str = "<") -> bytes:
    """A TIFF in which zero is white, with 16 bits of which `bits` are significant, as scanners write it."""
    return tiff([(1 << bits) - 1 - grey16(image, bits)], {262: [0]}, order)


def planes16(image: Image.Image, order: str = "<") -> bytes:
    """A TIFF of 16 bits for each colour, red before green before blue."""
    pixels = np.asarray(image).astype(np.uint16) * 257
    return tiff(list(pixels.transpose(2, 0, 1)), {262: [2], 284: [2]}, order)


def lab(image: Image.Image) -> Image.Image:
    """In CIELAB, as Photoshop saves it, without a profile."""
    spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.applyTransform(image, ImageCms.buildTransform(*spaces, "RGB", "LAB"))
    return Image.frombytes("LAB", converted.size, converted.tobytes())


COLOUR = {  # format -> how it is written; lossy ones within a few levels
    "JPEG": lambda image: encoded(image, "JPEG", quality=95),
    "progressive JPEG": lambda image: encoded(image, "JPEG", quality=95, progressive=True),
    "CMYK JPEG": lambda image: encoded(image.convert("CMYK"), "JPEG", quality=95),
    "MPO": lambda image: encoded(image, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))], quality=95),
    "PNG": lambda image: encoded(image, "PNG"),
    "palette PNG": lambda image: encoded(image.quantize(256), "PNG"),
    "RGBA PNG": lambda image: encoded(image.convert("RGBA"), "PNG"),
    "animated PNG": lambda image: encoded(image, "PNG", save_all=True, append_images=[Image.new("RGB", (250, 250))]),
    "WebP": lambda image: encoded(image, "WEBP", quality=95),
    "animated WebP": lambda image: encoded(image, "WEBP", save_all=True, append_images=[image.rotate(90)], quality=95),
    "AVIF": lambda image: encoded(image, "AVIF", quality=95),
    "GIF": lambda image: encoded(image, "GIF"),
    "BMP": lambda image: encoded(image, "BMP"),
    "TIFF": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "TIFF of 16 bits in planes": planes16,
    "TIFF of 16 bits in planes, big-endian": lambda image: planes16(image, ">"),
    "TIFF in CIELAB": lambda image: encoded(lab(image), "TIFF"),
    "TIFF of JPEG": lambda image: encoded(image, "TIFF", compression="jpeg", quality=95),
    "JPEG 2000": lambda image: encoded(image, "JPEG2000"),
    "PPM": lambda image: encoded(image, "PPM"),
}
GREY = {
    "grey JPEG": lambda image: encoded(image.convert("L"), "JPEG", quality=95),
    "PGM": lambda image: encoded(image.convert("L"), "PPM"),
    "PNG of 16 bits": lambda image: encoded(Image.fromarray(grey16(image)), "PNG"),
    "TIFF of 16 bits": lambda image: encoded(Image.fromarray(grey16(image)), "TIFF"),
    "TIFF, white is zero": lambda image: encoded(image.convert("L"), "TIFF", tiffinfo={262: 0}),
    "TIFF of 16 bits, white is zero": white_is_zero,
    "TIFF of 16 bits, white is zero, big-endian": lambda image: white_is_zero(image, order=">"),
    "TIFF of 16 bits with a sign": lambda image: tiff([grey16(image, 15)], {262: [1], 339: [2]}),
    "TIFF of 12 bits in 16, white is zero": lambda image: white_is_zero(image, 12),
    "TIFF of 32 bits": lambda image: tiff([grey16(image).astype(np.uint32) * 65537], {262: [1]}),
    "TIFF of floats, white is zero": lambda image: tiff(
        [1 - grey16(image).astype(np.float32) / 65535], {262: [0], 339: [3]}
    ),
}
GREY |= {
    f"{bits} bits in 16": lambda image, bits=bits: encoded(Image.fromarray(grey16(image, bits)), "PNG")
    for bits in (10, 12, 14)
}


def colour16(image: Image.Image, bits: int, alpha: bool = False) -> bytes:
    """A PNG with 16 bits per channel, of which the lower `bits` are significant; Pillow cannot write it."""
    pixels = np.asarray(image.convert("RGBA" if alpha else "RGB"), np.uint16).astype(np.uint32) * 257 >> (16 - bits)
    if alpha:
        pixels[..., 3] = 65535

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", *image.size, 16, 6 if alpha else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_colours_of_10_to_16_significant_bits_are_read(picture, bits):
    assert difference(load_image(colour16(picture, bits)), picture) < 2
    if bits == 16:  # with transparency, the range of the colours cannot be seen
        assert difference(load_image(colour16(picture, bits, alpha=True)), picture) < 2


@pytest.mark.parametrize("format", COLOUR)
def test_colour_formats_are_read(picture, format):
    found = load_image(COLOUR[format](picture))
    assert found.mode == "RGB" and difference(found, picture) < 6


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_read_and_half_a_jpeg_is_refused(picture, progressive):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated; below is a thumbnail with its end marker, as in files of cameras
    exif[0x9286] = encoded(picture.resize((16, 16)), "JPEG")
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    content = encoded(turned, "JPEG", quality=95, progressive=progressive, exif=exif)
    for missing in (1, 2, 3, 20):
        assert difference(load_image(content[:-missing]), picture) < 6
    cuts = [int(len(content) * share) for share in (0.3, 0.5, 0.7, 0.9)]
    start = content.rfind(b"\xff\xc2")
    while progressive and (start := content.find(b"\xff\xda", start + 1)) >= 0:
        cuts.append(start)  # before a scan: the part before it is complete, but coarse
    for cut in cuts:
        with pytest.raises(UnreadableImageError, match="damaged"):
            load_image(content[:cut])


@pytest.mark.parametrize("format", GREY)
def test_grey_formats_are_read(picture, format):
    assert difference(load_image(GREY[format](picture)), picture.convert("L").convert("RGB")) < 3


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
THUMBNAIL = [np.zeros((12, 16, 3), np.uint8)]
FOREIGN = {
    "photo.jxl": (b"\xff\x0a" + bytes(64), "a JPEG XL image, which cannot be read; save it as JPEG or PNG"),
    "boxed.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64), "a JPEG XL image"),
    "drawing.svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "scan.pdf": (b"%PDF-1.7\n", "a PDF document"),
    "layers.psd": (b"8BPS\0\x01" + bytes(64), "a Photoshop document"),
    "saved.jpg": (b"<!DOCTYPE html><html></html>", "a web page, not an image"),
    "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "photo.cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1" + bytes(64), "a raw image of a camera"),
    "photo.dng": (tiff(THUMBNAIL, {262: [2], 50706: [1]}), "a raw image of a camera"),
    "photo.nef": (tiff(THUMBNAIL, {254: [1], 262: [2], 330: [8]}, ">"), "a raw image of a camera"),
    "photo.cr2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(64), "a raw image of a camera"),
    "photo.x3f": (b"FOVb" + bytes(64), "a raw image of a camera"),
    "floats.tif": (tiff([np.zeros((4, 4, 3), np.float32)], {262: [2], 339: [3] * 3}), "a TIFF that is damaged or of a"),
    "damaged.jpg": (b"\xff\xd8\xff\xc9" + bytes(50), "damaged: only its first bytes are correct"),
    "lossless.jls": (
        b"\xff\xd8\xff\xf7\0\x0b" + bytes(50),
        "damaged: only its first bytes are correct; or JPEG-LS",
    ),
    "screen.jxr": (b"II\xbc\x01" + bytes(60), "a JPEG XR image"),
    "layers.xcf": (b"gimp xcf v011\0" + bytes(60), "a GIMP document"),
    "scan.dcm": (bytes(128) + b"DICM" + bytes(60), "a DICOM file"),
    "photos.zip": (b"PK\3\4\x14\0" + bytes(60), "an archive or a document, not an image"),
    "photo.jpg.gz": (b"\x1f\x8b\x08\0" + bytes(60), "an archive or a document, not an image"),
    "voice.mp3": (b"ID3\3\0" + bytes(60), "a sound recording, not an image"),
    "inkscape.svg": (
        b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x -->\n<!DOCTYPE svg PUBLIC 'a' 'b'>\n<svg>",
        "an SVG drawing",
    ),
    "saved.html.jpg": (b"<!-- saved from url -->\n<!DOCTYPE html>", "a web page, not an image"),
    "favicon.ico": (b"\0\0\1\0\1\0\x10\x10" + bytes(64), "an icon, texture or drawing, which cannot be read"),
    "texture.dds": (b"DDS |" + bytes(64), "an icon, texture or drawing"),
    "old.pcx": (b"\n\5\1\x08" + bytes(64), "an icon, texture or drawing"),
    "figure.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript drawing"),
    "clip.jpg": (b"\0\0\0\x18ftypisom" + bytes(64), "a video clip; a photograph is needed"),
    "nothing.jpg": (b"", "an empty file, not an image"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_unsupported_formats_are_named(tmp_path, name):
    content, cause = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableImageError) as error:
        load_image(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: {cause}")


def test_heic_is_read_or_the_error_names_the_package(picture, monkeypatch):
    formats = [name for name in Image.OPEN if name != "HEIF"]
    with pytest.raises(UnreadableImageError, match="a HEIC photograph; pip install pillow-heif"):
        load_image(HEIC, formats=[name for name in ("JPEG", "PNG") if name in formats])
    with pytest.raises(UnreadableImageError, match="an AVIF image that is damaged or of a kind that cannot be read"):
        load_image(encoded(picture, "AVIF")[:2000])
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file, quality=95)
    assert difference(load_image(file.getvalue()), picture) < 6
    for content in (
        file.getvalue()[:300],
        file.getvalue()[:-1],
        HEIC,
    ):  # the last one has no single image, like a sequence
        with pytest.raises(UnreadableImageError, match=r"image: (damaged|a HEIC photograph that is damaged)") as error:
            load_image(content)
        assert str(error.value) == " ".join(str(error.value).split()) and "pip" not in str(error.value)


# Colours


def profile(primaries: list[tuple[float, float, float]], gamma: float) -> bytes:
    """An ICC profile of three primaries (XYZ, adapted to D50) and a gamma."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    text = b"another space\0"
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78), b"cprt": b"text" + bytes(5)}
    tags[b"wtpt"] = b"XYZ " + bytes(4) + fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    for name, primary in zip("rgb", primaries, strict=True):
        tags[f"{name}XYZ".encode()] = b"XYZ " + bytes(4) + b"".join(map(fixed, primary))
        tags[f"{name}TRC".encode()] = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content
    size = start + len(data)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    head += bytes(28) + fixed(0.9642) + fixed(1.0) + fixed(0.8249) + bytes(48)
    return head[:128] + struct.pack(">I", len(tags)) + table + data


ADOBE = profile([(0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)], 2.2)


@pytest.mark.parametrize("format, mode", [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "RGBA"), ("WEBP", "RGB")])
def test_colour_profiles_are_applied(format, mode):
    """(100, 160, 90) in Adobe RGB is about (63, 161, 85) in sRGB."""
    content = encoded(Image.new(mode, (32, 32), (100, 160, 90)), format, icc_profile=ADOBE)
    red, green, blue = np.asarray(load_image(content))[16, 16].astype(int)
    assert red < 85 and abs(green - 160) < 8 and abs(blue - 85) < 8
    plain = np.asarray(load_image(encoded(Image.new(mode, (32, 32), (100, 160, 90)), format)))[16, 16].astype(int)
    assert abs(plain - [100, 160, 90]).max() < 4


def grey_profile(gamma: float) -> bytes:
    """An ICC profile of grey images."""
    colour = profile([(0, 0, 0)] * 3, gamma)
    return colour[:16] + b"GRAY" + colour[20:].replace(b"rTRC", b"kTRC")


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_profiles_of_grey_images_are_applied(mode):
    """A level of 0.25 in linear light is 0.537 in sRGB, 137 of 255."""
    level = {"L": 64, "LA": (64, 255), "I;16": 64 * 257}[mode]
    picture = Image.new(mode, (32, 32), level)
    if mode == "I;16":
        picture.putpixel((0, 0), 65535)
    found = np.asarray(load_image(encoded(picture, "PNG", icc_profile=grey_profile(1.0))))[16, 16].astype(int)
    assert abs(found - 137).max() < 4


def test_a_profile_with_a_name_similar_to_srgb_is_applied():
    linear = ADOBE.replace(b"another space", b"sRGB (linear)")
    content = encoded(Image.new("RGB", (32, 32), (100, 160, 90)), "PNG", icc_profile=linear)
    assert np.asarray(load_image(content))[16, 16, 0] < 85


def bmp_with_profile(image: Image.Image, profile: bytes) -> bytes:
    """A BMP of version 5 with the profile at its end; Pillow writes version 3."""
    pixels = encoded(image, "BMP")[54:]
    sizes = struct.pack("<IiiHHIIiiII", 124, *image.size, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    header = (sizes + bytes(16) + b"DEBM").ljust(108, b"\0")
    header += struct.pack("<IIII", 4, 124 + len(pixels), len(profile), 0)
    return b"BM" + struct.pack("<IHHI", 138 + len(pixels) + len(profile), 0, 0, 138) + header + pixels + profile


def jp2_with_profile(image: Image.Image, profile: bytes) -> bytes:
    content = encoded(image, "JPEG2000")
    before, colour, after = content.partition(struct.pack(">I4sBBBI", 15, b"colr", 1, 0, 0, 16))
    box = struct.pack(">I4sBBB", 11 + len(profile), b"colr", 2, 0, 0) + profile
    start = before.index(b"jp2h") - 4
    size = struct.unpack_from(">I", before, start)[0] + len(box) - len(colour)
    return before[:start] + struct.pack(">I", size) + before[start + 4 :] + box + after


@pytest.mark.parametrize("write", [bmp_with_profile, jp2_with_profile])
def test_profiles_that_pillow_does_not_read_are_applied(write):
    content = write(Image.new("RGB", (32, 32), (100, 160, 90)), ADOBE)
    red, green, blue = np.asarray(load_image(content))[16, 16].astype(int)
    assert red < 85 and abs(green - 160) < 8 and abs(blue - 85) < 8


ADOBE_CORNERS = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)  # x and y of white, red, green, blue
SRGB_CORNERS = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


@pytest.mark.parametrize(
    ("mode", "level", "chunks", "expected"),
    [
        ("RGB", (100, 160, 90), {b"gAMA": [45455], b"cHRM": ADOBE_CORNERS}, (53, 161, 85)),
        ("RGB", (64, 64, 64), {b"gAMA": [100000]}, (137, 137, 137)),  # linear light
        ("L", 64, {b"gAMA": [100000], b"cHRM": SRGB_CORNERS}, (137, 137, 137)),
        ("RGB", (64, 64, 64), {b"gAMA": [55556]}, (83, 83, 83)),  # of an old Macintosh
        ("RGB", (100, 160, 90), {b"gAMA": [45455], b"cHRM": SRGB_CORNERS}, (100, 160, 90)),
        ("RGB", (100, 160, 90), {b"sRGB": None, b"gAMA": [100000]}, (100, 160, 90)),  # sRGB has priority
        ("RGB", (100, 160, 90), {b"gAMA": [0], b"cHRM": [0] * 8}, (100, 160, 90)),
        ("RGB", (100, 160, 90), {b"gAMA": [45455], b"cHRM": [31270, 32900] * 4}, (100, 160, 90)),
    ],
)
def test_gamma_and_primaries_of_a_png_are_applied(mode, level, chunks, expected):
    """As in browsers, gamma and primaries are used if there is no profile."""
    described = PngImagePlugin.PngInfo()
    for name, values in chunks.items():
        described.add(name, b"\0" if values is None else struct.pack(f">{len(values)}I", *values))
    content = encoded(Image.new(mode, (32, 32), level), "PNG", pnginfo=described)
    assert abs(np.asarray(load_image(content))[16, 16].astype(int) - expected).max() < 5


@pytest.mark.parametrize("damage", [b"no profile", ADOBE[:200], b""])
def test_a_damaged_profile_is_ignored(picture, damage):
    assert difference(load_image(encoded(picture, "PNG", icc_profile=damage)), picture) == 0


def test_a_profile_of_another_kind_of_image_is_ignored(picture):
    grey = picture.convert("L")
    assert difference(load_image(encoded(grey, "PNG", icc_profile=ADOBE)), grey.convert("RGB")) == 0


def with_codes(content: bytes, primaries: int, transfer: int) -> bytes:
    """A PNG with the chunk cICP, or an AVIF or HEIC with replaced codes of H.273."""
    if (start := content.find(b"nclx") + 4) > 3:
        return content[:start] + struct.pack(">HH", primaries, transfer) + content[start + 4 :]
    chunk = b"cICP" + bytes([primaries, transfer, 0, 1])
    return content[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]


@pytest.mark.parametrize(
    ("primaries", "transfer", "level", "expected"),
    [
        (1, 13, (100, 160, 90), (100, 160, 90)),
        (1, 1, (100, 160, 90), (100, 160, 90)),
        (2, 2, (100, 160, 90), (100, 160, 90)),  # unspecified
        (12, 13, (114, 158, 97), (100, 160, 90)),  # Display P3
        (9, 14, (124, 156, 99), (100, 160, 90)),  # BT.2020
        (1, 8, (64, 64, 64), (137, 137, 137)),  # linear light
        (9, 16, (128, 128, 128), (180, 180, 180)),  # PQ: 93 nits, of 203 that are white
        (9, 18, (157, 157, 157), (180, 180, 180)),  # HLG: 93 nits
        (9, 16, (200, 200, 200), (255, 255, 255)),  # brighter than white
    ],
)
@pytest.mark.parametrize("format", ["PNG", "AVIF", "HEIF"])
def test_colours_with_codes_are_converted_to_srgb(format, primaries, transfer, level, expected):
    """Cameras write such codes in HEIC files of high dynamic range, and browsers apply them in PNG and AVIF."""
    if format == "HEIF":
        pytest.importorskip("pillow_heif")
    content = with_codes(encoded(Image.new("RGB", (64, 64), level), format, quality=95), primaries, transfer)
    assert abs(np.asarray(load_image(content))[32, 32].astype(int) - expected).max() < 6


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_a_damaged_exif_is_ignored(picture, format):
    """Image viewers ignore it too."""
    if format == "HEIF":
        pytest.importorskip("pillow_heif")
    content = encoded(picture, format, quality=95, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
    damaged = content.replace(b"MM\0*", b"XXXX")
    if format == "PNG":  # the chunks of a PNG have checksums
        damaged = encoded(picture, format, exif=b"XXXX")
    assert damaged != content and difference(load_image(damaged), picture) < 6


def test_another_damaged_field_of_the_exif_does_not_hide_the_orientation(picture):
    """The width is a text instead of a number. Pillow cannot apply the orientation of such an EXIF."""
    width, orientation = struct.pack(">HHI4s", 0x0100, 2, 4, b"abc"), struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0" + struct.pack(">2sHIH", b"MM", 42, 8, 2) + width + orientation + bytes(4)
    content = encoded(picture.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)
    assert difference(load_image(content), picture) < 6
    assert difference(load_image(load_image(content)), picture) < 6  # it is not turned a second time


def test_long_notes_and_profiles_of_a_png_are_accepted(picture):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Photoshop", "history " * 300_000, zip=True)
    assert difference(load_image(encoded(picture, "PNG", pnginfo=notes, icc_profile=bytes(2_000_000))), picture) == 0


# Sources


def test_every_kind_of_source_is_read(picture, tmp_path):
    content = encoded(picture, "PNG")
    (tmp_path / "face.png").write_bytes(content)
    text = base64.b64encode(content).decode()
    memory = io.BytesIO(content)
    memory.seek(0, io.SEEK_END)  # the position after writing
    with open(tmp_path / "face.png", "rb") as file:
        sources = {
            "open file": file,
            "BytesIO": memory,
            "base64": text,
            "base64 for URLs": text.replace("+", "-").replace("/", "_"),
            "base64 in lines": "\n".join(text[start : start + 76] for start in range(0, len(text), 76)),
            "data URI": f"data:image/png;base64,{text}",
            "undecoded cell of a dataset": {"bytes": content, "path": None},
            "cell of a dataset that names a file": {"bytes": None, "path": str(tmp_path / "face.png")},
            "file URI": (tmp_path / "face.png").as_uri(),
            "bfloat16": torch.from_numpy(np.asarray(picture).copy()).bfloat16(),
        }
        for name, source in sources.items():
            assert difference(load_image(source), picture) < 1, name


def test_a_pipe_is_read_once(picture, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(encoded(picture, "PNG"),))
    writer.start()
    assert difference(load_image(path), picture) == 0
    writer.join()


def test_no_error_message_contains_an_image(picture, tmp_path, processor):
    """The content of a text is never repeated, because a log must not contain faces."""
    damaged = base64.b64encode(encoded(picture, "PNG")[:4000]).decode()
    sources = {
        damaged: "a base64 text: damaged or incomplete",
        "A" * 70_000: "a base64 text: not an image in any known format",
        f"data:image/png;base64,{damaged}": "a data URI: damaged or incomplete",
        "data:image/png;base64": "a data URI: has no comma",
        "data:,hello": "a data URI: not an image",
        "https://example.org/anna.jpg?token=secret": "https://example.org/anna.jpg: a URL, not a file; download it",
        "s3://bucket/anna.jpg": "s3://bucket/anna.jpg: a URL, not a file",
        "x" * 70_000 + ".jpg": "no such file",
        "": "an empty text instead of a path",
    }
    for source, cause in sources.items():
        with pytest.raises(UnreadableImageError) as error:
            load_image(source)
        assert cause in str(error.value) and len(str(error.value)) < 1200 and "secret" not in str(error.value)
        skipped = processor([source], detect=False, on_error="skip")["skipped"]
        assert cause.split(": ")[-1] in skipped[0]["reason"] and len(str(skipped)) < 2500
    with open(tmp_path / "text.txt", "w+") as file, pytest.raises(UnreadableImageError, match='open it with "rb"'):
        load_image(file)
    (tmp_path / "two\nlines.jpg").write_bytes(b"no picture")
    with pytest.raises(UnreadableImageError, match=r"two\\nlines\.jpg: not an image in any known format$"):
        load_image(tmp_path / "two\nlines.jpg")
    assert name_of("anna.jpg") == "anna.jpg" and name_of(b"abc") == "image"


def test_a_file_without_permission_is_not_reported_as_damaged(picture, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    picture.save(tmp_path / "locked.png")
    monkeypatch.setattr("builtins.open", refuse)  # root may read all files, so a file mode would not work here
    with pytest.raises(UnreadableImageError, match=r"locked\.png: cannot be read: Permission denied$"):
        load_image(tmp_path / "locked.png")
    monkeypatch.undo()
    with pytest.raises(UnreadableImageError, match="/dev/null: a device, not a file"):
        load_image("/dev/null")


def test_lists_of_all_kinds_are_read(picture, processor, tmp_path):
    picture.save(tmp_path / "face.png")
    path = str(tmp_path / "face.png")
    expected = processor([picture, picture], detect=False)["pixel_values"]
    lists = (
        (picture for _ in range(2)),
        {1: picture, 2: picture}.values(),
        np.stack([np.asarray(picture)] * 2),
        np.array([path, path]),
        np.array([picture, path, None], dtype=object)[:2],
    )
    for sources in lists:
        torch.testing.assert_close(processor(sources, detect=False)["pixel_values"], expected)


def test_other_arrays_of_pixels_and_arrays_of_bytes_are_read_as_one_image(picture, processor):
    """Arrays of JAX and TensorFlow, and encoded bytes as torchvision's read_file and OpenCV's imencode return them."""

    class Array:
        ndim, shape = 3, (250, 250, 3)

        def __array__(self, dtype=None, copy=None):
            return np.asarray(picture)

        def __iter__(self):
            return iter(np.asarray(picture))

    content = encoded(picture, "PNG")
    expected = processor(picture, detect=False)["pixel_values"]
    for source in (Array(), np.frombuffer(content, np.uint8), torch.tensor(list(content), dtype=torch.uint8)):
        torch.testing.assert_close(processor(source, detect=False)["pixel_values"], expected)
    with pytest.raises(UnreadableImageError, match="a tensor without an array of pixels"):
        load_image(torch.zeros(4, 4, device="meta"))


@pytest.mark.parametrize("size", [(9248, 6944), (12032, 9024)])
def test_photographs_of_large_sensors_are_read(size):
    """64 megapixels are decoded completely, and a JPEG of 108 megapixels at half its size."""
    found = load_image(encoded(Image.new("L", size, 90), "JPEG", quality=50))
    assert found.size in (size, (size[0] // 2, size[1] // 2)) and found.width * found.height <= MAX_PIXELS
    assert found.getpixel((5, 5)) == (90, 90, 90)


def test_a_large_progressive_jpeg_is_refused():
    """Decoding it needs memory for all pixels, even at a smaller scale."""
    content = encoded(Image.new("L", (9000, 9000)), "JPEG", progressive=True, quality=10)
    with pytest.raises(UnreadableImageError, match="9000x9000 is 81 megapixels"):
        load_image(content)


class FilterRecorder(io.BytesIO):
    """A file that records the active filters of warnings when it is read."""

    def read(self, *size) -> bytes:
        self.filters = list(warnings.filters)
        return super().read(*size)


def test_reading_an_image_changes_no_filter_of_warnings(picture):
    """All threads share the filters. If one thread restores them, it undoes the change of another thread."""
    file = FilterRecorder(encoded(picture, "PNG"))
    load_image(file)
    assert file.filters == warnings.filters


# Rotated photographs and wide images


@pytest.mark.parametrize("alignment", ["margin", "similarity"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotated_photograph_is_turned_upright(alignment, degrees):
    processor = FaceLiveNetImageProcessor(size=96, alignment=alignment)
    canvas = Image.new("RGB", (420, 300), (120, 130, 140))
    canvas.paste(drawn_photograph(WELL_KNOWN[0], "neutral", 0, seed=0).resize((260, 260)), (30, 20))
    [upright], turned = processor.detect_in_any_orientation(canvas), canvas.rotate(degrees, expand=True)
    [face] = processor.detect_in_any_orientation(turned)
    assert upright.turn == 0 and upright.probability >= UPRIGHT_PROBABILITY
    assert face.turn == (360 - degrees) % 360 and abs(face.roll) < 15
    assert difference(processor.align(turned, face), processor.align(canvas, upright)) < 4
    left, top, right, bottom = face.box
    inside = (face.landmarks > [left, top]) & (face.landmarks < [right, bottom])
    assert inside.all(), "box and landmarks are in pixels of the picture as it lies"
    batch = processor(turned)
    assert batch["turn"].tolist() == [face.turn] and batch["roll"].item() == pytest.approx(face.roll, abs=1e-4)


@pytest.mark.parametrize("turn", [None, Image.Transpose.TRANSPOSE])
@pytest.mark.parametrize("size", [(4000, 350), (12000, 420), (3000, 1300)])
def test_a_small_face_in_a_wide_image_is_found(processor, size, turn):
    person = drawn_photograph(WELL_KNOWN[0], "neutral", 0, seed=0).resize((250, 250))
    canvas = Image.new("RGB", size, (120, 130, 140))
    left, top = size[0] * 2 // 3, size[1] - 300
    if turn is None:
        canvas.paste(person, (left, top))
    else:  # high instead of wide
        canvas = canvas.transpose(turn)
        canvas.paste(person, (top, left))
        left, top = top, left
    [face] = processor.detect_in_any_orientation(canvas)
    assert left < face.box[0] < face.box[2] < left + 250 and top < face.box[1] < face.box[3] < top + 260


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "turn"),
    [("grey12in16.png", 0), ("pano.jpg", 0), ("turned180_male_13.jpg", 180), ("turned270_female_4.jpg", 90)],
)
def test_faces_in_unusual_files_are_found(real_data, name, turn):
    batch = FaceLiveNetImageProcessor.from_pretrained(DEFAULT_MODEL)(real_data / "odd_files" / name)
    assert batch["face_count"].tolist() == [1] and batch["detection_probability"].item() > UPRIGHT_PROBABILITY
    assert batch["turn"].item() == turn
