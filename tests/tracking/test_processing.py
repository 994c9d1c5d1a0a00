"""The processor: from the frames of one instant to tensors, and back from disk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from plugins.tracking.errors import TrackingError
from plugins.tracking.image_processing_sata import SataImageProcessor
from plugins.tracking.processing_sata import SataProcessor
from plugins.tracking.views import make_view, normalised

from .tiny import tiny_model

RNG = np.random.default_rng(0)
RGB, THERMAL = RNG.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)


class TestTensors:
    def test_a_pair_gives_both_streams_and_their_names(self):
        inputs = SataImageProcessor()({"rgb": RGB, "depth": THERMAL})
        assert inputs["pixel_values"].shape == inputs["auxiliary_values"].shape == (1, 3, 96, 128)
        assert inputs["first_modality_ids"].tolist() == [0]
        assert inputs["modality_ids"].tolist() == [2]
        assert inputs["original_sizes"].tolist() == [[64, 96]]

    def test_one_sensor_stands_alone_under_its_own_name(self):
        inputs = SataImageProcessor()({"rgb": None, "thermal": THERMAL})
        assert "auxiliary_values" not in inputs
        assert inputs["modality_ids"].tolist() == inputs["first_modality_ids"].tolist() == [1]

    def test_a_frame_of_the_models_size_is_only_scaled_and_normalised_as_in_training(self):
        inputs = SataImageProcessor(size={"longest_edge": 96})({"rgb": RGB})
        assert torch.equal(inputs["pixel_values"], normalised(RGB[None]))

    def test_mean_and_deviation_are_those_it_was_given(self):
        inputs = SataImageProcessor(size={"longest_edge": 96}, image_mean=[0, 0.5, 0], image_std=[1, 1, 0.5])
        found = inputs({"rgb": RGB})["pixel_values"][0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(found, (RGB / 255 - [0, 0.5, 0]) / [1, 1, 0.5], atol=1e-6)

    def test_it_makes_what_the_view_of_the_frames_is(self):
        inputs = SataImageProcessor()({"rgb": RGB, "event": THERMAL})
        view, _ = make_view({"rgb": RGB, "event": THERMAL}, ("rgb", "thermal", "depth", "event"), 128, 32)
        assert view is not None
        assert torch.equal(inputs["pixel_values"], view.first)
        assert torch.equal(inputs["auxiliary_values"], view.other)

    def test_pillow_images_and_grey_frames_are_taken(self):
        plain = SataImageProcessor()({"rgb": RGB, "thermal": np.repeat(THERMAL[..., :1], 3, 2)})
        other = SataImageProcessor()({"rgb": Image.fromarray(RGB), "thermal": THERMAL[..., 0]})
        assert torch.equal(plain["pixel_values"], other["pixel_values"])
        assert torch.equal(plain["auxiliary_values"], other["auxiliary_values"])

    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            ([RGB], "frames of one instant"),
            (RGB, "frames of one instant"),
            ({}, "no sensor gives a frame"),
            ({"rgb": None}, "no sensor gives a frame"),
            ({"sonar": RGB}, "unknown modality 'sonar'"),
            ({"rgb": RGB.astype(np.float32)}, "give uint8"),
            ({"rgb": RGB, "thermal": THERMAL[:32]}, "differ in size"),
        ],
    )
    def test_what_is_no_instant_is_refused(self, frames, message):
        with pytest.raises(TrackingError, match=message):
            SataImageProcessor()(frames)

    def test_other_tensors_than_torchs_are_refused(self):
        with pytest.raises(TrackingError, match="'pt' alone"):
            SataImageProcessor()({"rgb": RGB}, return_tensors="np")

    @pytest.mark.parametrize("size", [{"height": 64, "width": 64}, {"longest_edge": 16}, {"longest_edge": 10**6}])
    def test_a_size_that_cannot_be_is_refused(self, size):
        with pytest.raises(TrackingError, match="longest_edge"):
            SataImageProcessor(size=size)


class TestProcessor:
    def test_it_comes_back_from_disk_as_it_was(self, tmp_path):
        image_processor = SataImageProcessor(size={"longest_edge": 256}, size_divisor=16, image_mean=[0.1, 0.2, 0.3])
        SataProcessor(image_processor).save_pretrained(tmp_path)
        loaded = SataProcessor.from_pretrained(tmp_path)
        assert loaded.image_processor.to_dict() == image_processor.to_dict()
        assert dict(loaded.image_processor.size)["longest_edge"] == 256
        one, two = (each({"rgb": RGB, "thermal": THERMAL}) for each in (image_processor, loaded))
        assert torch.equal(one["pixel_values"], two["pixel_values"])

    def test_the_one_for_a_model_makes_what_the_model_takes(self):
        model = tiny_model()
        processor = SataProcessor.for_model(model)
        processor.check(model)
        inputs = processor({"rgb": RGB, "thermal": THERMAL})
        inputs.pop("original_sizes")
        with torch.no_grad():
            output = model(**inputs)
        height, width = inputs["pixel_values"].shape[2:]
        assert output.logits.shape == (1, 1, height // 2, width // 2)
        assert output.sides.shape == (1, 4, height // 2, width // 2)
        assert len(output.feature_maps) == 4

    @pytest.mark.parametrize("settings", [{"modalities": ["rgb", "thermal"]}, {"size_divisor": 7}])
    def test_one_that_does_not_fit_the_model_is_refused(self, settings):
        with pytest.raises(TrackingError, match="for_model"):
            SataProcessor(SataImageProcessor(**settings)).check(tiny_model())
