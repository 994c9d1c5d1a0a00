"""Video and images in and out: real files, good and bad, with every cap checked twice."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import PIL.Image
import pytest
from av.video.stream import VideoStream

from core.errors import InputError, LimitError
from core.media import (
    Clip,
    ImageLimits,
    VideoLimits,
    iter_frames,
    probe_video,
    read_image,
    read_video,
    write_video,
)

UPRIGHT_AFTER = {  # the 3x3 matrix of a track header, row by row, for a clockwise turn of so many degrees
    90: (0, 1, 0, -1, 0, 0),
    180: (-1, 0, 0, 0, -1, 0),
    270: (0, -1, 0, 1, 0, 0),
}


def make_frames(count=12, height=48, width=64) -> np.ndarray:
    """A smooth moving pattern in colour, with a bright block in the upper left: [T, H, W, 3]."""
    time, row, column = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    red = 128 + 90 * np.sin((column + 2 * time) / 9)
    green = 128 + 90 * np.cos((row - time) / 7)
    frames = np.stack([red, green, 60 + row], axis=-1).astype(np.uint8)
    frames[:, :12, :12] = (250, 240, 20)
    return frames


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, of images that differ at least by rounding."""
    return float(10 * np.log10(255**2 / (np.mean((one.astype(float) - other) ** 2) + 1e-9)))


def encode(path: Path, frames, codec: str, pixel_format: str, rate: int = 10, **options: str) -> Path:
    """Write a container that our own writer does not."""
    with av.open(str(path), "w") as container:
        stream = cast("VideoStream", container.add_stream(codec, rate=rate, options=options))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame).reformat(format=pixel_format)))
        container.mux(stream.encode(None))
    return path


def change(path: Path, atom: bytes, offset: int, data: bytes) -> Path:
    """Overwrite bytes that lie `offset` after the name of an mp4 atom."""
    content = bytearray(path.read_bytes())
    start = content.index(atom) + len(atom) + offset
    content[start : start + len(data)] = data
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("fps", [10, 24, 29.97, 12.5])
def test_a_written_clip_reads_back_alike_with_its_rate(tmp_path, fps):
    frames = make_frames()

    written = write_video(tmp_path / "clip.mp4", frames, fps)
    clip = read_video(written)

    assert clip.frames.shape == frames.shape
    assert clip.fps == pytest.approx(fps, rel=1e-3)
    assert clip.seconds == pytest.approx(12 / fps, rel=1e-3)
    assert psnr(clip.frames, frames) > 30


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)])
def test_plain_colours_survive_a_round_trip(tmp_path, colour):
    frames = np.full((4, 32, 32, 3), colour, np.uint8)
    clip = read_video(write_video(tmp_path / "plain.mp4", frames, 10))
    assert np.abs(clip.frames.astype(int) - frames).max() <= 4


@pytest.mark.parametrize(("height", "width"), [(47, 63), (48, 63), (47, 64), (1, 1), (3, 200)])
def test_an_odd_size_gains_one_row_or_column_and_loses_nothing(tmp_path, height, width):
    frames = make_frames(6, height, width)

    clip = read_video(write_video(tmp_path / "odd.mp4", frames, 10))

    assert clip.frames.shape == (6, height + height % 2, width + width % 2, 3)
    assert psnr(clip.frames[:, :height, :width], frames) > 30


def test_a_written_clip_plays_in_browsers(tmp_path):
    path = write_video(tmp_path / "clip.mp4", make_frames(), 10)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert path.stat().st_mode & 0o777 == 0o644


def test_frames_can_come_one_by_one(tmp_path):
    frames = make_frames()
    path = write_video(tmp_path / "new" / "clip.mp4", (frame for frame in frames), 10)
    assert psnr(np.stack(list(iter_frames(path))), frames) > 30


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_video(tmp_path / "clip.mp4", make_frames(), 10)
    before = path.read_bytes()

    def broken():
        yield from make_frames(8)
        raise RuntimeError("the model stopped")

    with pytest.raises(RuntimeError, match="the model stopped"):
        write_video(path, broken(), 10)

    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "no frames"),
        (np.zeros((0, 8, 8, 3), np.uint8), "no frames"),
        (np.zeros((2, 8, 8, 3), np.float32), "float32.*uint8 RGB"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"\[8, 8, 4\].*uint8 RGB"),
        (np.zeros((2, 8, 8), np.uint8), r"\[8, 8\].*uint8 RGB"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)], "differ in size"),
        (["frame"], "str.*uint8 RGB"),
    ],
)
def test_frames_that_are_not_frames_are_refused_and_nothing_is_left(tmp_path, frames, message):
    with pytest.raises(InputError, match=message):
        write_video(tmp_path / "clip.mp4", frames, 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1000])
def test_an_impossible_frame_rate_is_refused(tmp_path, fps):
    with pytest.raises(InputError, match="fps is"):
        write_video(tmp_path / "clip.mp4", make_frames(), fps)


def test_a_file_name_that_is_not_mp4_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"does not end in \.mp4"):
        write_video(tmp_path / "clip.avi", make_frames(), 10)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("clip.webm", "libvpx-vp9", "yuv420p"),
        ("clip.mkv", "libx264", "yuv420p"),
        ("clip.avi", "mpeg4", "yuv420p"),
        ("clip.mov", "libx264", "yuv444p"),
        ("clip.gif", "gif", "rgb8"),
    ],
)
def test_the_usual_containers_are_read(tmp_path, name, codec, pixel_format):
    frames = make_frames()
    path = encode(tmp_path / name, frames, codec, pixel_format)

    info = probe_video(path)
    clip = read_video(path)

    assert clip.frames.shape == frames.shape
    assert clip.fps == pytest.approx(10, rel=0.01)
    assert psnr(clip.frames, frames) > (18 if name == "clip.gif" else 25)
    assert (info.width, info.height) == (64, 48)
    assert info.seconds == pytest.approx(1.2, abs=0.15)


def test_the_header_tells_length_rate_size_and_codec(tmp_path):
    path = write_video(tmp_path / "clip.mp4", make_frames(), 10)

    info = probe_video(path)

    assert (info.width, info.height, info.frames, info.codec) == (64, 48, 12, "h264")
    assert info.fps == pytest.approx(10)
    assert info.seconds == pytest.approx(1.2)
    assert info.size_bytes == path.stat().st_size


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_clip_filmed_sideways_is_turned_upright(tmp_path, degrees):
    path = write_video(tmp_path / "phone.mp4", make_frames(), 10)
    a, b, u, c, d, v = (value << 16 for value in UPRIGHT_AFTER[degrees])
    change(path, b"tkhd", 40, struct.pack(">9i", a, b, u, c, d, v, 0, 0, 1 << 30))

    clip = read_video(path)

    expected = np.rot90(make_frames(), -degrees // 90, axes=(1, 2))
    assert clip.frames.shape == expected.shape
    assert psnr(clip.frames, expected) > 30


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (VideoLimits(max_bytes=500), r"KiB|MiB, limit .*shorten it"),
        (VideoLimits(max_seconds=0.5), r"clip is 1\.2 s, limit 0\.5 s: trim it"),
        (VideoLimits(max_frames=11), "12 frames or more, limit 11: trim it or lower the frame rate"),
        (VideoLimits(max_pixels=3000), r"64x48 = 0\.00307 megapixels, limit 0\.003: scale it down"),
        (VideoLimits(max_decoded_bytes=100_000), "once decoded, limit .*lower the frame rate"),
    ],
)
def test_a_clip_over_a_limit_is_refused_with_the_way_out(tmp_path, limits, message):
    path = write_video(tmp_path / "clip.mp4", make_frames(), 10)
    with pytest.raises(LimitError, match=message):
        read_video(path, limits)


def test_a_clip_at_its_limits_is_read(tmp_path):
    path = write_video(tmp_path / "clip.mp4", make_frames(), 10)
    exact = VideoLimits(path.stat().st_size, 1.2, 12, 64 * 48, 12 * 64 * 48 * 3)
    assert len(read_video(path, exact).frames) == 12


def test_limits_are_checked_before_anything_is_decoded(tmp_path):
    path = write_video(tmp_path / "clip.mp4", make_frames(), 10)
    change(path, b"mdat", 0, bytes(200))  # decoding would fail: the refusal comes from the header alone
    with pytest.raises(LimitError, match="frames or more"):
        read_video(path, VideoLimits(max_frames=5))


def lying_about_length(folder: Path) -> Path:
    """A clip of 12 frames in 1.2 s whose mkv header has no length at all."""

    class Pipe:
        """A stream that cannot seek: the writer cannot come back to fill in the length."""

        def __init__(self, path):
            self.file = open(path, "wb")  # noqa: SIM115 - closed below

        def write(self, data):
            return self.file.write(data)

    path = folder / "live.mkv"
    pipe = Pipe(path)
    with av.open(pipe, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in make_frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))
    pipe.file.close()
    return path


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (VideoLimits(max_seconds=0.5), "limit 0.5 s"),
        (VideoLimits(max_frames=5), "limit 5"),
        (VideoLimits(max_decoded_bytes=50_000), "once decoded"),
    ],
)
def test_limits_hold_while_decoding_when_the_header_is_silent(tmp_path, limits, message):
    path = lying_about_length(tmp_path)
    assert probe_video(path).seconds is None
    assert len(read_video(path).frames) == 12
    with pytest.raises(LimitError, match=message):
        read_video(path, limits)


def test_a_length_that_the_header_understates_is_found_while_decoding(tmp_path):
    path = write_video(tmp_path / "clip.mp4", make_frames(40), 10)
    # mdhd: version and flags, two dates, then timescale and length. Claim a tenth of a second.
    timescale = struct.unpack(">I", path.read_bytes().split(b"mdhd", 1)[1][12:16])[0]
    change(path, b"mdhd", 16, struct.pack(">I", timescale // 10))
    claimed = probe_video(path).seconds
    assert claimed is not None
    assert claimed < 1
    with pytest.raises(LimitError, match="limit 2 s"):
        read_video(path, VideoLimits(max_seconds=2))


def test_a_frame_larger_than_the_container_claims_is_refused(tmp_path):
    frames = make_frames(6, 480, 640)
    path = write_video(tmp_path / "big.mp4", frames, 10)
    change(path, b"avc1\0\0\0\0\0\0\0\1", 16, struct.pack(">HH", 64, 48))
    with pytest.raises(LimitError, match="640x480"):
        read_video(path, VideoLimits(max_pixels=64 * 48))


def growing(folder: Path, factor: int) -> Path:
    """A webm whose 20 frames are 64x48 at first; the 5 after them are `factor` times that."""
    small = encode(folder / "small.webm", make_frames(20), "libvpx-vp9", "yuv420p")
    large = encode(folder / "large.webm", make_frames(5, 48 * factor, 64 * factor), "libvpx-vp9", "yuv420p")
    path = folder / "growing.webm"
    with av.open(str(small)) as first, av.open(str(large)) as second, av.open(str(path), "w") as joined:
        stream = joined.add_stream_from_template(first.streams.video[0])
        for offset, source in ((0, first), (20, second)):
            for packet in source.demux(video=0):
                if packet.size and packet.time_base is not None and packet.pts is not None:
                    packet.pts = packet.dts = packet.pts + round(offset / 10 / packet.time_base)
                    packet.stream = stream
                    joined.mux(packet)
    return path


def test_a_frame_size_that_changes_midway_is_an_error(tmp_path):
    with pytest.raises(InputError, match="frame size changes at frame 21"):
        read_video(growing(tmp_path, 2))


def test_a_frame_that_grows_over_the_limit_midway_is_refused_by_the_decoder(tmp_path):
    with pytest.raises(InputError, match="cut off or damaged"):
        read_video(growing(tmp_path, 16), VideoLimits(max_pixels=64 * 48))


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9, 0.9995])
def test_a_clip_that_was_cut_off_is_an_error_and_not_a_shorter_clip(tmp_path, share):
    path = cut(write_video(tmp_path / "clip.mp4", make_frames(60), 10), share)
    with pytest.raises(InputError, match=r"cut off or damaged.*upload it again"):
        read_video(path)


def test_a_webm_that_was_cut_off_is_an_error(tmp_path):
    path = cut(encode(tmp_path / "clip.webm", make_frames(60), "libvpx-vp9", "yuv420p"), 0.5)
    with pytest.raises(InputError, match="cut off or damaged"):
        read_video(path)


def test_a_clip_without_its_index_is_not_a_video(tmp_path):
    path = encode(tmp_path / "clip.mp4", make_frames(), "libx264", "yuv420p")  # the index comes last here
    with pytest.raises(InputError, match="not a video that is read here"):
        read_video(cut(path, 0.5))


@pytest.mark.parametrize("content", [b"", b"hello\n" * 400, bytes(5000), b"\x00\x00\x00\x18ftypmp42"])
def test_a_file_that_only_has_the_name_of_a_video_is_refused(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"'clip\.mp4' is not a video that is read here; use mp4"):
        read_video(path)


@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_playlist_cannot_read_other_files_through_us(tmp_path, script):
    write_video(tmp_path / "secret.mp4", make_frames(), 10)
    path = tmp_path / "clip.mp4"
    path.write_text(script)
    with pytest.raises(InputError, match="not a video that is read here"):
        read_video(path)


@pytest.mark.parametrize("name", ["missing.mp4", "http://localhost/x.mp4", "concat:a|b", "."])
def test_only_files_that_exist_are_opened(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="There is no file"):
        read_video(name)


def test_sound_without_a_picture_is_refused(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = 16000, Fraction(1, 16000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="holds no video stream"):
        read_video(path)


@pytest.mark.parametrize("field", ["max_bytes", "max_seconds", "max_frames", "max_pixels"])
def test_a_limit_of_nothing_is_refused(field):
    with pytest.raises(InputError, match=f"{field} is 0"):
        VideoLimits(**{field: 0})


def test_a_clip_object_takes_only_uint8_rgb_frames():
    Clip(np.zeros((1, 2, 2, 3), np.uint8), 10.0)
    with pytest.raises(InputError, match="float64"):
        Clip(np.zeros((1, 2, 2, 3)), 10.0)
    with pytest.raises(InputError, match="fps is 0"):
        Clip(np.zeros((1, 2, 2, 3), np.uint8), 0)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tiff"])
def test_the_usual_images_are_read_as_rgb(tmp_path, suffix):
    frame = make_frames(1)[0]
    path = tmp_path / f"image.{suffix}"
    PIL.Image.fromarray(frame).save(path)

    image = read_image(path)

    assert (image.dtype, image.shape) == (np.uint8, frame.shape)
    assert psnr(image, frame) > 20
    if suffix in ("png", "bmp", "tiff"):
        assert np.array_equal(image, frame)


def test_an_image_is_turned_upright_by_its_exif_tag(tmp_path):
    frame = make_frames(1)[0]
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    PIL.Image.fromarray(frame).save(tmp_path / "phone.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "phone.png"), np.rot90(frame, -1))


def test_transparency_is_laid_on_white(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2] = (10, 20, 30, 255)
    PIL.Image.fromarray(pixels).save(tmp_path / "logo.png")

    image = read_image(tmp_path / "logo.png")

    assert (image[:2] == (10, 20, 30)).all()
    assert (image[2:] == 255).all()


def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path):
    values = (np.arange(16, dtype=np.uint16) * 4096).reshape(4, 4)
    PIL.Image.fromarray(values).save(tmp_path / "thermal.png")
    image = read_image(tmp_path / "thermal.png")
    assert np.array_equal(image[..., 0], values >> 8)
    assert np.array_equal(image[..., 0], image[..., 2])


def huge_png(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes whose header claims a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [7_000, 10_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    with pytest.raises(LimitError, match="megapixels"):
        read_image(huge_png(tmp_path / "bomb.png", side, side))


def test_an_image_over_its_limits_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "image.png"
    PIL.Image.fromarray(make_frames(1)[0]).save(path)
    with pytest.raises(LimitError, match=r"64x48.*scale it down"):
        read_image(path, ImageLimits(max_pixels=1000))
    with pytest.raises(LimitError, match=r"limit .*shorten it or compress"):
        read_image(path, ImageLimits(max_bytes=10))


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "svg", "postscript"])
def test_a_file_that_only_has_the_name_of_an_image_is_refused(tmp_path, kind):
    path = tmp_path / "image.png"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    other = {
        "text": b"hello" * 99,
        "empty": b"",
        "cut": path.read_bytes()[:3000],
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }
    path.write_bytes(other[kind])
    with pytest.raises(InputError, match=r"'image\.png' is damaged or not an image; use one of PNG"):
        read_image(path)


def test_a_floating_point_image_is_refused_with_the_way_out(tmp_path):
    PIL.Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "depth.tiff")
    with pytest.raises(InputError, match="floating-point values; save it with 8 or 16 bits"):
        read_image(tmp_path / "depth.tiff")
