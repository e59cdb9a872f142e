"""What all tests share: processes that they start can be interrupted, also where a shell that runs the tests in the
background (`nohup`, `&`) had Ctrl-C and a closed terminal ignored, which children inherit. These tests ignore them too.
"""

from __future__ import annotations

import signal

for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)  # unlike SIG_IGN it ends with the exec of a child
