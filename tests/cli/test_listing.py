"""What `logitkd list` shows: every method, the options of one, recipes, networks."""

from logitkd import methods
from logitkd.cli import main


def test_list_shows_every_method_on_a_line_of_its_own(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["method", *methods.names()]
    (dkd,) = [line for line in lines if line.startswith("dkd ")]
    assert "teacher, labels" in dkd
    assert "optional" not in dkd
    assert "teacher, labels optional" in next(line for line in lines if line.startswith("gdkd "))
    assert "2203.08679" in dkd
    assert "regions" in next(line for line in lines if line.startswith("icd-kd "))


def test_list_of_one_method_explains_every_option(capsys):
    for name in methods.names():
        assert main(["list", name]) == 0
        options = capsys.readouterr().out.split("meaning\n")[1].splitlines()
        assert [line.split()[0] for line in options] == [f"--method.{option}" for option in methods.get(name).options]
        assert all(len(line.split()) > 3 for line in options), f"an option of {name} has no meaning"


def test_list_recipes_and_models(capsys):
    assert main(["list", "recipes"]) == 0
    assert "logitkd train cifar100/vgg13-vgg8 --method dkd" in capsys.readouterr().out
    assert main(["list", "models"]) == 0
    assert "cifar_resnet8x4" in capsys.readouterr().out
    assert main(["list", "models", "convnext_atto"]) == 0
    assert "convnext_atto" in capsys.readouterr().out.splitlines()
