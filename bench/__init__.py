"""The benches. Each checks first that all sides compute the same, then warms up, then times them in one run.

======================================  =====================================================================
``python -m bench.steps [net ...]``     whole training steps against PyTorch and JAX, and the share of the peak
``python -m bench.random_networks``     the same for networks that nobody tuned for, and where our time goes
``python -m bench.predict [case ...]``  prediction against PyTorch and onnxruntime
``python -m bench.notebook_step``       the notebook's training step against ``reference``
``python -m bench.kernels``             single convolutions by shape and direction, and the share of the peak
``python -m bench.winograd_training``   whether Winograd's rounding changes what a network learns
``python -m bench.scaling [net ...]``   a step on 1 to 128 workers, scheduled from the times of its tasks
``python -m bench.memory``              peak resident memory of a training step, each side in its own process
``python -m bench.startup``             import, compilation and loading: cold, warm and steady
``python -m bench.elementwise``         elementwise layers, poolings and optimizers as a share of a memory copy
``python -m bench.peak``                what the processor can do: FMA peak and memory copy
``pytest bench``                        single layers with pytest-benchmark
======================================  =====================================================================

PyTorch, JAX and onnxruntime (with onnx) take part where they are installed. Absolute times are this machine's at this
hour; ratios last.
"""
