"""`python -m fastcnn`."""

import sys

from .cli import main

sys.exit(main())
