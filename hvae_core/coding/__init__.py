"""Real bits: images of a hierarchical VAE on disk and back, every layer's share of the file beside its rate.

::

    stack.py        bits on which numbers are put, and from which they are taken
    symbols.py      latents and pixels as whole numbers, and their distributions
    bitsback.py     images onto the stack and back, layer by layer
    files.py        codes as files; images that are read and written one after the other
    lossy.py        images as streams of bits, one a layer, each with a dial
    compressors.py  what general compressors make of the same images
"""

from hvae_core.coding.bitsback import Account, Code, decode, encode
from hvae_core.coding.lossy import Streams, decode_lossy, encode_lossy
from hvae_core.coding.symbols import Grid

__all__ = ["Account", "Code", "Grid", "Streams", "decode", "decode_lossy", "encode", "encode_lossy"]
