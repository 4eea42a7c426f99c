"""kdlab train: teach a student.

    kdlab train experiment=quickstart
    kdlab train teacher=gpt2_xl student=gpt2 loss=reverse_kl dataset=dolly
    kdlab train -m experiment=smoke loss=forward_kl,reverse_kl seed=0,1

Everything is checked before anything is loaded: of a sweep, every job before the first starts.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

from kdlab.commands.failures import complain
from kdlab.commands.flags import train_flags
from kdlab.config import ConfigError


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    try:
        flags = train_flags(argv)
        if flags.help:
            from kdlab.commands.train_help import help_text

            print(help_text(flags.config_dir))
            return 0
        from kdlab.commands.train_jobs import start

        return start(flags)
    except ConfigError as error:
        if os.environ.get("KDLAB_DEBUG"):
            return complain(error, status=2)
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command continues: {shlex.join(['kdlab', 'train', *argv])}", file=sys.stderr)
        return 130
    except Exception as error:  # the last door: whatever happened is said in one line
        return complain(error)
