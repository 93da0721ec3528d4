"""One module per DVC stage: parse, call, write. `dvc.yaml` says what each reads and writes."""

import sys
from pathlib import Path

# A stage runs the sources of its own checkout, also where the package was installed from another one
# (a second clone, `dvc exp run --temp`).
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
