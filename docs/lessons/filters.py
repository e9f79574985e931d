# %% [markdown]
# # What a filter sees
#
# A filter answers where the image looks like it. This lesson trains a small network on handwritten digits and looks at its
# filters, at what they make of a digit, and at the pixels that a decision depends on.

# %%
import numpy as np

from fastcnn import CNNClassifier, Conv2D, Dense, Flatten, MaxPool2D, ReLU
from fastcnn.data import hold_out, load_digits
from fastcnn.display import FeatureMapsDisplay, FiltersDisplay, MistakesDisplay, SaliencyDisplay
from fastcnn.inspection import dead_units, worst_mistakes

X, X_test, y, y_test = hold_out(*load_digits())
layers = [Conv2D(8, 3, padding=1), ReLU(), MaxPool2D(2), Conv2D(16, 3, padding=1), ReLU(), Flatten(), Dense(10)]
classifier = CNNClassifier(layers, max_iter=10, random_state=0).fit(X, y)
print(f"right: {classifier.score(X_test, y_test):.2%} of digits that it has not seen")

# %% [markdown]
# The eight filters of the first layer. Red counts for, blue against: some are edges, dark on one side and light on the
# other.

# %%
FiltersDisplay.from_estimator(classifier)
# %% [markdown]
# What they make of one digit, behind the ReLU. Bright is where the image looks like the filter.

# %%
FeatureMapsDisplay.from_estimator(classifier, X_test[:1], layer=1)
# %% [markdown]
# Which pixels speak for the class, by the gradient of its score, averaged over noisy copies (SmoothGrad): red pixels for,
# blue ones against.

# %%
SaliencyDisplay.from_estimator(classifier, X_test[:6], method="smooth_grad", random_state=0)
# %% [markdown]
# The mistakes, the surest first. Would you have read them?

# %%
MistakesDisplay.from_estimator(classifier, X_test, y_test, count=6)
print(worst_mistakes(classifier, X_test, y_test, count=6).indices)

# %% [markdown]
# A filter whose ReLU passes nothing of any image is dead: no gradient reaches it, so that it never learns again.

# %%
{place: int(np.count_nonzero(dead)) for place, dead in dead_units(classifier, X).items()}
