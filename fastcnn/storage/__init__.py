"""The model file: tensors and their description in the safetensors layout, written whole and read with suspicion."""
