"""Small networks in folders, as timm and transformers write them."""

import json

import timm
import torch
from safetensors.torch import save_file

OWN_MEAN, OWN_STD = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]


def timm_folder(path, num_classes=7, seed=3, label_names=None, leave_out=(), architecture="cifar_resnet8"):
    """Write a timm network with its own mean and std, and return it."""
    torch.manual_seed(seed)
    model = timm.create_model(architecture, num_classes=num_classes)
    path.mkdir()
    cfg = {"num_classes": num_classes, "mean": OWN_MEAN, "std": OWN_STD, "input_size": [3, 32, 32]}
    cfg |= {"classifier": model.pretrained_cfg["classifier"], "first_conv": None}
    record = {"architecture": architecture, "num_classes": num_classes, "pretrained_cfg": cfg}
    if label_names:
        record["label_names"] = label_names
    (path / "config.json").write_text(json.dumps(record))
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(tuple(leave_out))}
    save_file(state, path / "model.safetensors")
    return model


def transformers_folder(path, num_labels=7, seed=3, names=None, processor=True, whole=True, kind="resnet", image_size=8):
    """Write a transformers image classifier, and return it in eval mode."""
    import transformers

    torch.manual_seed(seed)
    labels = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}} if names else {}
    labels = labels or {"num_labels": num_labels}
    if kind == "resnet":
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **labels)
        model = transformers.ResNetForImageClassification(config)
        body = model.resnet
    else:
        config = transformers.ViTConfig(
            image_size=image_size,
            patch_size=4,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            **labels,
        )
        model = transformers.ViTForImageClassification(config)
        body = model.vit
    (model if whole else body).save_pretrained(path)
    if processor:
        record = {"do_normalize": True, "image_mean": OWN_MEAN, "image_std": OWN_STD, "do_rescale": True}
        (path / "preprocessor_config.json").write_text(json.dumps(record | {"rescale_factor": 1 / 255}))
    return model.eval()
