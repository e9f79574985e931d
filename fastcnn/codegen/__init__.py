"""What kernels are written in: vector types, the micro-kernel, Winograd transforms, gathers of scattered numbers."""
