"""The catalogue: which images this server can run, with their metrics, channels and hyperparameters.

The server never imports an algorithm, which takes seconds and much memory. A child process prints the specifications of
all of them as JSON (`python -m sagesmith.algorithms`); the answer is kept in the data folder, one file per version, so
that a server that starts again need not wait for the child, which still runs and renews it.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sagesmith
from sagesmith.contract import write_private
from sagesmith.core.config import Config
from sagesmith.core.names import Image
from sagesmith.core.operation import ApiError, Context

Specification = dict[str, Any]  # Algorithm.specification()

COMMAND = (sys.executable, "-m", "sagesmith.algorithms")
PATIENCE = 60.0  # seconds that a request waits for the first answer of the child

log = logging.getLogger(__name__)


class Catalogue:
    """The specifications, found by the repository name of an image.

    Args:
        cache: the file that keeps them; None keeps them in memory alone.
        command: what prints them.
    """

    def __init__(self, cache: Path | None, command: Sequence[str] = COMMAND) -> None:
        self._cache = cache
        self._command = command
        self._by_image: Mapping[str, Specification] = {}
        self._ready = threading.Event()
        self._trouble = ""

    def install(self, specifications: Sequence[Specification]) -> None:
        """Makes these the algorithms that there are."""
        self._by_image = {image: entry for entry in specifications for image in entry["images"]}
        self._ready.set()

    def start(self) -> None:
        """Reads the cached answer, if there is one, and asks the child for a new one in the background."""
        cached = self._read_cache()
        if cached is not None:
            self.install(cached)
        threading.Thread(target=self._renew, name="catalogue", daemon=True).start()

    def find(self, repository: str, patience: float = PATIENCE) -> Specification | None:
        """The algorithm that an image of this repository holds, or None.

        Raises:
            ApiError: InternalFailure when the algorithms are not known, because the child failed or takes too long.
        """
        return self._known(patience).get(repository)

    def repositories(self, patience: float = PATIENCE) -> list[str]:
        """The repository names of all images that can run, sorted; raises as `find` does."""
        return sorted(self._known(patience))

    def _known(self, patience: float) -> Mapping[str, Specification]:
        if not self._ready.wait(patience):
            self._trouble = self._trouble or f"{' '.join(self._command)} has not answered within {patience:.0f} s"
        if self._trouble and not self._by_image:
            raise ApiError("InternalFailure", f"The list of algorithms is not available: {self._trouble}", 500)
        return self._by_image

    def _renew(self) -> None:
        try:
            done = subprocess.run(self._command, capture_output=True, check=True, text=True)
            specifications = _checked(done.stdout)
        except subprocess.CalledProcessError as error:
            self._fail(f"{' '.join(self._command)} ended with {error.returncode}: {error.stderr.strip()[-500:]}")
            return
        except (OSError, ValueError) as error:
            self._fail(f"{' '.join(self._command)}: {error}")
            return
        self._trouble = ""
        self.install(specifications)
        self._keep(done.stdout)

    def _keep(self, text: str) -> None:
        if self._cache is None:
            return
        try:
            write_private(self._cache, text)
        except OSError as error:  # only the next start will be slower
            log.warning("the list of algorithms could not be kept: %s: %s", self._cache, error)

    def _fail(self, trouble: str) -> None:
        log.error("the algorithms could not be listed: %s", trouble)
        self._trouble = trouble
        self._ready.set()

    def _read_cache(self) -> list[Specification] | None:
        if self._cache is None:
            return None
        try:
            return _checked(self._cache.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("the kept list of algorithms is not used: %s: %s", self._cache, error)
            return None


_CATALOGUES: dict[Path, Catalogue] = {}
_LOCK = threading.Lock()


def catalogue_of(config: Config) -> Catalogue:
    """The catalogue of the server with this configuration; the first call starts it and does not wait for it."""
    with _LOCK:
        found = _CATALOGUES.get(config.data)
        if found is None:
            found = Catalogue(config.data / f"algorithms-{sagesmith.__version__}.json")
            _CATALOGUES[config.data] = found
            found.start()
        return found


def install(config: Config, specifications: Sequence[Specification]) -> None:
    """Gives a server a catalogue without any child process: for tests, and for servers with no algorithms at all."""
    catalogue = Catalogue(None)
    catalogue.install(specifications)
    with _LOCK:
        _CATALOGUES[config.data] = catalogue


def algorithm_of(ctx: Context, image_uri: str) -> Specification | None:
    """The specification of the algorithm in a container image, or None for an image we do not know.

    Account, region and tag of the URI do not matter.

    Raises:
        ApiError: InternalFailure when the algorithms are not known.
    """
    return catalogue_of(ctx.world.config).find(Image.parse(image_uri).repository)


def repositories(ctx: Context) -> list[str]:
    """The repository names of all images that can run."""
    return catalogue_of(ctx.world.config).repositories()


def _checked(text: str) -> list[Specification]:
    """The list in the text; raises ValueError for anything else."""
    content = json.loads(text)
    if not isinstance(content, list) or not all(isinstance(entry, dict) and "images" in entry for entry in content):
        raise ValueError("expected a JSON list of algorithm specifications")
    return content
