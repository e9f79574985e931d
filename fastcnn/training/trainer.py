"""`Trainer`: a model, a loss and an optimizer, the steps that they take on batches, and epochs of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .stepper import Stepper

if TYPE_CHECKING:
    from ..data.augmentation import Augmentation
    from ..history import History
    from .callbacks import Callback
    from .loop import Evaluation


class Trainer(Stepper):
    """Trains a model step by step.

    Parameters
    ----------
    model : Sequential
        Built already, or built by the first step from the batch's shape.
    loss : str or Loss
        "cross_entropy", "binary_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber", or a loss with
        arguments of its own.
    optimizer : str or Optimizer, optional
        "adam", "adamw", "lion", "muon", "rmsprop" or "sgd", each with its usual arguments, or one with arguments of its
        own.
        `SGD(learning_rate=0.01)` if not given.
    threads : int, optional
        The most threads of a step; `fastcnn.get_num_threads()` if not given. The bits are the same for any number.
    random_state : None, int, RandomState or Generator
        For the parameters of a model that is not built yet, then for the order and the augmentation of `fit`.
    schedule : str, Schedule or function, optional
        "constant", "cosine" or "one_cycle": of the optimizer's learning rate, over the steps of each `fit`. Or a
        function: at the beginning of each step, `optimizer.learning_rate = schedule(steps)`, with the steps taken
        before it.
    ema : ExponentialMovingAverage or Lookahead, optional
        Averages the parameters: updated after each step.
    communicator : mpi4py.MPI.Comm, optional
        The processes that share out each batch; all have the same model, data and seed. The bits are those of one.

    Attributes
    ----------
    accuracy : float
        Share of the last batch that the model had right before the step (sample weights do not count); of answers in
        multi-label classification, of the pixels that are not ignored in segmentation; NaN in regression.
    steps : int
        How many steps were taken; a part of the seed of each step's random numbers, and what a schedule goes by.
    epochs : int
        How many epochs `fit` has trained, in all its calls: each has an order of its own.
    history : History or None
        Of the last `fit`, also if it ended with an exception.

    See Also
    --------
    CNNClassifier : Classifier with the interface of scikit-learn.
    Sequential : Layers in a row.
    Callback : What happens at the moments of a fit.

    Notes
    -----
    Several Python threads may use one trainer, or trainers of one model: steps are taken one at a time. An exception at
    any moment, such as a KeyboardInterrupt, leaves the last step taken as a whole, or not at all; `steps` tells which.

    A step trains all parameters but those that are frozen (`trainable=False`), and all layers compute as in training,
    whatever `model.training` says. `step` and `evaluate` leave that as it is; `fit` leaves the model in prediction
    mode, so that its `forward` is `predict` and changes nothing. To train only the last layers, as in transfer
    learning, freeze the others; or let a model of the first ones predict their input once, and train a model of the
    others on that.

    All arguments are attributes that may be set between steps; the next step takes them in. Another `random_state` is
    that of the next `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import SGD, Dense, Flatten, Sequential, Trainer
    >>> from fastcnn.data import hold_out, load_digits
    >>> X_train, X_test, y_train, y_test = hold_out(*load_digits())
    >>> model = Sequential([Flatten(), Dense(32), Dense(10)])
    >>> trainer = Trainer(model, optimizer=SGD(0.05, momentum=0.9), random_state=0)
    >>> history = trainer.fit(X_train, y_train, epochs=5, batch_size=32, verbose=0)
    >>> trainer.evaluate(X_test, y_test).accuracy > 0.9
    True
    """

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        epochs: int,
        batch_size: int | Mapping[int, int] | None = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight: Any = None,
        augmentation: Augmentation | None = None,
        callbacks: Sequence[Callback] = (),
        verbose: int = 1,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int | str | None = None,
        drop_last: bool = False,
        resolution: int | tuple[int, int] | Mapping[int, int | tuple[int, int]] | None = None,
    ) -> History:
        """Train for some epochs.

        Parameters
        ----------
        X : array of shape (N, C, H, W) or (N, D), or iterable of batches
            A memory map is read batch by batch; uint8 is scaled to [0, 1] batch by batch. Without `y`: anything that
            yields the batches of an epoch, (x, y) or (x, y, weight), each time it is iterated.
        y : array of length N
            As `step` takes it.
        epochs : int
            How often all samples are trained on.
        batch_size : int, or dict of int to int
            The last batch of an epoch may be smaller. A dict says from which epoch of this fit on, counted from 0:
            `{0: 64, 5: 256}`.
        X_val, y_val : array, or X_val alone an iterable of batches
            Measured after every epoch; they choose nothing, unless a callback does.
        sample_weight : array of shape (N,), optional
            The weight of each sample in the loss.
        augmentation : Augmentation, optional
            Changes the images on the way in, anew in each epoch.
        callbacks : sequence of Callback
            Called at the moments of the fit, in this order.
        verbose : int
            0 for silence; else a line an epoch, and on a terminal a progress bar.
        checkpoint : path, optional
            A file for the state of the fit. Where it is there already, the same call goes on from it: a fit that was
            ended by anything, a power cut too, and is called again ends with the bits of one that was not.
        checkpoint_every : int or str, optional
            Epochs from file to file; or seconds, also within an epoch: `"30 s"`. Not given: as often as takes at most
            a hundredth of the time, and when the fit ends.
        drop_last : bool
            Whether the samples of an epoch that fill no batch are left out: other ones in each epoch.
        resolution : int, (int, int), or dict of int to these, optional
            Height and width that the images are brought to before a step, behind augmentation, those of validation too;
            one number for both. `{0: 16, 6: 32}` trains the first six epochs on images of 16 x 16 pixels (progressive
            resizing). The model takes the size of the last epoch then, see `Sequential.resize`.

        Returns
        -------
        History
            Loss, accuracy, validation, learning rate and speed of each epoch.

        Raises
        ------
        ValueError
            If the data hold NaN or infinity: before the first step, or in batches of one's own, before that batch's. If
            the model's weights depend on the size of the images, and there is a `resolution`.
        FloatingPointError
            If the loss or a weight is not finite after a step; the weights are those from before it.
        StorageError
            A ValueError: the checkpoint is damaged. If it is of another run (other data, model, settings or seed), a
            ValueError tells what differs.

        Notes
        -----
        A checkpoint of a fit that has ended ends the same call at once, with the history and the weights; more `epochs`
        go on from it. `fastcnn.load` reads it as a trainer. Data is recognised by its digest, beyond 256 MiB by that of
        evenly spaced samples; batches of one's own that are no list are not looked at. A callback that remembers
        something says so by `get_state` and `set_state`.

        Each epoch has an order of its own, which depends on `random_state` and the number of the epoch alone. The same
        seed gives the same bits, for any number of threads, from arrays or a memory map.

        Ctrl-C ends the fit after the current step, with the history and the weights so far; a second one interrupts at
        once. The trainer can go on after whatever ended a fit: a step is taken as a whole or not at all.
        """
        from .loop import fit

        return fit(
            self, X, y, epochs=epochs, batch_size=batch_size, X_val=X_val, y_val=y_val, sample_weight=sample_weight,
            augmentation=augmentation, callbacks=callbacks, verbose=verbose, checkpoint=checkpoint,
            checkpoint_every=checkpoint_every, drop_last=drop_last, resolution=resolution,
        )  # fmt: skip

    def evaluate(
        self, X: Any, y: Any = None, *, batch_size: int | None = None, sample_weight: Any = None
    ) -> Evaluation:
        """Return mean loss and accuracy of the model, as it predicts, on arrays or an iterable of batches.

        Parameters
        ----------
        X : array, or iterable of batches
            As `fit` takes it.
        y : array of length N, optional
            As `fit` takes it.
        batch_size : int, optional
            The most images that are in memory as feature maps.
        sample_weight : array of shape (N,), optional
            The weight of each sample in both means.
        """
        from .loop import evaluate

        return evaluate(self, X, y, batch_size=batch_size, sample_weight=sample_weight)
