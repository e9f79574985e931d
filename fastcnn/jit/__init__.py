"""From a kernel's source to machine code of this processor: target, compiler, cache on disk, loading."""
