"""Parts of a run by themselves: a task on images, with as much of it as a test looks at."""

from logitkd import DataConfig, ModelConfig, TrainConfig
from logitkd.tasks.images import ImageTask


def image_task(data=None, **settings):
    """A task whose data are read; by default the embedded digits."""
    task = ImageTask(TrainConfig(ModelConfig("none"), data=data or DataConfig(), **settings))
    task.load()
    return task


def blank_task(classes, shape=(3, 8, 8)):
    """A task that has read no data: it knows its classes and the shape of an image alone."""
    task = ImageTask(TrainConfig(ModelConfig("none")))
    task.classes, task.shape, task.unlabelled = tuple(map(str, range(classes))), shape, 0
    task.train_size = task.eval_size = 100
    return task
