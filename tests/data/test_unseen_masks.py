import pytest
import torch

from logitkd.data import VOID, MaskConfig
from logitkd.data.unseen_masks import unseen_scenes
from mask_files import colours, numbers, png

SHOWN = (0.5,) * 3, (0.25,) * 3


def unseen(files, batch_size=8, **options):
    return unseen_scenes(files, MaskConfig("gone", **options), SHOWN, batch_size, torch.device("cpu"))


@pytest.fixture
def files(tmp_path):
    for row in range(3):
        (tmp_path / "scenes").mkdir(exist_ok=True)
        (tmp_path / "scenes" / f"{row}.png").write_bytes(png(colours(numbers(row))))
    (tmp_path / "large.png").write_bytes(png(colours(numbers(0, 20, 30))))
    return tmp_path


def test_images_of_one_size_come_together_and_have_no_labels(files):
    places, loader = unseen([files / "scenes"])
    assert places == [(str(files / "scenes" / f"{row}.png"), None) for row in range(3)]
    (batch,) = loader.epoch(1)
    assert (batch.labels == VOID).all()
    assert batch.labels.shape == (3, 12, 16)
    for row in range(3):
        pixels = torch.from_numpy(colours(numbers(row))).permute(2, 0, 1)
        torch.testing.assert_close(batch.inputs[row], (pixels / 255 - 0.5) / 0.25)


@pytest.mark.parametrize("options", [{}, {"image_size": (9, 7)}], ids=str)
def test_labels_say_the_images_own_size(files, options):
    places, loader = unseen([files / "large.png", files / "scenes"], **options)
    assert len(places) == 4
    batches = list(loader.epoch(1))
    assert [tuple(batch.labels.shape) for batch in batches] == [(1, 20, 30)] + [(1, 12, 16)] * 3
    assert tuple(batches[0].inputs.shape[2:]) == options.get("image_size", (20, 30))


def test_what_cannot_be_read_is_named(files):
    (files / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"got 2 that cannot:\n.*broken.png.*\n.*gone.png"):
        unseen([files / "broken.png", files / "gone.png", files / "scenes"])
    with pytest.raises(ValueError, match="must name at least one image"):
        unseen([])
