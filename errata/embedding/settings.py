"""What embedders are told besides their spec; only one that asks a server needs any of it.

Never part of a spec or of a fingerprint, which are stored, sent and logged.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

OPENAI_BASE_URL: Final = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderSettings:
    """See the module."""

    openai_base_url: str = OPENAI_BASE_URL
    """Without a slash at its end."""
    openai_api_key: str = field(default="", repr=False)
    """Empty for a server that wants none."""
    openai_api_key_file: Path | None = None
    """Holds the key, instead of `openai_api_key`."""

    def read_openai_key(self) -> str:
        """The key as it is now: a file is read each time, as a key that is changed must not need a restart.

        Raises:
            OSError: the file cannot be read.
            ValueError: what there is cannot be a key; the message does not repeat it.
        """
        if self.openai_api_key_file is None:
            key, source = self.openai_api_key.strip(), "ERRATA_OPENAI_API_KEY"
            if not key:
                return ""
        else:
            source = str(self.openai_api_key_file)
            key = self.openai_api_key_file.read_bytes().decode(errors="replace").strip()
        # Anything else could not stand in a header.
        if not (key and key.isascii() and key.isprintable() and " " not in key):
            raise ValueError(f"{source} holds no key, which is one word of ASCII")
        return key
