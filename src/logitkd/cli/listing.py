"""What there is: methods with their options, recipes, networks."""

from __future__ import annotations

from docstring_parser import parse

from logitkd import methods, recipes, tasks
from logitkd.checks import unknown
from logitkd.cli import tables
from logitkd.runs.settings import SettingsError

__all__ = ["show_list"]


def show_list(arguments: list[str]) -> None:
    """Print what ``logitkd list`` is asked for: methods, one method's options, recipes or networks.

    Raises:
        SettingsError: there is nothing of that name.
    """
    match arguments:
        case []:
            _list_methods()
        case ["recipes"]:
            rows = [[name, recipes.command(recipes.find(name))] for name in recipes.names()]
            tables.show(["recipe", "command"], rows)
        case ["models", *part] if len(part) < 2:
            _list_models(*part)
        case [name] if name in methods.names():
            _list_method(methods.get(name))
        case [name]:
            raise SettingsError([unknown("method or list", name, [*methods.names(), "recipes", "models"])])
        case _:
            raise SettingsError([f"one thing at a time: got {' '.join(arguments)}."])


def _list_methods() -> None:
    rows = []
    for method in map(methods.get, methods.names()):
        taught = method.has_teacher
        labels = "optional" if method.labels_optional else "needed" if method.needs_labels else "-"
        reads = {"stones": "blocks"}.get(method.wants.reads, method.wants.reads) if taught else "-"
        weights = [f"{method.kd_weight:g}", str(method.warmup_epochs)] if taught else ["-", "-"]
        rows.append([method.name, method.summary, labels, reads, f"{method.ce_weight:g}", *weights])
    weights = ["CE", "KD", "warm-up"]
    tables.show(["method", "what it matches", "labels", "reads", *weights], rows, right=weights)
    print(
        "\nCE and KD weigh labels and teacher; over the warm-up epochs KD grows. All but `ce` need a teacher."
        "\nLabels optional: `--labels none` trains on the teacher alone. `list METHOD`: paper and options."
        f"\nTasks: {', '.join(tasks.names())} (`train --task NAME`). Regions need images."
    )


def _list_method(method: methods.Method) -> None:
    print("\n".join(filter(None, [f"{method.name}: {method.summary}.", method.paper])) + "\n")
    meanings = _meanings(methods.Method)
    for part, spelling in method.spellings():
        own = _meanings(part)
        meanings |= {option: own.get(name, "") for name, option in spelling.items()}
    rows = []
    for name, value in method.options.items():
        meaning = " ".join(meanings.get(name, "").replace("``", "").split())
        rows.append([f"--method.{name}", str(value), meaning])
    tables.show(["option", "default", "meaning"], rows, prose=True)


def _meanings(kind: type) -> dict[str, str]:
    return {param.arg_name: param.description or "" for param in parse(kind.__doc__ or "").params}


def _list_models(part: str = "cifar_") -> None:
    import timm
    import torch
    import torchvision

    from logitkd.models import build_model, parameter_count

    names = timm.list_models(f"*{part}*")
    if part != "cifar_":
        names += [
            f"torchvision:{name}" for name in torchvision.models.list_models(torchvision.models.segmentation, f"*{part}*")
        ]
        if not names:
            raise SettingsError([f"no network has `{part}` in its name; `logitkd list models resnet` lists some."])
        print("\n".join(names))
        return
    with torch.device("meta"):  # shapes without weights
        rows = [[name, f"{parameter_count(build_model(name, 100)):,}"] for name in names]
    tables.show(["network", "parameters (100 classes)"], rows, right=["parameters (100 classes)"])
    others = len(timm.list_models()) - len(names)
    print(f"\nAnd {others} more of timm: logitkd list models PART. Or your own: package.module:callable.")
    print("For segmentation: logitkd list models lraspp. Or a head on one of timm: deeplabv3:NAME, lraspp:NAME.")
