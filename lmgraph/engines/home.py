"""Where lmgraph keeps what it downloads: one folder, `$LMGRAPH_HOME` or the platform's cache folder.

This module knows no engine and no model; it only names folders and creates none.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

HOME_VARIABLE = "LMGRAPH_HOME"


def lmgraph_home() -> Path:
    """The folder lmgraph owns: `$LMGRAPH_HOME`, else the platform's cache folder for lmgraph."""
    chosen = os.environ.get(HOME_VARIABLE, "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(platformdirs.user_cache_dir("lmgraph", appauthor=False))


def models_folder() -> Path:
    """The folder with one subfolder a pulled model."""
    return lmgraph_home() / "models"
