"""Outputs that are not one row of logits of the data set's classes: taken, or told with the way out."""

import pytest
import torch
from builders import make_data
from models.modules import Apply, KeyedNet, Net
from models.test_adapter import labelled
from torch import nn
from typer.main import get_command

import robustbench_sde as rb
from robustbench_sde.cli.app import app
from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.models.modules.examine import examine
from robustbench_sde.models.modules.outputs import ClassMap
from robustbench_sde.runs.sources import ModuleSource


class Wide(nn.Module):
    """Net with 7 outputs: the places of its 4 classes are given, the others are large or small."""

    def __init__(self, places, others=-9.0):
        super().__init__()
        self.net, self.places, self.others = Net(), places, others

    def forward(self, images):
        wide = images.new_full((len(images), 7), self.others)
        return wide.index_copy(1, torch.tensor(self.places), self.net(images))


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (
            lambda x: x.repeat(3, 1),
            r"returns \(12, 4\) for 4 images.* 3 estimators.*unflatten\(0, \(3, -1\)\)",
        ),
        (lambda x: torch.stack([x, x]), r"returns \(2, 4, 4\) for 4 images.* return out\[-1\]"),
        (lambda x: (x, x.sum()), r"returns a tuple; .*its element \[0\], \(4, 4\)\?"),
        (lambda x: (torch.zeros(2), torch.stack([x, x])), r"returns a tuple; .*that is out\[1\]\[-1\]"),
        (lambda x: x.softmax(1), r"returns probabilities: .* return the logarithm"),
        (
            lambda x: torch.cat([x, x], 1),
            r"has 8 outputs, random has 4 classes: .*`classes` 8, .*`class_map`",
        ),
        (lambda x: x[:, :3], r"has 3 outputs, random has 4 classes: .*is missing$"),
    ],
)
def test_outputs_of_another_form_are_told_with_the_way_out(after, message):
    """One sentence says what came and the line that helps."""
    with pytest.raises(BenchError, match=message):
        examine(Net(after=Apply(after)).eval(), make_data(), name="net")


@pytest.mark.parametrize("after", [lambda x: x[:, :1], lambda x: x[:, 0]])
def test_one_number_for_two_classes_is_told_to_become_two(after):
    """The sentence has the line for logits and for probabilities, and following it works."""
    data = make_data(classes=2)
    with pytest.raises(
        BenchError, match=r"2 classes: return torch.cat\(\[0 \* z, z\], 1\).*\[-z, z\].*log\(z\)"
    ):
        examine(Net(after=Apply(after)).eval(), data, name="net")
    two = Net(after=Apply(lambda x: torch.cat([0 * x[:, :1], x[:, :1]], 1))).eval()
    assert examine(two, data, name="net").interface.classes == 2


def test_the_hints_are_right():
    """The line for stacked estimators gives the mean of their probabilities, estimator by estimator."""
    one, two = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).split(2)
    stacked = torch.cat([one, two])  # as torch-uncertainty does: all images of an estimator, then the next
    mean = (one.softmax(-1) + two.softmax(-1)) / 2
    torch.testing.assert_close(stacked.unflatten(0, (2, -1)).softmax(-1).mean(0).log(), mean.log())


def test_a_layer_that_returns_a_tuple_is_named():
    """The error of the next layer is followed by where tuples come from."""
    net = nn.Sequential(nn.Flatten(), Apply(lambda x: (x, x)), nn.Linear(144, 4)).eval()
    with pytest.raises(BenchError, match="not tuple; a part of it returns a tuple: torchdyn's NeuralODE"):
        examine(net, make_data(), name="net")


def test_more_classes_than_the_data_set_has():
    """The first are the data set's; a prediction of another class is wrong, and nothing else changes."""
    data = labelled(Net())
    low = rb.as_classifier(Wide([0, 1, 2, 3], -99.0).eval(), data, classes=7)
    assert low.classes == 7
    attacked = rb.attack(low, data, eps=0.1, steps=2)
    assert attacked.summary["accuracy"].tolist()[:2] == [1, 1]
    with pytest.warns(BenchWarning, match="0 of 40 clean images are right"):
        high = rb.as_classifier(Wide([0, 1, 2, 3], 1e6).eval(), data, classes=7)
    records = rb.score(high, data).records
    assert set(records["prediction"]) <= {4, 5, 6}
    assert not records["correct"].any()


def test_a_class_map_takes_outputs_and_leaves_the_others_out(tmp_path):
    """Accuracy and attack are those of the network with its classes in order, from a file as from numbers."""
    data = labelled(Net())
    file = tmp_path / "map.txt"
    file.write_text("# cat, dog, ...\n6\n\n1  # the second\n0\n4\n")
    plain = rb.attack(Net().eval(), data, eps=0.1, steps=2)
    for chosen in (file, [6, 1, 0, 4], [[6], [1], [0], [4]]):
        model = rb.as_classifier(Wide([6, 1, 0, 4], 99.0).eval(), data, class_map=chosen)
        found = rb.attack(model, data, eps=0.1, steps=2)
        assert found.records["prediction"].tolist() == plain.records["prediction"].tolist()
        torch.testing.assert_close(found.images, plain.images)


def test_several_outputs_of_a_class_add_their_probabilities():
    """Log-sum-exp of the outputs: the softmax over classes is the sum of the softmax over outputs."""
    logits = torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(0))
    joined = ClassMap.of([[0, 3], 1, 2])(logits).softmax(-1)
    torch.testing.assert_close(joined[..., 0], logits.softmax(-1)[..., [0, 3]].sum(-1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"class_map": [0, 1, 2]}, "`class_map` has 3 classes, random has 4"),
        ({"class_map": [0, 1, 2, 7]}, "`class_map` names output 7, the network has 0 to 6"),
        ({"class_map": [0, 1, 2, 2]}, "output 2 is there twice"),
        ({"class_map": [0, 1, 2, -1]}, "output -1 is below 0"),
        ({"class_map": [0, 1, 2, []]}, "class 3 has no output"),
        ({"class_map": [0, 1, 2, 3], "classes": 7}, "give one of them"),
        ({"classes": 3}, "`classes` is 3, random has 4"),
        ({"classes": 8}, "has 7 outputs, random has 8"),
        ({"class_map": "absent.txt"}, "cannot read absent.txt: No such file"),
    ],
)
def test_wrong_classes_are_refused(given, message):
    """Each mistake is one sentence."""
    with pytest.raises(BenchError, match=message):
        rb.as_classifier(Wide([0, 1, 2, 3]), make_data(), **given)


def test_a_line_of_a_class_map_that_is_no_number_is_named(tmp_path):
    """File, line and text stand in the message."""
    (tmp_path / "map.txt").write_text("0\n1\nthree\n")
    with pytest.raises(BenchError, match=r"map\.txt, line 3: 'three' is not a list of output numbers"):
        ClassMap.of(tmp_path / "map.txt")


def test_other_outputs_are_other_work(tmp_path):
    """A class map and a number of classes are in the key of the cells and in the manifest."""
    (tmp_path / "wide.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(144, 7)).eval()\n"
    )
    data = make_data()

    def source(**given) -> ModuleSource:
        return ModuleSource.behind(rb.as_classifier(f"{tmp_path / 'wide.py'}:make", data, **given))

    made = [source(classes=7), source(class_map=[0, 1, 2, 3]), source(class_map=[0, 1, 3, 2])]
    assert len({one.sha256 for one in made}) == 3
    assert made[0].describe()["classes"] == 7
    assert made[2].describe()["class_map"] == "0 1 3 2"


def test_double_precision_is_given_double_precision():
    """A network in float64 or bfloat16 is taken and said; its logits are those that it gives by itself."""
    data = labelled(Net())
    for make in (lambda: Net().eval(), lambda: KeyedNet().eval()):
        found = examine(make().double(), data, name="net")
        assert found.interface.dtype is torch.float64
        assert any("in float64" in note for note in found.notes)
        model = found.interface.around(make().double())
        plain = examine(make(), data, name="net").interface.around(make())
        one, other = (rb.attack(each, data, eps=0.05, steps=3).records for each in (model, plain))
        assert one["margin"].tolist() == pytest.approx(other["margin"].tolist(), abs=1e-4)
    assert examine(Net().eval().bfloat16(), data, name="net").interface.dtype is torch.bfloat16


def test_a_network_that_casts_by_itself_is_left_alone():
    """Images in float32 are what a module in float64 gets that takes them."""
    net = Net(before=Apply(lambda x: x.double())).double().eval()
    assert examine(net, labelled(Net()), name="net").interface.dtype is None


def test_every_command_with_a_model_has_the_options():
    """--classes and --class-map are wherever --model is."""
    commands = get_command(app).commands
    with_model = {name for name, command in commands.items() if _has(command, "--model")}
    assert {"attack", "audit", "certify", "corrupt", "score"} <= with_model
    for name in with_model:
        assert _has(commands[name], "--classes")
        assert _has(commands[name], "--class-map")


def _has(command, option):
    return any(option in parameter.opts for parameter in command.params)
