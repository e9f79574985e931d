"""What an editor offers and a type checker refuses, in programs as users write them."""

import re
import subprocess
import sys

import pytest

from tests.processes import ROOT

for package in ("jedi", "mypy", "pyright"):  # of the extra test-extras
    pytest.importorskip(package)

RIGHT = """
import numpy as np

import fastcnn
from fastcnn import SGD, Augmentation, CNNClassifier, CNNRegressor, Conv2D, CrossEntropy, Dense, Flatten, MaxPool2D
from fastcnn import OneCycle, ReLU, Sequential, Trainer
from fastcnn.data import hold_out, load_digits

X_train, X_test, y_train, y_test = hold_out(*load_digits())
model: Sequential = Sequential([Conv2D(16, 3, padding="same"), ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
trainer = Trainer(model, CrossEntropy(label_smoothing=0.1), SGD(0.1, momentum=0.9), random_state=0)
losses: list[float] = [epoch.loss for epoch in trainer.fit(X_train, y_train, epochs=2, batch_size=32)]
classes: np.ndarray[tuple[int, ...], np.dtype[np.int64]] = model.predict(X_test).argmax(axis=1)
classifier: CNNClassifier = CNNClassifier(
    [Conv2D(16, 3), ReLU()], solver=SGD(0.1), max_iter=3, augmentation=Augmentation(shift=1), random_state=0
).fit(X_train, y_train)
probabilities = classifier.predict_proba(X_test)
CNNRegressor("lenet5", schedule="cosine", batch_size=16, verbose=True)
fastcnn.save(classifier, "digits.safetensors")
fastcnn.models.lenet5((1, 28, 28)).summary()
folder: fastcnn.data.Dataset
"""
WRONG = {
    "a misspelt name": "from fastcnn import CNNClasifier",
    "a misspelt name in data": "from fastcnn.data import load_digit",
    "a misspelt submodule": "import fastcnn\nfastcnn.modles.lenet5()",
    "a misspelt network": "import fastcnn\nfastcnn.models.lenet(3)",
    "a wrong keyword of an estimator": "from fastcnn import CNNClassifier\nCNNClassifier(nonsense=3)",
    "a wrong keyword of a layer": "from fastcnn import Conv2D\nConv2D(16, 3, kernel=3)",
    "a wrong keyword of an optimizer": "from fastcnn import Adam\nAdam(lr=0.1)",
    "a wrong keyword of a method": "from fastcnn import Dense, Sequential\nSequential([Dense(2)]).predict(0, size=3)",
    "a wrong type of an estimator": "from fastcnn import CNNClassifier\nCNNClassifier(max_iter='many')",
    "layers that are numbers": "from fastcnn import CNNRegressor\nCNNRegressor(layers=[16, 32])",
    "a wrong type of a layer": "from fastcnn import Dense\nDense('many')",
    "a wrong type of a trainer": "from fastcnn import ReLU, Trainer\nTrainer(ReLU())",
    "a missing argument": "from fastcnn import Conv2D\nConv2D(16)",
    "a misspelt method": "from fastcnn import Dense, Sequential\nSequential([Dense(2)]).predikt(0)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a file for each program: one that is right, and each wrong one."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "right.py").write_text(RIGHT)
    for number, program in enumerate(WRONG.values()):
        (folder / f"wrong_{number}.py").write_text(program + "\n")
    return folder


def check(folder, *command):
    """Return the errors of a type checker, by file."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False)
    found = re.findall(r"(\w+\.py)\S*\s*(?:-)?\s*error: (.*)", done.stdout)
    assert found, f"{done.stdout}\n{done.stderr}"
    assert not done.stderr, done.stderr
    return {name: [error for file, error in found if file == name] for name in sorted({name for name, _ in found})}


def expect_only_the_wrong(errors):
    assert errors.get("right.py") is None
    accepted = [what for number, what in enumerate(WRONG) if f"wrong_{number}.py" not in errors]
    assert not accepted


def test_mypy_refuses_what_is_wrong(folder):
    (folder / "mypy.ini").write_text(f"[mypy]\nstrict = true\nmypy_path = {ROOT}\nfollow_imports = silent\n")
    expect_only_the_wrong(check(folder, "mypy", "--hide-error-context", "--no-error-summary", "."))


def test_pyright_refuses_what_is_wrong(folder):
    (folder / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{ROOT}"], "typeCheckingMode": "standard"}}')
    (folder / f"wrong_{len(WRONG)}.py").write_text("from fastcnn import CNNClassifier\nCNNClassifier().predikt(0)\n")
    errors = check(folder, "pyright", "--pythonpath", sys.executable)
    expect_only_the_wrong(errors)
    assert f"wrong_{len(WRONG)}.py" in errors  # mypy does not see scikit-learn's classes, which have no types


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("from fastcnn import Con", {"Concat", "ConstantRate", "Conv2D", "Conv2DTranspose"}),
        ("from fastcnn import CNNClassifier\nCNNClassifier(max_", {"max_iter="}),
        ("from fastcnn import Conv2D\nConv2D(num", {"num_filters="}),
        ("import fastcnn\nfastcnn.mod", {"models"}),
        ("import fastcnn\nfastcnn.data.load_d", {"load_digits"}),
        ("import fastcnn\nfastcnn.models.len", {"lenet5"}),
    ],
)
def test_jedi_completes(line, offered):
    import jedi

    project = jedi.Project(ROOT)
    assert offered <= {one.name for one in jedi.Script(line, project=project).complete()}
