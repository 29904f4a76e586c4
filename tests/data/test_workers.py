"""Batches of images of any size: the same whoever makes them, and no worker outlives its process."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace

import pytest
import torch
from torch.utils.data._utils import worker

from image_files import write_mixed_folder
from logitkd.data import DataConfig, load_images, make_loader
from logitkd.data.frames import ArrowColumn
from logitkd.data.rng import Stream, permutation, random_bits
from logitkd.data.views import training_view
from logitkd.data.workers import default_workers

SIZE = 12
AUGMENTED = ("random_resized_crop", "flip", "randaugment", "color_jitter")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_mixed_folder(tmp_path_factory.mktemp("mixed"))


@pytest.fixture
def make(folder):
    """Return a function that makes a loader of the folder: ``make(train=False, batch_size=3, workers=1)``."""

    def make(*, train=True, batch_size=4, seed=0, channels_last=False, **options):
        config = DataConfig(**{"source": str(folder), "image_size": SIZE, "transforms": AUGMENTED, "workers": 0, **options})
        data = load_images(config)
        return make_loader(
            data, config, train=train, batch_size=batch_size, device="cpu", seed=seed, channels_last=channels_last
        )

    return make


def gather(batches):
    """All batches as one, in row order."""
    images, labels, index = (torch.cat(parts) for parts in zip(*batches, strict=True))
    rows = index.argsort()
    return images[rows], labels[rows], index[rows]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_views_are_torchvisions_on_pillow_images(make, folder):
    """By hand: decode, seed, transform, normalise."""
    loader = make(seed=3)
    config = DataConfig(source=str(folder), image_size=SIZE, transforms=AUGMENTED)
    split, view = load_images(config).train, training_view(config)
    bits = random_bits(3, 2, torch.arange(15), Stream.VIEW)
    images, labels, index = gather(loader.epoch(2))
    assert torch.equal(index, torch.arange(15))
    assert torch.equal(labels, torch.arange(15) // 5)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for row in range(15):
        pixels = torch.from_numpy(view(split.image(row), int(bits[row])).copy()).permute(2, 0, 1)
        assert torch.equal(images[row], (pixels / torch.tensor(255.0) - mean) / std)
    assert torch.equal(torch.cat([batch.index for batch in loader.epoch(2)]), permutation(15, 3, 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(make, workers):
    for train in (True, False):
        expected = list(make(train=train).epoch(3))
        batches = list(make(train=train, workers=workers).epoch(3))
        assert len(batches) == len(expected) == 4
        assert all(same(*pair) for pair in zip(expected, batches, strict=True))


def test_views_do_not_depend_on_the_batch_size_or_the_memory_format(make):
    expected = gather(make().epoch(1))
    for options in ({"batch_size": 1}, {"batch_size": 100}, {"channels_last": True}):
        assert same(expected, gather(make(**options).epoch(1))), options
    assert next(make(channels_last=True).epoch(1)).inputs.is_contiguous(memory_format=torch.channels_last)
    assert next(make().epoch(1)).inputs.is_contiguous()


@pytest.mark.parametrize("change", [{"epoch": 2}, {"seed": 1}], ids=str)
def test_epoch_and_seed_change_order_and_views(make, change):
    first, second = list(make().epoch(1)), list(make(seed=change.get("seed", 0)).epoch(change.get("epoch", 1)))
    assert not torch.equal(torch.cat([b.index for b in first]), torch.cat([b.index for b in second]))
    assert not torch.equal(gather(first)[0], gather(second)[0])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("start_step", [0, 1, 4])
def test_start_step_gives_exactly_the_tail(make, workers, start_step):
    whole = list(make().epoch(4))
    tail = list(make(workers=workers).epoch(4, start_step))
    assert len(tail) == 4 - start_step
    assert all(same(*pair) for pair in zip(whole[start_step:], tail, strict=True))


def test_what_is_left_out_is_not_read(make, monkeypatch):
    loader, read = make(), []
    monkeypatch.setattr(ArrowColumn, "__getitem__", lambda self, row: read.append(row) or self.values[row].as_py())
    tail = list(loader.epoch(4, 3))
    assert read == tail[0].index.tolist()


def test_evaluation_is_the_split_in_its_own_order_and_always_the_same(make):
    loader = make(train=False)
    first = list(loader.epoch(1))
    assert torch.equal(torch.cat([batch.index for batch in first]), torch.arange(15))
    assert all(same(*pair) for pair in zip(first, loader.epoch(2), strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_processs_own_random_numbers_are_left_alone(make, workers):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    expected = gather(make(workers=workers).epoch(1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert same(expected, gather(make(workers=workers).epoch(1)))


def test_types(make):
    loader = make()
    batches = list(loader.epoch(1))
    assert len(loader) == len(batches) == 4
    assert [len(batch.labels) for batch in batches] == [4, 4, 4, 3]
    assert batches[0].inputs.shape == (4, 3, SIZE, SIZE)
    assert batches[0].inputs.dtype == torch.float32
    assert batches[0].labels.dtype == batches[0].index.dtype == torch.int64


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_and_ends_the_workers(tmp_path, workers):
    folder = write_mixed_folder(tmp_path, per_class=3)
    broken = folder / "train" / "square" / "1.png"
    broken.write_bytes(broken.read_bytes()[:-60])
    config = DataConfig(source=str(folder), image_size=SIZE, workers=workers)
    loader = make_loader(load_images(config), config, train=True, batch_size=2, device="cpu")
    with pytest.raises(ValueError, match=rf"^cannot decode the image in {broken}: ") as error:
        list(loader.epoch(1))
    assert "Traceback" not in str(error.value)
    assert not multiprocessing.active_children()  # although the error still holds the frames it came through


def test_an_iterator_that_is_closed_ends_its_workers(make):
    batches = make(workers=2, batch_size=1).epoch(1)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()


def begin_an_epoch(folder, workers):
    config = DataConfig(str(folder), image_size=SIZE, workers=workers)
    batches = make_loader(load_images(config), config, train=True, batch_size=1, device="cpu").epoch(1)
    next(batches)
    return batches


def wait_with_workers(folder, pipe):
    """Start two workers, say who they are, and wait for a signal: run in a process of its own."""
    os.setsid()
    worker.MP_STATUS_CHECK_INTERVAL = 0.1  # how often a worker looks whether its process is still there; 5 s elsewhere
    batches = begin_an_epoch(folder, workers=2)
    pipe.send([child.pid for child in multiprocessing.active_children()])
    time.sleep(60)
    batches.close()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc")
@pytest.mark.parametrize("end", ["kill", "interrupt"])
def test_no_worker_outlives_its_process(folder, end):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=wait_with_workers, args=(folder, theirs))
    process.start()
    workers = ours.recv()
    assert len(workers) == 2
    if end == "kill":
        process.kill()
    elif end == "interrupt":
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
    process.join()
    assert process.exitcode == {"kill": -signal.SIGKILL, "interrupt": 1}[end]
    deadline = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, workers))


def test_ctrl_c_is_left_to_the_process_that_trains(make):
    batches = make(workers=1, batch_size=1).epoch(1)
    next(batches)
    (child,) = multiprocessing.active_children()
    os.kill(child.pid, signal.SIGINT)
    assert len(list(batches)) == 14


def lose_a_worker(folder, number):
    """Send a worker a signal, in a process of its own: torch may say it is lost wherever that process happens to be."""
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # as training has it: a worker must not
    batches = begin_an_epoch(folder, workers=1)
    (child,) = multiprocessing.active_children()
    try:
        os.kill(child.pid, number)
        list(batches)
    except ChildProcessError as error:
        os._exit(0 if "fewer `data.workers`" in str(error) else 2)
    except RuntimeError as error:
        os._exit(0 if f"{child.pid}) " in str(error) else 3)
    os._exit(1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lost_worker_is_an_error_and_no_hang(folder, number):
    process = multiprocessing.get_context("fork").Process(target=lose_a_worker, args=(folder, number))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be .*1, got 0"),
        ({"workers": -1}, "`workers` must be at least 0, got -1"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_workers_by_default(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert default_workers() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert default_workers() == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_batches_equal_cpu_batches(folder):
    config = DataConfig(source=str(folder), image_size=SIZE, workers=1)
    data, options = load_images(config), {"train": True, "batch_size": 4}
    torch.manual_seed(0)
    before = torch.cuda.get_rng_state()
    on_gpu = list(make_loader(data, config, device="cuda", **options).epoch(1))
    on_cpu = list(make_loader(data, replace(config, workers=0), device="cpu", **options).epoch(1))
    for first, second in zip(on_cpu, on_gpu, strict=True):
        assert all(torch.equal(a, b.cpu()) for a, b in zip(first, second, strict=True))
    list(make_loader(data, replace(config, workers=0), device="cuda", **options).epoch(1))
    assert torch.equal(torch.cuda.get_rng_state(), before)
