"""The operators of ONNX that have a layer: a file for each kind, and the table of all of them."""
