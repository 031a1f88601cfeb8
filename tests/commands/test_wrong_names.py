"""A wrong name is refused at once: before torch or ONNX Runtime is imported, with the name that was meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.data.synthetic.dataset import synthesize

WEIGHTS = "--weights w.pth"
TRAIN = "train --data people --out run --arch osnet_x0_25"
EXPORT = "export m.onnx --out models --fp16"

COMMANDS = {
    f"{TRAIN}5": "did you mean osnet_x0_25?",
    f"{TRAIN} --recipe finetun": "did you mean finetune?",
    f"{TRAIN} --precision fp61": "did you mean fp16?",
    f"{TRAIN} --layout market1502": "did you mean market1501?",
    f"{TRAIN} --device cudda": "did you mean cuda?",
    f"{TRAIN} --weights v.pth": "v.pth does not exist: give the path of the weights to start from; did you mean w.pth?",
    f"{TRAIN} --weights osnet_x025_msmt17": "see  reid-edge models; did you mean osnet_x0_25_msmt17?",
    "train --data people --out run --arch osnet_x1_25 --weights imagenet": "no ImageNet weights of osnet_x1_25",
    f"{TRAIN} --teacher v.pth": "did you mean w.pth?",
    f"{TRAIN} --teacher w.pth --teacher-arch osnett_x0_25": "did you mean osnet_x0_25?",
    "train --data people --out run --finetune v.pth": "did you mean w.pth?",
    "train --data people --out run --qat v.pth": "did you mean w.pth?",
    "train --data people --out run --finetune w.pth --arch osnt_x0_25": "did you mean osnet_x0_25?",
    "train --data people --out run --config recipe.tml": "did you mean recipe.toml?",
    "train --data people --out run --config recipe.toml": "unknown architecture 'osnet_025': use one of resnet50_bot",
    "train --data peple --out run --arch osnet_x0_25": "did you mean people?",
    "train --data peple --out run --finetune w.pth": "did you mean people?",
    "train --dump-config --arch osnet_x025": "did you mean osnet_x0_25?",
    "export n.onnx": "did you mean m.onnx?",
    "export v.pth": "did you mean w.pth?",
    "export w.pth --arch osnet_x025": "did you mean osnet_x0_25?",
    "export m.onnx --arch osnet_x0_25": "an ONNX file of reid-edge names its own: leave --arch",
    f"{EXPORT} --resize pilow-bilinear": "did you mean pillow-bilinear?",
    f"{EXPORT} --for deepsteam": "did you mean deepstream?",
    f"{EXPORT} --input-format nchw-flat": "did you mean nchw-float?",
    f"{EXPORT} --int8 --method percentil": "did you mean percentile?",
    f"{EXPORT} --for-runtime gpu": "did you mean cpu?",
    f"{EXPORT} --unquantized fp61": "did you mean fp16?",
    f"{EXPORT} --sensitivity layers": "did you mean layer?",
    f"{EXPORT} --engine --backend tensort": "did you mean tensorrt?",
    f"{EXPORT} --gate int.cosine_min=0.9": "did you mean int8?",
    f"{EXPORT} --gate int8.cosin_min=0.9": "did you mean cosine_min?",
    f"{EXPORT} --data peple": "did you mean people?",
    f"{EXPORT} --layout manifes": "did you mean manifest?",
    "export w.pth --arch osnet_x0_25 --int8 --calibrate peple": "did you mean people?",
    f"{EXPORT} --int8 --keep keeps.json": "did you mean keep.json?",
    "verify-export n.onnx --reference m.onnx": "did you mean m.onnx?",
    "verify-export m.onnx --reference v.pth": "did you mean w.pth?",
    "verify-export m.onnx --reference w.pth --arch osnet_x025": "did you mean osnet_x0_25?",
    "verify-export m.onnx --reference w.pth --data peple": "did you mean people?",
    "verify-export m.onnx --reference w.pth --gate fp23.map_loss=1": "did you mean fp32?",
    "verify-export people/readme --reference m.onnx": "did you mean readme.txt?",
    "adopt f.engine --onnx m.onnx": "did you mean e.engine?",
    "adopt e.engine --onnx n.onnx": "did you mean m.onnx?",
    "adopt e.engine --onnx m.onnx --backend tensort": "did you mean tensorrt?",
    "adopt e.engine --onnx m.onnx --data peple": "did you mean people?",
    "eval n.onnx --data people": "did you mean m.onnx?",
    "eval people/readme.txt --data people": "unknown kind of model file '.txt'",
    "eval w.pth --data peple --arch osnet_x0_25": "did you mean people?",
    "eval w.pth --data people --arch osnet_x025": "did you mean osnet_x0_25?",
    "eval w.pth --data people --arch osnet_x0_25 --distance cosin": "did you mean cosine?",
    "eval m.onnx --data people --split tst": "did you mean test?",
    "eval m.onnx --data people --split val": "has no part 'val'",
    "eval m.onnx --data people --layout crop": "did you mean crops?",
    "eval m.onnx --data people --resize opncv": "did you mean opencv?",
    "bench m.onnx n.onnx": "did you mean m.onnx?",
    "bench m.onnx --data peple": "did you mean people?",
    "bench m.onnx --distance euclid": "did you mean euclidean?",
    "bench m.onnx --data people --split tst": "did you mean test?",
    "pairs n.onnx --data people --out pairs": "did you mean m.onnx?",
    "pairs w.pth --data people --out pairs --arch osnet_x025": "did you mean osnet_x0_25?",
    "pairs m.onnx --data peple --out pairs": "did you mean people?",
    "pairs m.onnx --data people --out pairs --fit-on tests": "did you mean test?",
    "pairs m.onnx --data people --out pairs --calibration isotonc": "did you mean isotonic?",
    "embed peple --model m.onnx --out g.npz": "did you mean people?",
    "embed people --model n.onnx --out g.npz": "did you mean m.onnx?",
    "embed people --model m.onnx --out g.npy": "give it the suffix .npz",
    "rank peple --gallery people --model m.onnx": "did you mean people?",
    "rank people --gallery peple --model m.onnx": "did you mean people?",
    "rank people --gallery f.npz --model m.onnx": "does not exist: give the path of a gallery",
    "rank people --gallery people --model n.onnx": "did you mean m.onnx?",
    "rank people --gallery people --model m.onnx --distance cityblok": "did you mean cityblock?",
    "rank people --gallery people --model m.onnx --picture a.gif": "end it in one of .png",
    "verify b.jpg a.jpg --model m.onnx --head h.npz": "did you mean a.jpg?",
    "verify a.jpg a.jpg --model n.onnx --head h.npz": "does not exist",
    "verify a.jpg a.jpg --model m.onnx --head h.npz": "does not exist: give the path of a pair head",
    "verify a.jpg a.jpg --model m.onnx --head h.npz --prior 2": "give a probability between 0 and 1",
    "demo --out demo --arch osnet_x025": "did you mean osnet_x0_25?",
    "reproduce --market peple --out r": "did you mean people?",
    "reproduce --market people --out r --arch osnet_x025": "did you mean osnet_x0_25?",
    "reproduce --market people --out r --weights osnet_x0_25=v.pth": "did you mean w.pth?",
    "reproduce --market people --out r --weights osnet=w.pth": "which is not in the matrix",
    "reproduce --market people --out r --recipe sed": "did you mean seed?",
    "reproduce --market people --out r --split tst": "did you mean test?",
    "reproduce --market people --out r --device gpu": "give auto, cpu, cuda or cuda:N",
    "data inspect peple": "did you mean people?",
    "data inspect people --layout msmt71": "did you mean msmt17?",
    "data inspect people --split tst": "did you mean test?",
    "evl m.onnx": "Did you mean 'eval'?",
    "eval m.onnx --dat people": "--data",
}
"""A command line, and what its one line of refusal says."""

CALLS = {
    "train_model('people', 'run', arch='osnet_x025')": "did you mean osnet_x0_25?",
    "train_model('people', 'run', arch='osnet_x0_25', recipe='distil')": "did you mean distill?",
    "train_model('people', 'run', arch='osnet_x0_25', layout='market')": "layout 'market' is unknown",
    "train_model('peple', 'run', arch='osnet_x0_25')": "did you mean people?",
    "train_model('people', 'run', arch='osnet_x0_25', settings={'learn_rate': 1.0})": "did you mean learning_rate?",
    "train_model('people', 'run', arch='osnet_x0_25', settings={'schedule': 'cosin'})": "schedule must be one of",
    "train_model('people', 'run', arch='osnet_x0_25', start=StartFrom(weights='v.pth'))": "did you mean w.pth?",
    "train_model('people', 'run', start=StartFrom(qat='v.pth'))": "did you mean w.pth?",
    "train_model('people', 'run', arch='osnet_x0_25', teacher=Teacher(model='v.pth'))": "did you mean w.pth?",
    "train_model('people', 'run', arch='osnet_x0_25', run=RunOptions(device='coda'))": "did you mean cuda?",
    "export_model('v.pth', 'models')": "did you mean w.pth?",
    "export_model('w.pth', 'models', arch='osnet_x025')": "did you mean osnet_x0_25?",
    "export_model('w.pth', 'models', arch='osnet_x0_25', precisions=('fp61',))": "did you mean fp16?",
    "export_model('w.pth', 'models', arch='osnet_x0_25', resize='openvc')": "did you mean opencv?",
    "export_model('w.pth', 'models', arch='osnet_x0_25', hand_over='tritn')": "did you mean triton?",
    "export_model('w.pth', 'models', arch='osnet_x0_25', data='people', layout='lst')": "did you mean last?",
    "export_model('w.pth', 'models', int8=Int8Options(method='minmx'))": "did you mean minmax?",
    "export_model('w.pth', 'models', checks=Checks(gates={'int8.cosin_min': 1}))": "did you mean cosine_min?",
    "export_model('w.pth', 'models', engine=EngineOptions(backend='tensort'))": "did you mean tensorrt?",
    "export_model('w.pth', 'models', sensitivity='blok')": "did you mean block?",
    "verify_export('m.onnx', 'w.pth', arch='osnet_x025')": "did you mean osnet_x0_25?",
    "verify_export('m.onnx', 'm.onnx', data='people', layout='lst')": "did you mean last?",
    "evaluate('w.pth', 'people', arch='osnet_x0_25', distance='cosin')": "did you mean cosine?",
    "evaluate('w.pth', 'people', arch='osnet_x0_25', layout='lst')": "did you mean last?",
    "evaluate('w.pth', 'people', arch='osnet_x0_25', part='tests')": "did you mean test?",
    "evaluate('w.pth', 'people', arch='osnet_x0_25', resize='openvc')": "did you mean opencv?",
    "bench('m.onnx', 'people', distance='cosin')": "did you mean cosine?",
    "bench(['m.onnx', 'n.onnx'])": "did you mean m.onnx?",
    "open_engine('m.onnx', backend='onxruntime')": "did you mean onnxruntime?",
    "open_engine('n.onnx')": "did you mean m.onnx?",
    "open_dataset('people', 'lst')": "did you mean last?",
    "Embedder('m.onnx', resize='openvc')": "did you mean opencv?",
    "Gallery.load('h.npz')": "h.npz does not exist",
    "verify('a.jpg', 'a.jpg', 'm.onnx', 'h.npz')": "h.npz does not exist",
}
"""A call of `reid_edge`, and what its error says."""

CHILD = """
import contextlib, io, json, sys
from reid_edge.cli import main

said = {}
for case in json.load(sys.stdin):
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        if case.endswith(")"):
            import reid_edge
            try:
                eval(case, {name: getattr(reid_edge, name) for name in reid_edge.__all__})
            except reid_edge.ReidEdgeError as error:
                print(error, file=sys.stderr)
        else:
            try:
                main(case.split())
            except SystemExit as ended:
                assert ended.code == 2, (case, ended.code, shown.getvalue())
    heavy = sorted({"torch", "onnxruntime", "tensorrt"} & set(sys.modules))
    said[case] = [shown.getvalue(), heavy]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of every kind, of which names are enough."""
    home = tmp_path_factory.mktemp("names")
    people = synthesize(home / "people", identities=2, test_identities=2, size_hw=(32, 32), progress=False)
    write_tiny_model(home / "m.onnx")
    (home / "a.jpg").write_bytes(min((people / "query").glob("*.jpg")).read_bytes())
    for name in ("w.pth", "e.engine", "keep.json", "people/readme.txt"):
        (home / name).write_text("x")
    (home / "recipe.toml").write_text('arch = "osnet_025"\n')
    return home


@pytest.fixture(scope="module")
def said(home: Path) -> dict[str, tuple[str, list[str]]]:
    """What every case says, and what is imported by then: one process for all."""
    return _refusals(home, [*COMMANDS, *CALLS])


def _refusals(home: Path, cases: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-c", CHILD]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, cwd=home, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", [*COMMANDS, *CALLS])
def test_it_is_refused_before_anything_heavy_is_imported(case: str, said: dict[str, tuple[str, list[str]]]) -> None:
    if "--config" in case:
        pytest.importorskip("tomlkit", reason="recipes in files need the train extra")
    error, heavy = said[case]
    assert (COMMANDS | CALLS)[case] in error
    assert error.count("\n") == 1
    assert heavy == []


def test_it_leaves_nothing_behind(said: dict[str, Any], home: Path) -> None:
    assert not {"run", "models", "pairs", "demo", "r", "g.npz", "g.npy", "a.gif"} & {
        path.name for path in home.iterdir()
    }


@pytest.mark.parametrize(
    "case", [f"{TRAIN}5", f"{EXPORT} --gate int8.cosin_min=0.9", "eval w.pth --data peple --arch osnet_x0_25"]
)
def test_it_takes_under_a_second_of_cpu(case: str, home: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "reid_edge", *case.split()]
    done = subprocess.run(command, capture_output=True, cwd=home, env={**os.environ}, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
