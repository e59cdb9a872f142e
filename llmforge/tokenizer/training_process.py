"""A child process in which sentencepiece learns; run as a script, it loads sentencepiece and nothing of ours.

In: a line of JSON (the trainer's options), then one chunk of text a line. Out: `M` and the model's bytes, or `E` and
what sentencepiece complains of. Its log goes to stderr. Apart, because the trainer holds Python's lock for as long as
it works: in our own process nothing could show its progress, and no Ctrl-C would be heard.
"""

from __future__ import annotations

import io
import json
import sys


def main() -> None:
    """Learns one model."""
    from sentencepiece import SentencePieceTrainer

    options = json.loads(sys.stdin.buffer.readline())
    model = io.BytesIO()
    try:
        sentences = (line[:-1].decode("utf-8") for line in sys.stdin.buffer)
        SentencePieceTrainer.train(sentence_iterator=sentences, model_writer=model, minloglevel=0, **options)
    except (RuntimeError, OSError, StopIteration) as error:
        sys.stdout.buffer.write(b"E" + str(error).encode())
    else:
        sys.stdout.buffer.write(b"M" + model.getvalue())


if __name__ == "__main__":
    main()
