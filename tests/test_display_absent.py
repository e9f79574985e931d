"""Where matplotlib is not installed, an error says what to install, and the rest of the package works."""

from __future__ import annotations

from tests.processes import run_python

WITHOUT = "import sys; sys.modules['matplotlib'] = sys.modules['matplotlib.pyplot'] = None\n"


def test_an_error_says_what_to_install():
    code = (
        "import numpy, fastcnn\n"
        "from fastcnn.display import FiltersDisplay, TrainingCurveDisplay\n"
        "model = fastcnn.Sequential([fastcnn.Conv2D(2, 3), fastcnn.Flatten(), fastcnn.Dense(2)])\n"
        "history = fastcnn.Trainer(model, random_state=0).fit(\n"
        "    numpy.ones((4, 1, 5, 5), 'f'), [0, 1, 0, 1], epochs=1, batch_size=4, verbose=0)\n"
        "for draw in (history.plot, lambda: FiltersDisplay.from_estimator(model)):\n"
        "    try:\n"
        "        draw()\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    first, second = run_python(WITHOUT + code).splitlines()
    assert first == (
        "TrainingCurveDisplay needs matplotlib, which is not installed: pip install matplotlib, "
        "or pip install 'fastcnn[plot]'"
    )
    assert second.startswith("FiltersDisplay needs matplotlib")
