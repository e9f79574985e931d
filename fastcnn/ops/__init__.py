"""Operations: what layers are lowered to, forward beside backward, each with its tables of offsets."""
