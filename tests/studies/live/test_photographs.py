"""Photographs as inputs: made ones by hand, and the study's models on some of the real ones."""

import io
from pathlib import Path

import numpy as np
import pytest

from bisupervised.calls import call_plainly
from bisupervised.errors import InputError
from bisupervised.models.outputs import evidence_in
from bisupervised.portal import Portal
from bisupervised.records import Evidence
from bisupervised.studies.live.imagenet import imagenet
from bisupervised.studies.live.photographs import (
    INNER,
    efficientnet_lite,
    for_efficientnet_lite,
    for_mobilenet,
    mobilenet,
    opened,
    views,
)
from bisupervised.studies.live.study import SourceMissing

Image = pytest.importorskip("PIL.Image")
DATA = Path(__file__).parents[4] / "shared" / "data"
MODELS = DATA / "models" / "images"
needs_data = [
    pytest.mark.data,
    pytest.mark.skipif(not MODELS.exists(), reason="../shared/data/models/images is missing"),
]


def halves(width: int = 40, height: int = 40):
    """An image whose left half is black and whose right half is white."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, width // 2 :] = 255
    return Image.fromarray(pixels)


def file_of(image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def test_a_mobilenet_takes_the_whole_image_as_bytes_whatever_its_proportions():
    x = for_mobilenet(halves(80, 20), 16)
    assert x.shape == (16, 16, 3)
    assert x.dtype == np.uint8
    assert x[:, 0].max() == 0
    assert x[:, -1].min() == 255


def test_an_efficientnet_takes_the_centre_between_minus_and_plus_one():
    x = for_efficientnet_lite(halves(400, 300))
    assert x.shape == (3, 260, 260)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[:, 130, [0, -1]], [[-127 / 128, 1.0]] * 3, atol=1e-6)
    # The centre: as much of the left half as of the right one.
    assert abs((x < 0).mean() - 0.5) < 0.01


@pytest.mark.parametrize("size", [(297, 297), (299, 299), (1000, 298), (260, 261), (10, 700), (1, 1)])
def test_images_of_any_size_are_prepared(size):
    image = Image.new("RGB", size, (127, 127, 127))
    np.testing.assert_array_equal(for_efficientnet_lite(image), np.zeros((3, 260, 260)))
    assert for_mobilenet(image, 160).shape == (160, 160, 3)


def test_views_are_the_image_mirrored_and_cropped():
    mirrored, *crops = views(halves())
    assert np.asarray(mirrored)[0, 0].tolist() == [255, 255, 255]
    assert all(crop.size == (36, 36) for crop in crops)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_files_of_other_colours_are_read_as_rgb(mode):
    image = halves().convert(mode)
    assert opened(file_of(image, "TIFF")).mode == "RGB"


@pytest.mark.parametrize("data", [b"", b"no image", file_of(halves())[:60], file_of(halves(), "JPEG")[:300]])
def test_what_is_no_image_is_refused_with_words(data):
    with pytest.raises(InputError, match=f"these {len(data)} bytes"):
        opened(data)


@pytest.mark.parametrize("load", [mobilenet, efficientnet_lite])
def test_a_model_file_that_is_not_known_or_not_there_is_refused(tmp_path, load):
    (tmp_path / "other.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"inner layers of other\.onnx are not known; known are"):
        load(tmp_path / "other.onnx")
    with pytest.raises(InputError, match="cannot read"):
        load(tmp_path / f"{next(iter(INNER))}.onnx")


def test_a_study_without_its_photographs_says_how_to_get_them(tmp_path):
    with pytest.raises(SourceMissing, match=r"images\.csv"):
        imagenet(tmp_path, tmp_path)


@pytest.fixture(scope="module")
def study():
    return imagenet(DATA, Path("unused"), limit=40)


class TestTheRealModels:
    pytestmark = needs_data

    def test_the_local_model_gives_all_evidence_with_consistent_numbers(self, study):
        with study.local() as running:
            output = running.model.predict(study.inputs[:8])
            assert running.cpu_s() >= 0.0
        four = {Evidence.PROBABILITIES, Evidence.LOGITS, Evidence.FEATURES, Evidence.SAMPLED_PROBABILITIES}
        assert evidence_in(output) == four == running.model.provides
        p, z = output.probabilities, np.asarray(output.logits, dtype=np.float64)
        assert p.shape == z.shape == (8, 1000)
        e = np.exp(z - z.max(axis=1, keepdims=True))
        np.testing.assert_allclose(p, e / e.sum(axis=1, keepdims=True), rtol=1e-6)
        assert (p > 0.0).all()
        np.testing.assert_array_equal(output.predictions, p.argmax(axis=1))
        assert output.features.shape == (8, 512)
        assert output.sampled_probabilities.shape[::2] == (8, 1000)
        np.testing.assert_array_equal(output.sampled_probabilities[:, 0], p)

    def test_logits_and_probabilities_are_those_that_the_graph_itself_rounds(self, study):
        """p = q / 256 of the graph's own output, up to its rounding."""
        import onnxruntime

        path = MODELS / "mobilenet_v1_0.5_160_quant.onnx"
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        output = mobilenet(path).predict(study.inputs)
        for row, photograph in enumerate(study.inputs):
            q = session.run(None, {name: for_mobilenet(opened(photograph), 160)[None]})[0][0].astype(float)
            own = np.concatenate([[q[0] / 256], output.probabilities[row] * (1 - q[0] / 256)])
            np.testing.assert_allclose(own, q / 256, atol=1.5 / 256)

    def test_no_photograph_and_empty_input(self):
        model = mobilenet(MODELS / "mobilenet_v1_0.5_160_quant.onnx")
        assert len(model.predict([])) == 0
        with pytest.raises(InputError, match="no image"):
            model.predict([b"not one"])

    def test_the_order_is_fixed_and_limit_takes_its_beginning(self, study):
        shorter = imagenet(DATA, Path("unused"), limit=5)
        assert list(shorter.ids) == list(study.ids)[:5]
        assert len(set(study.ids)) == 40
        assert all(0 <= label < 1000 for label in study.labels)

    def test_the_remote_model_answers_over_http_as_in_process(self, study):
        pytest.importorskip("aiohttp")
        here = efficientnet_lite(MODELS / "efficientnet_lite2.onnx").predict(study.inputs[:3])
        portal = Portal()
        try:
            with study.remote() as running:
                there = [call_plainly(running.model, [one], portal) for one in study.inputs[:3]]
        finally:
            portal.close()
        for name in ("probabilities", "logits", "features"):
            got = np.concatenate([getattr(one, name) for one in there])
            np.testing.assert_allclose(got, getattr(here, name), rtol=1e-5, atol=1e-7)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("load", "name", "accuracy"),
        [(mobilenet, "mobilenet_v1_0.5_160_quant", 0.662), (efficientnet_lite, "efficientnet_lite2", 0.903)],
    )
    def test_accuracy_on_all_photographs_is_the_known_one(self, load, name, accuracy):
        study = imagenet(DATA, Path("unused"))
        output = load(MODELS / f"{name}.onnx").predict(study.inputs)
        assert (output.predictions == np.array(study.labels)).mean() == pytest.approx(accuracy)
