"""What people see: the shell, one page per technique and the pieces they share.

Importing this package settles the environment, the same for `python app.py` and `python -m apps.<page>`.
"""

import os

# Read by OpenMP when torch loads: idle workers sleep instead of spinning, or two cores fight each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
