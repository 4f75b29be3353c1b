"""`python -m deploy.render`: write what `files` makes; what is there and not made goes."""

from __future__ import annotations

import shutil

from deploy.render.files import CHART, ROOT, files

shutil.rmtree(ROOT / CHART, ignore_errors=True)
for name, text in files().items():
    path = ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(name)
