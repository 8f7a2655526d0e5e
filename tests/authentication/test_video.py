"""Reading frames of clips. The clips are made with PyAV."""

import os
import struct
import threading
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from authentication.video import is_clip, read_frames
from image_processing_facelivenet import UnreadableImageError


def write_clip(path, frames, rate=8, container=None, codec="mpeg4", pixels="yuv420p"):
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = pixels
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_image(frame)))
        output.mux(stream.encode(None))
    return path


@pytest.fixture
def half_white():
    """An image of 64x32 with a white left half."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi", ".mkv"])
def test_clips_are_sampled_four_times_a_second(tmp_path, half_white, suffix):
    frames = list(read_frames(write_clip(tmp_path / f"clip{suffix}", [half_white] * 17)))  # 17 frames at 8 a second
    assert [seconds for seconds, _ in frames] == pytest.approx([0.25 * index for index in range(9)], abs=0.01)
    assert all(image.size == (64, 32) and image.mode == "RGB" for _, image in frames)


@pytest.mark.parametrize(("rate", "count"), [(2, 5), (np.inf, 17)])
def test_clips_are_sampled_at_a_given_rate(tmp_path, half_white, rate, count):
    assert len(list(read_frames(write_clip(tmp_path / "clip.mp4", [half_white] * 17), rate))) == count


@pytest.mark.parametrize("container", ["mp4", "avi", "matroska"])
def test_clips_are_recognized_by_their_content(tmp_path, half_white, container):
    assert is_clip(write_clip(tmp_path / "clip.bin", [half_white], container=container))


def test_an_animated_gif_is_read(tmp_path, half_white):
    path = tmp_path / "wave.gif"
    others = [half_white.rotate(turn) for turn in (90, 180, 270)]
    half_white.save(path, save_all=True, append_images=others, duration=250)
    assert len(list(read_frames(path))) == 4


def test_a_clip_turned_by_its_display_matrix_is_set_upright(tmp_path, half_white):
    path = write_clip(tmp_path / "phone.mp4", [half_white])
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd") + 4
    matrix = header + 40  # version 0: flags, times, track, duration, reserved, layer, group, volume come first
    # Clockwise, as in clips of phones.
    quarter_turn = [0, 0x10000, 0, 0x10000 * 0xFFFF & 0xFFFFFFFF, 0, 0, 0, 0, 0x40000000]
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big") for value in quarter_turn)
    path.write_bytes(data)
    ((_, image),) = read_frames(path)
    assert image.size == (32, 64)
    pixels = np.asarray(image.convert("L")).astype(int)
    assert pixels[:24].mean() > 200, "the left half is on top after a clockwise quarter turn"
    assert pixels[-24:].mean() < 50


def test_a_photograph_is_one_frame(tmp_path, half_white):
    half_white.save(tmp_path / "photo.png")
    ((seconds, image),) = read_frames(tmp_path / "photo.png")
    assert seconds is None
    assert image.size == (64, 32)


def test_a_truncated_clip_is_read_as_far_as_possible(tmp_path, caplog):
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(40)]
    path = write_clip(tmp_path / "clip.mkv", noise)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 5 <= len(list(read_frames(path))) < 20


@pytest.mark.parametrize("content", [b"", b"some text", b"\0\0\0\x18ftypisom" + bytes(40)])
def test_a_file_that_is_not_a_clip_is_refused(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=r"clip\.mp4: not a clip") as error:
        list(read_frames(path))
    assert content or str(error.value).endswith("not a clip, but an empty file")


NO_CLIPS = {
    "ffconcat version 1.0\nfile 'other.mp4'\n": "a playlist, which names clips but contains none",
    "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\nother.ts\n#EXT-X-ENDLIST\n": "a playlist, which names clips",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n": "a playlist",
    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n": "a Git LFS pointer",
    "<!DOCTYPE html><html></html>": "a web page",
    "PK\3\4                   ": "an archive or a document",
}


@pytest.mark.parametrize("content", NO_CLIPS)
def test_a_clip_that_names_other_files_opens_none_of_them(tmp_path, half_white, content):
    """FFmpeg would open them: other clips of this machine, and network addresses."""
    write_clip(tmp_path / "other.mp4", [half_white] * 4)
    path = tmp_path / "clip.mp4"
    path.write_text(content)
    with pytest.raises(UnreadableImageError, match=f"^{path}: not a clip, but {NO_CLIPS[content]}"):
        list(read_frames(path))


def test_an_unknown_codec_is_reported(tmp_path, half_white):
    path = write_clip(tmp_path / "clip.avi", [half_white])
    data = path.read_bytes()
    assert data.count(b"FMP4") >= 1
    path.write_bytes(data.replace(b"FMP4", b"zz77"))
    with pytest.raises(UnreadableImageError, match=r"clip\.avi: its codec is not known"):
        list(read_frames(path))


def test_too_large_frames_are_refused_before_decoding(tmp_path, monkeypatch, half_white):
    path = write_clip(tmp_path / "clip.avi", [half_white], codec="mjpeg", pixels="yuvj420p")
    monkeypatch.setattr("authentication.video.MAX_PIXELS", 64 * 32 - 1)
    with pytest.raises(UnreadableImageError, match=r"clip\.avi: frames of 64x32 are too large"):
        next(read_frames(path))


def test_frames_larger_than_the_size_in_the_header_are_refused(tmp_path, monkeypatch, half_white):
    """An image inside an AVI file has its own size, which may differ from that in the header."""
    path = write_clip(tmp_path / "clip.avi", [half_white.resize((640, 320))], codec="mjpeg", pixels="yuvj420p")
    data = path.read_bytes()
    header_size = struct.pack("<II", 640, 320)
    assert header_size in data
    path.write_bytes(data.replace(header_size, struct.pack("<II", 64, 32)))
    monkeypatch.setattr("authentication.video.MAX_PIXELS", 64 * 32)
    with pytest.raises(UnreadableImageError, match=r"clip\.avi: "):
        next(read_frames(path))


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(UnreadableImageError, match=r"gone\.mp4: no such file"):
        list(read_frames(tmp_path / "gone.mp4"))


def set_matrix(path, matrix: list[int]):
    """Write this display matrix into the clip: a, b, u, c, d, v, x, y, w in fixed point."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = b"".join((value & 0xFFFFFFFF).to_bytes(4, "big") for value in matrix)
    path.write_bytes(data)


TURNED = {  # a, b, c, d of the display matrix -> the transposition that players apply, in Pillow's terms
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


@pytest.mark.parametrize("corners", TURNED)
def test_every_display_matrix_is_applied(tmp_path, corners):
    """As with ffmpeg's `-autorotate`. Front cameras of phones write hflip and vflip."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :48], pixels[32:, :48], pixels[:32, 48:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    picture = Image.fromarray(pixels)
    path = write_clip(tmp_path / "clip.mp4", [picture])
    a, b, c, d = (value * 0x10000 for value in corners)
    set_matrix(path, [a, b, 0, c, d, 0, 0, 0, 0x40000000])
    ((_, found),) = read_frames(path)
    turn = TURNED[corners]
    expected = picture if turn is None else picture.transpose(turn)
    assert found.size == expected.size
    assert np.abs(np.asarray(found, int) - np.asarray(expected, int)).mean() < 20


@pytest.mark.parametrize("matrix", [[0] * 9, [0x10000, 0x10000, 0, 0x10000, 0x10000, 0, 0, 0, 0x40000000]])
def test_a_singular_display_matrix_is_ignored(tmp_path, half_white, matrix):
    path = write_clip(tmp_path / "clip.mp4", [half_white])
    set_matrix(path, matrix)
    ((_, found),) = read_frames(path)
    assert found.size == half_white.size
    assert np.abs(np.asarray(found, int) - np.asarray(half_white, int)).mean() < 20


@pytest.mark.parametrize(("aspect", "size"), [("2:1", (128, 32)), ("1:2", (64, 64)), ("1:1", (64, 32))])
def test_frames_with_non_square_pixels_are_resized(tmp_path, half_white, aspect, size):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = *half_white.size, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(*map(int, aspect.split(":")))
        output.mux(stream.encode(av.VideoFrame.from_image(half_white)))
        output.mux(stream.encode(None))
    ((_, found),) = read_frames(path)
    assert found.size == size


KINDS = {  # suffix -> codec, container
    ".mp4": ("mpeg4", None),
    ".m4v": ("mpeg4", "mp4"),
    ".mov": ("mpeg4", None),
    ".3gp": ("mpeg4", None),
    ".avi": ("mpeg4", None),
    ".mkv": ("mpeg4", None),
    ".webm": ("libvpx", None),
    ".mpg": ("mpeg1video", None),
    ".mpeg": ("mpeg2video", "mpeg"),
    ".vob": ("mpeg2video", None),
    ".ts": ("mpeg2video", None),
    ".m2ts": ("mpeg2video", "mpegts"),
    ".wmv": ("wmv2", "asf"),
    ".flv": ("flv", None),
    ".gif": ("gif", None),
    ".f4v": ("mpeg4", "mp4"),
    ".divx": ("mpeg4", "avi"),
    ".mxf": ("mpeg2video", None),
    ".m2v": ("mpeg2video", None),
    ".rm": ("rv10", None),
    ".ivf": ("libvpx", None),
    ".y4m": ("wrapped_avframe", None),
}
SUFFIX_ALONE = {  # their first bytes do not identify them, or are those of a photograph
    ".h264": ("libx264", None),
    ".mjpeg": ("mjpeg", None),
}


@pytest.mark.parametrize("suffix", [*KINDS, *SUFFIX_ALONE])
def test_clips_are_read_by_suffix_and_by_content(tmp_path, half_white, suffix):
    codec, container = (KINDS | SUFFIX_ALONE)[suffix]
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV cannot write {codec}")
    rate = 25 if codec.startswith("mpeg") or suffix in SUFFIX_ALONE else 8  # MPEG allows only a few rates
    pixels = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    path = write_clip(tmp_path / f"clip{suffix}", [half_white.resize((64, 48))] * rate, rate, container, codec, pixels)
    unnamed = tmp_path / "clip.bin"
    unnamed.write_bytes(path.read_bytes())
    for clip in (path, unnamed) if suffix in KINDS else (path,):
        frames = list(read_frames(clip))
        assert 3 <= len(frames) <= 5 and frames[0][0] == 0, clip
        assert np.asarray(frames[1][1].convert("L"))[:, :24].mean() > 180


@pytest.mark.parametrize("format", ["WEBP", "PNG", "AVIF", "GIF"])
def test_all_frames_of_an_animation_are_read(tmp_path, half_white, format):
    path = tmp_path / "wave.bin"
    others = [half_white.rotate(turn) for turn in (90, 180, 270)]
    half_white.save(path, format, save_all=True, append_images=others, duration=250)
    frames = list(read_frames(path))
    assert [seconds for seconds, _ in frames] == pytest.approx([0, 0.25, 0.5, 0.75])
    assert np.asarray(frames[2][1].convert("L"))[:, 40:].mean() > 200, "the third frame is upside down"


@pytest.mark.parametrize("format", ["WEBP", "PNG", "AVIF", "GIF", "MKV"])
def test_a_callback_can_stop_the_decoding(tmp_path, half_white, format):
    """An error of the callback must not be handled like the end of a truncated clip."""
    path = tmp_path / "wave.bin"
    frames = [half_white.rotate(turn) for turn in (0, 90, 180, 270)]
    if format == "MKV":
        write_clip(path, frames, container="matroska")
    else:
        frames[0].save(path, format, save_all=True, append_images=frames[1:], duration=250)
    decoded = []

    def count(pixels: int) -> None:
        decoded.append(pixels)
        if len(decoded) == 3:
            raise UnreadableImageError("too much work")

    with pytest.raises(UnreadableImageError, match="too much work"):
        list(read_frames(path, on_decoded=count))
    assert decoded == [64 * 32] * 3


@pytest.mark.parametrize("format", ["TIFF", "MPO", "PNG"])
def test_further_pages_are_not_frames(tmp_path, half_white, format):
    options = {} if format == "PNG" else {"save_all": True, "append_images": [half_white]}
    half_white.save(tmp_path / "pages.bin", format, **options)
    ((seconds, _),) = read_frames(tmp_path / "pages.bin")
    assert seconds is None


def test_a_clip_and_a_photograph_are_read_through_a_pipe(tmp_path, half_white):
    clip = write_clip(tmp_path / "clip.mkv", [half_white] * 8)
    half_white.save(tmp_path / "photo.png")
    for source, count in ((clip, 4), (tmp_path / "photo.png", 1)):
        pipe = tmp_path / f"pipe{count}"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(source.read_bytes(),))
        writer.start()
        assert len(list(read_frames(pipe))) == count
        writer.join()


@pytest.mark.parametrize("format, name", [("GIF", "photo.gif"), ("JPEG", "photo.mp4"), ("PNG", "photo.ts")])
def test_a_photograph_with_the_name_of_a_clip_is_one_frame(tmp_path, half_white, format, name):
    """A clip of one frame could never be accepted, because its expression is not held."""
    half_white.save(tmp_path / name, format)
    ((seconds, _),) = read_frames(tmp_path / name)
    assert seconds is None and not is_clip(tmp_path / name)


def test_the_default_image_of_an_animated_png_is_not_a_frame(tmp_path, half_white):
    path = tmp_path / "wave.png"
    others = [half_white, half_white.rotate(180)]
    options = {"append_images": others, "duration": 250, "default_image": True, "save_all": True}
    Image.new("RGB", half_white.size, "red").save(path, "PNG", **options)
    assert [image.getpixel((60, 5)) for _, image in read_frames(path)] == [(0, 0, 0), (255, 255, 255)]


def test_a_clip_continues_after_a_damaged_part(tmp_path, caplog):
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(16)]
    path = write_clip(tmp_path / "clip.avi", noise, codec="png", pixels="rgb24", rate=4)
    data = path.read_bytes()
    starts = [at for at in range(len(data)) if data.startswith(b"\x89PNG", at)]
    for number in (0, 1, 7):  # players start at the third frame
        data = data[: starts[number]] + bytes(400) + data[starts[number] + 400 :]
    path.write_bytes(data)
    assert 10 <= len(list(read_frames(path))) <= 13 and "clip.avi: damaged or truncated" in caplog.text


@pytest.mark.parametrize(
    ("times", "expected"), [([0] * 16, [0, 0.28, 0.56]), ([5000, 5250, 5500, 9000], [0, 0.25, 0.5, 4])]
)
def test_frames_with_any_time_stamps_are_read(tmp_path, half_white, times, expected):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=4)
        stream.width, stream.height, stream.pix_fmt = *half_white.size, "bgr0"
        for packet, time in zip(
            [stream.encode(av.VideoFrame.from_image(half_white)) for _ in times], times, strict=True
        ):
            packet[0].pts = packet[0].dts = time
            packet[0].time_base = Fraction(1, 1000)
            output.mux(packet)
    assert [seconds for seconds, _ in read_frames(path)] == pytest.approx(expected, abs=0.05)


def test_an_appended_clip_is_read(tmp_path, half_white):
    """Its time stamps restart, so they are earlier than those of frames that were already read."""
    clips = [half_white.resize((64, 48)), half_white.rotate(180).resize((64, 48))]
    parts = [write_clip(tmp_path / "clip.ts", [clip] * 25, 25, codec="mpeg2video").read_bytes() for clip in clips]
    (tmp_path / "clip.ts").write_bytes(b"".join(parts))
    frames = list(read_frames(tmp_path / "clip.ts"))
    assert 6 <= len(frames) <= 9 and np.asarray(frames[-1][1].convert("L"))[:, 40:].mean() > 180


def test_names_in_another_encoding_are_accepted(tmp_path, half_white):
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as output:
        output.metadata["title"] = "Mueller"
        stream = output.add_stream("mpeg4", rate=8)
        stream.width, stream.height = half_white.size
        output.mux(stream.encode(av.VideoFrame.from_image(half_white)))
        output.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"Mueller", b"M\xfc\xfcller"))
    assert len(list(read_frames(path))) == 1


@pytest.mark.parametrize("film", [False, True])
def test_a_cover_image_is_not_a_film(tmp_path, half_white, film):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as output:
        cover, sound = output.add_stream("mjpeg", rate=1), output.add_stream("aac", rate=44100)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        if film:
            stream = output.add_stream("mpeg4", rate=8)
            stream.width, stream.height = half_white.size
        output.mux(cover.encode(av.VideoFrame(16, 16, "yuvj420p")))
        output.mux(cover.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        silence.sample_rate, silence.pts = 44100, 0
        output.mux(sound.encode(silence))
        output.mux(sound.encode(None))
        if film:
            output.mux(stream.encode(av.VideoFrame.from_image(half_white)))
            output.mux(stream.encode(None))
    if film:
        assert [image.size for _, image in read_frames(path)] == [half_white.size]
    else:
        with pytest.raises(UnreadableImageError, match=r"song\.mp4: holds no video"):
            list(read_frames(path))


def test_a_clip_of_high_dynamic_range_is_converted_to_srgb(tmp_path):
    """Phones record such clips. The grey has half the light of white (203 candela) in SMPTE ST 2084."""
    light = (0.5 * 203 / 10000) ** 0.1593017578125
    level = ((0.8359375 + 18.8515625 * light) / (1 + 18.6875 * light)) ** 78.84375
    pixels = np.full((64, 64, 3), round(level * 65535), np.uint16)
    path = tmp_path / "phone.mkv"
    # Without bframes=0, libx265 reads the decoding time of so short a film from uninitialised memory.
    options = {"x265-params": "log-level=none:bframes=0"}
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx265", rate=8, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        frame = av.VideoFrame.from_ndarray(pixels, "rgb48le").reformat(format="yuv420p10le", dst_colorspace=9)
        for tagged in (frame, stream.codec_context):
            tagged.color_primaries, tagged.color_trc, tagged.colorspace, tagged.color_range = 9, 16, 9, 1
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    ((_, image),) = read_frames(path)
    # 188 is half the light in sRGB. Without conversion the values are 137.
    assert np.abs(np.asarray(image, int) - 188).max() < 15
