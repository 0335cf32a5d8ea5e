"""ECDSA signatures (P-256, SHA-256) checked by the OpenSSL of the machine: the library, else the program.

No package is needed: the library is the one that Python's own `hashlib` uses, or another of the system's.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import ctypes.util
import hashlib
import os
import re
import subprocess
import tempfile
from functools import lru_cache
from typing import Any, Iterator

from .errors import BundleRefused, CannotRun

# SubjectPublicKeyInfo of an uncompressed point on P-256 (RFC 5480): this, then 64 bytes.
_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_PEM = re.compile(r"\s*-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+?)\s+-----END PUBLIC KEY-----\s*\Z")
_MOST_SIGNATURE = 80
_NAMES = ("libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so")


def key_bytes(pem: str) -> bytes:
    """A public key's DER bytes.

    Raises:
        BundleRefused: it is no public key on P-256 in PEM.
    """
    found = _PEM.match(pem)
    try:
        der = base64.b64decode("".join(found.group(1).split()), validate=True) if found else b""
    except (binascii.Error, ValueError):
        der = b""
    if not (der.startswith(_PREFIX) and len(der) == len(_PREFIX) + 64):
        raise BundleRefused(
            "this is no public key of ECDSA on P-256 in PEM", "figkd-pipeline key new makes one"
        )
    return der


def key_pem(der: bytes) -> str:
    """The PEM text of a key, always the same."""
    text = base64.b64encode(der).decode("ascii")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


def key_id(der: bytes) -> str:
    """A key's id: SHA-256 (hex) of its DER bytes."""
    return hashlib.sha256(der).hexdigest()


def signed(der: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the owner of a key signed a message.

    Args:
        der: of the public key, as `key_bytes` gives it.
        signature: ECDSA's two numbers in DER.
        message: what was signed; its SHA-256 is taken here.

    Raises:
        CannotRun: there is no OpenSSL here.
    """
    if not 8 <= len(signature) <= _MOST_SIGNATURE:
        return False
    library = _library()
    if library is None:
        return by_program(der, signature, message)
    return by_library(library, der, signature, message)


def by_program(der: bytes, signature: bytes, message: bytes) -> bool:
    """The same by `openssl dgst`, where no library can be loaded."""
    with tempfile.TemporaryDirectory(prefix="figkd-verify-") as folder:
        paths = []
        for name, data in (("key", key_pem(der).encode()), ("signature", signature), ("message", message)):
            paths.append(os.path.join(folder, name))
            with open(paths[-1], "wb") as file:
                file.write(data)
        words = ["openssl", "dgst", "-sha256", "-verify", paths[0], "-signature", paths[1], paths[2]]
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired):
            raise CannotRun(
                "there is no OpenSSL here to check signatures with", "install openssl, or libssl3"
            ) from None
    return done.returncode == 0 and done.stdout.strip() == b"Verified OK"


@lru_cache(maxsize=None)
def _library() -> Any:
    """libcrypto, if one can be loaded that has what is needed (OpenSSL 1.1.1 or newer); else None."""
    for name in _names():
        try:
            library = ctypes.CDLL(name)
            for function, (result, arguments) in _FUNCTIONS.items():
                found = getattr(library, function)
                found.restype, found.argtypes = result, arguments
        except (OSError, AttributeError):
            continue
        return library
    return None


def _names() -> Iterator[str]:
    try:
        import _hashlib

        yield str(getattr(_hashlib, "__file__", "") or _NAMES[0])
    except ImportError:
        pass
    yield from _NAMES
    if found := ctypes.util.find_library("crypto"):  # last: it may start other programs
        yield found


_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_FUNCTIONS = {
    "d2i_PUBKEY": (_POINTER, [_POINTER, ctypes.POINTER(ctypes.c_char_p), ctypes.c_long]),
    "EVP_PKEY_free": (None, [_POINTER]),
    "EVP_MD_CTX_new": (_POINTER, []),
    "EVP_MD_CTX_free": (None, [_POINTER]),
    "EVP_sha256": (_POINTER, []),
    "EVP_DigestVerifyInit": (_INT, [_POINTER, _POINTER, _POINTER, _POINTER, _POINTER]),
    "EVP_DigestVerify": (_INT, [_POINTER, ctypes.c_char_p, _SIZE, ctypes.c_char_p, _SIZE]),
    "ERR_clear_error": (None, []),
}


def by_library(library: Any, der: bytes, signature: bytes, message: bytes) -> bool:
    """The same by a library whose functions are declared."""
    place = ctypes.c_char_p(der)
    key = library.d2i_PUBKEY(None, ctypes.byref(place), len(der))
    context = library.EVP_MD_CTX_new()
    try:
        if not key or not context:
            return False
        if library.EVP_DigestVerifyInit(context, None, library.EVP_sha256(), None, key) != 1:
            return False
        # 1 is yes; 0 is no; what is below is an error, such as a signature that is no DER.
        return bool(library.EVP_DigestVerify(context, signature, len(signature), message, len(message)) == 1)
    finally:
        library.EVP_MD_CTX_free(context)
        library.EVP_PKEY_free(key)
        library.ERR_clear_error()
