"""`python -m fastcnn`."""

import sys

from .cli.main import main

sys.exit(main())
