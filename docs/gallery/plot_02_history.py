"""
Curves of a training
====================

`Trainer.fit` returns a `History`: a table to print, columns to plot, and a dictionary for a data frame.
"""

import matplotlib.pyplot as plt

from fastcnn import SGD, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer
from fastcnn.data import hold_out, load_digits

X_train, X_test, y_train, y_test = hold_out(*load_digits())
model = Sequential([Conv2D(16, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
trainer = Trainer(model, optimizer=SGD(0.05, momentum=0.9), schedule="one_cycle", random_state=0)
history = trainer.fit(X_train, y_train, epochs=10, batch_size=32, X_val=X_test, y_val=y_test, verbose=0)
print(history)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
for axis, name in ((left, "loss"), (right, "accuracy")):
    axis.plot(history["epoch"], history[name], label="training")
    axis.plot(history["epoch"], history[f"val_{name}"], label="held out")
    axis.set(xlabel="epoch", ylabel=name)
    axis.legend()
