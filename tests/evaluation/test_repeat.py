"""A classifier that remembers earlier calls is found, in every command."""

import copy

import pytest
import torch
from builders import make_data, make_model
from torch import nn

import robustbench_sde as rb
from robustbench_sde.errors import BenchError, InvalidEvaluationError
from robustbench_sde.evaluation.audit.report import AuditVerdict
from robustbench_sde.evaluation.repeat import FirstAnswer, rounding_on
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.base import ClassifierBase
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.modules.passes import REMEMBERS
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.perturbations.corruptions import make_corruptions
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.cluster.parcel import PackedImages, Parcel, software
from robustbench_sde.runs.sources import LiveSource
from robustbench_sde.sde.draws import Draws, Stream
from robustbench_sde.storage.run_folder import RunFolder

SMALL = {"eps": 0.01, "steps": 3, "eot_draws": 1, "score_draws": 2}


class Decaying(nn.Module):
    """Turns its logits round after some calls."""

    def __init__(self, calls=40):
        super().__init__()
        self.eval()
        generator = torch.Generator().manual_seed(0)
        self.linear = nn.Linear(144, 4)
        self.linear.weight.data = torch.randn(4, 144, generator=generator)
        self.calls, self.most = 0, calls

    def forward(self, images):
        self.calls += 1
        return self.linear(images.flatten(1)) * (1 if self.calls < self.most else -1)


class Buffered(nn.Module):
    """Writes its logits into a tensor that it keeps."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(144, 4)
        self.kept = torch.zeros(1000, 4)

    def forward(self, images):
        with torch.no_grad():
            return self.kept[: len(images)].copy_(self.linear(images.flatten(1)))


def calls_of(make):
    """Count the calls that making a classifier ready takes."""
    module = make(10**9)
    rb.as_classifier(module, make_data())
    return module.calls


@pytest.mark.parametrize("more", [4, 8])
def test_a_module_that_changes_after_some_calls_is_invalid(tmp_path, more):
    """Every row of it, also those from before the change; nothing of it is stored; others keep theirs."""
    data = make_data()
    module = Decaying(calls_of(Decaying) + more)
    run = rb.attack([rb.as_classifier(module, data), make_model()], data, **SMALL, out=tmp_path / "run")
    bad, good = run.summary["status"][:3], run.summary["status"][3:]
    assert all(
        text.startswith(f"invalid: {REMEMBERS}: 8 of 8 clean images have other logits than before")
        for text in bad
    )
    assert good.tolist() == ["ok"] * 3
    assert len(list((tmp_path / "run" / "records").iterdir())) == 3
    assert RunFolder(tmp_path / "run").stored() == set(run.summary["cell"][3:])


def test_a_gpu_may_round_and_a_cpu_may_not():
    """A repeated pass has the same bits on a CPU; on a GPU it may differ by rounding, but not by more."""
    data, model = make_data(), make_model()
    first = FirstAnswer.of(model, data)
    moved = FirstAnswer(first.images, first.ids, first.logits * (1 + 2e-6))
    with pytest.raises(InvalidEvaluationError, match=REMEMBERS):
        moved.check(model)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert rounding_on(cpu, "bf16") == rounding_on(cpu, "fp32") == 0
    assert 2e-6 < rounding_on(gpu, "fp32") < 1e-4 < rounding_on(gpu, "bf16") < 0.1
    moved.check(model, tolerance=rounding_on(gpu, "fp32"))
    changed = FirstAnswer(first.images, first.ids, first.logits * (1 + 1e-3))
    with pytest.raises(InvalidEvaluationError, match=REMEMBERS):
        changed.check(model, tolerance=rounding_on(gpu, "fp32"))


def test_corruptions_and_work_in_memory_find_it_too(tmp_path):
    """`score` has no control; in memory the error is raised."""
    data = make_data()
    start = calls_of(Decaying)
    asked = {"corruptions": "fog,contrast", "severities": [1, 2], "score_draws": 2}
    run = rb.score(Decaying(start + 6), data, **asked, out=tmp_path / "run")
    assert run.summary["status"].str.startswith(f"invalid: {REMEMBERS}").all()
    with pytest.raises(InvalidEvaluationError, match=REMEMBERS):
        rb.score(Decaying(start + 6), data, **asked)
    assert rb.score(Decaying(start + 1000), data, **asked).ok


def test_the_workers_of_a_cluster_find_it_too():
    """A parcel answers with the status; where its images are is no matter."""
    data = make_data()
    module = Decaying(calls_of(Decaying) + 3)
    source = LiveSource.around(rb.as_classifier(module, data))
    cells = tuple(Cell(source, one, ScoreSettings(2)) for one in (Clean(), *make_corruptions("fog", [1])))
    parcel = Parcel(cells, slice(2, 12), (), Compute(), 1, {}, software(cells))
    statuses = [result.row["status"] for result in parcel.run(PackedImages.of(data)).results]
    assert any(text.startswith(f"invalid: {REMEMBERS}") for text in statuses), statuses


def attacked(model, data, out):
    rb.attack(model, data, **SMALL, out=out)


def scored(model, data, out):
    images = data.images / 255
    rb.score(model, data, images, norm="linf", eps=0.1, score_draws=2, out=out)


def corrupted(model, data, out):
    rb.score(model, data, corruptions="fog,contrast", severities=[1], score_draws=2, out=out)


def compared(model, data, out):
    rb.versus("tiny-multiplicative", [model, make_model()], data, **SMALL, out=out)


def certified(model, data, out):
    rb.certify(model, data, draws=20, select_draws=4, radius=[0.0, 0.1], out=out)


def followed(model, data, out):
    rb.stability(model, data, paths=1, eps=0.01, steps=2, eot_draws=1, score_draws=2, out=out)


def forgetful(data, work, out):
    """Return a classifier whose last layer turns round late in a piece of work, by a hook."""
    calls = [0, 10**9]

    def turn(layer, inputs, output):
        calls[0] += 1
        return output if calls[0] < calls[1] else -output

    model = make_model("none")
    model.head.linear.register_forward_hook(turn)
    work(model, data, out / "elsewhere" / "all")
    twin = make_model("none")
    calls[:] = [0, 3 * calls[0] // 4]
    twin.head.linear.register_forward_hook(turn)
    return twin


@pytest.mark.parametrize("work", [attacked, scored, corrupted, compared, certified, followed])
def test_every_measurement_finds_memory(work, tmp_path):
    """A hook that changes the network on the way is found in every command, and nothing of it is stored."""
    data = make_data()
    model = forgetful(data, work, tmp_path)
    try:
        work(model, data, tmp_path / "run")
    except BenchError as error:  # versus refuses to compare invalid rows
        said = [str(error)]
    else:
        said = list(RunFolder(tmp_path / "run").read_summary()["status"])
    assert any(REMEMBERS in text for text in said), said
    assert not list((tmp_path / "run").glob("certificates/*")) + list((tmp_path / "run").glob("stability/*"))
    stored = [RunFolder(tmp_path / "run").read_cell(key) for key in RunFolder(tmp_path / "run").stored()]
    assert all(cell.row["noise"] != "none" for cell in stored)


def test_an_audit_fails_a_model_that_remembers(tmp_path):
    """The first rule of the report names the memory, and the verdict is a failure."""
    data = make_data()
    asked = {"eps": 0.05, "steps": 2, "eot_draws": 1, "score_draws": 2}
    model = forgetful(data, lambda model, data, out: rb.audit(model, data, **asked), tmp_path)
    report = rb.audit(model, data, **asked)
    assert report.verdict is AuditVerdict.FAIL
    assert report.rules[0].name == "eps-0-control"
    assert REMEMBERS in report.rules[0].message


def test_our_classifiers_and_sound_modules_answer_alike():
    """Random or not, after other images and other draws: to the bit."""
    for kind in ("none", "additive", "multiplicative"):
        model, data = make_model(kind), make_data()
        first = FirstAnswer.of(model, data)
        model.logits(torch.rand(5, 1, 12, 12), torch.arange(5), Draws(7, Stream.SCORE, range(2)))
        first.check(model)
    first = FirstAnswer.of(make_model("none"), make_data())
    other = copy.deepcopy(make_model("none"))
    other.head.linear.bias += 1e-6
    with pytest.raises(InvalidEvaluationError, match=REMEMBERS):
        first.check(other)
    first.check(other, tolerance=1e-4)


def test_a_module_that_returns_its_own_buffer_is_refused():
    """The next call changes logits that somebody still holds: nothing of it is scored."""
    with pytest.raises(BenchError, match=r"Buffered: .* every image must be classified by itself"):
        rb.score(Buffered(), make_data(), corruptions="fog", severities=[1, 5], batch_size=5)


@pytest.mark.parametrize(("tolerance", "image"), [(0.04, 0), (0.06, 1), (0.6, None)])
def test_what_is_rounding_depends_on_the_largest_logit_of_the_image(tolerance, image):
    """A change of a half is a twentieth of one image's largest logit, and half of the other's."""
    before = torch.tensor([[[-10.0, 1.0, 1.0], [1.0, 0.0, 1.0]]])
    model = Constant(before)
    first = FirstAnswer.of(model, make_data(2, classes=3))
    first.check(model)
    model.answer = before + torch.tensor([0.0, 0.5, 0.0])
    if image is None:
        first.check(model, tolerance=tolerance)
        return
    with pytest.raises(InvalidEvaluationError, match=rf"{2 - image} of 2 .* \(image {image}: by 0\.5\)"):
        first.check(model, tolerance=tolerance)


class Constant(ClassifierBase):
    """Gives the logits that are written down, whatever it sees."""

    name, noise, sigma, stochastic, precision = "constant", "none", 0.0, False, "fp32"
    image_shape, classes, device = (1, 12, 12), 3, torch.device("cpu")

    def __init__(self, answer):
        self.answer = answer

    def logits(self, images, image_ids, draws):
        """Return the logits (draws, images, classes)."""
        return self.answer
