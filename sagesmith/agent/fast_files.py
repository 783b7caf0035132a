"""FastFile: the objects' own files as a channel's files, linked instead of copied, where both are on one file system.

Links keep the versions that were listed. So that no job can change an object through them, the job sees the channel
read-only, in a mount namespace of its own. Where the host allows no namespace, links are laid for algorithms, which
never write to their input, but not for code of the user's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sagesmith.agent import namespace
from sagesmith.agent.channels import Channel, Source
from sagesmith.agent.failures import Stopped
from sagesmith.contract import AgentPaper
from sagesmith.store.object_links import NoLink, link_object

PROGRAM = "sagemaker_program"  # the hyperparameter that names a script of the user's


class FastFiles:
    """The FastFile channels of one job.

    Attributes:
        read_only: the folders that the job must not be able to write to.
    """

    def __init__(self, paper: AgentPaper, say: Callable[[str], None], stopping: Callable[[], bool]) -> None:
        self._paper = paper
        self._say = say
        self._stopping = stopping
        self.read_only: list[Path] = []

    def lay(self, channel: Channel, found: list[Source], into: Path, checkpoints: Path | None) -> list[Source]:
        """Links what it can below a folder, and returns what has to be copied; the job's log tells.

        Raises:
            Stopped: the agent was asked to stop meanwhile.
        """
        into.mkdir(parents=True, exist_ok=True)
        obstacle = self._obstacle(into, checkpoints)
        if obstacle:
            self._say(f"Channel '{channel.name}': FastFile: its files are copied before training: {obstacle}.")
            return found
        reasons: Counter[str] = Counter()
        rest = []
        for source in found:
            if self._stopping():
                raise Stopped
            if reason := self._link(source, into):
                reasons[reason] += 1
                rest.append(source)
        copied = f"; {len(rest)} copied ({reasons.most_common(1)[0][0]})" if rest else ""
        self._say(f"Channel '{channel.name}': FastFile: {len(found) - len(rest)} files linked, not copied{copied}.")
        return rest

    def _obstacle(self, into: Path, checkpoints: Path | None) -> str:
        """Why no file may be linked, or ""."""
        objects = self._paper.get("objects")
        if objects is None:
            return "the objects are not files of this host"
        if not Path(objects).is_dir():
            return f"the objects' folder {objects} is not on this host"
        if checkpoints is not None and checkpoints.resolve().is_relative_to(into.resolve()):
            return "CheckpointConfig.LocalPath lies in the channel"
        obstacle = namespace.obstacle([into])
        if not obstacle:
            self.read_only.append(into)
        elif self._paper.get("own_entrypoint") or PROGRAM in self._paper.get("hyperparameters", {}):
            return f"a script could write to the objects, as {obstacle}"
        return ""

    def _link(self, source: Source, into: Path) -> str:
        path = source.below(into)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            uri = source.uri
            link_object(Path(self._paper["objects"]), uri.bucket, uri.key, source.etag, source.size, path)
        except NoLink as error:
            return str(error)
        return ""
