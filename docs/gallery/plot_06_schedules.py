"""
Learning rates over the steps
=============================

A schedule is a function of the step. `Trainer(..., schedule=...)` asks it before each one; any function will do.
"""

import matplotlib.pyplot as plt

from fastcnn import CosineDecay, ExponentialDecay, OneCycle, StepDecay, WarmUp

steps = range(100)
schedules = {
    "OneCycle(0.1, 100)": OneCycle(0.1, 100),
    "CosineDecay(0.1, 100)": CosineDecay(0.1, 100),
    "WarmUp(CosineDecay(0.1, 90), 10)": WarmUp(CosineDecay(0.1, 90), 10),
    "StepDecay(0.1, 30)": StepDecay(0.1, 30),
    "ExponentialDecay(0.1, 0.97)": ExponentialDecay(0.1, 0.97),
    "a function": lambda step: 0.05 if step < 80 else 0.005,
}
figure, axis = plt.subplots(figsize=(8, 4))
for name, schedule in schedules.items():
    axis.plot(steps, [schedule(step) for step in steps], label=name)
axis.set(xlabel="step", ylabel="learning rate")
axis.legend()
