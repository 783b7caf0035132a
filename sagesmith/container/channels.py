"""inputdataconfig.json against what the algorithm declares, and the channels opened in their modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagesmith.algorithms.base import Algorithm, ChannelSpec
from sagesmith.container.configuration import read
from sagesmith.container.failures import JobError
from sagesmith.contract import JobFolder
from sagesmith.formats.channel import Channel

MODEL = "model"  # the channel of incremental training: an earlier model.tar.gz, or its files
CODE = "code"  # the channel of a framework image's script


def open_channels(algorithm: type[Algorithm], folder: JobFolder) -> dict[str, Channel]:
    """The data channels of the job by name, checked against the algorithm's declarations.

    Raises:
        JobError: a channel that is missing, unknown, or of a content type, mode or distribution that is not taken.
    """
    given = read(folder.input_data_config, folder)
    check_names(algorithm, given)
    opened = {}
    for spec in algorithm.channels:
        if spec.name in given and spec.name not in (MODEL, CODE):
            opened[spec.name] = _open(spec, _content_type(algorithm, spec, given), given[spec.name], folder)
    return opened


def check_names(algorithm: type[Algorithm], given: Mapping[str, Any]) -> None:
    """Every required channel is there, and no channel that nobody reads.

    Raises:
        JobError: in the words of SageMaker's own images.
    """
    known = {spec.name for spec in algorithm.channels}
    known |= {MODEL} if algorithm.incremental else set()
    known |= {CODE} if algorithm.framework else set()
    for name, configuration in given.items():
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise JobError(f"Extraneous channel found: {name} (channels of {algorithm.name}: {allowed})")
        if not isinstance(configuration, dict):
            raise JobError(f"The configuration of channel {name} must be a JSON object, found {configuration!r:.100}")
    for spec in algorithm.channels:
        if spec.required and spec.name not in given:
            raise JobError(f"Missing required channel: {spec.name}")


def _content_type(algorithm: type[Algorithm], spec: ChannelSpec, given: Mapping[str, Any]) -> str:
    own = str(given[spec.name].get("ContentType") or "")
    if not own and algorithm.framework:  # XGBoost reads every channel with the training channel's type
        own = str(given.get("train", {}).get("ContentType") or "")
    return own or spec.default


def _open(spec: ChannelSpec, content_type: str, configuration: Mapping[str, Any], folder: JobFolder) -> Channel:
    mode = str(configuration.get("TrainingInputMode") or "File")
    distribution = str(configuration.get("S3DistributionType") or "FullyReplicated")
    _check_content_type(spec, content_type)
    _check_one_of(spec, "TrainingInputMode", mode, spec.modes)
    _check_one_of(spec, "S3DistributionType", distribution, spec.distributions)
    wrapper = str(configuration.get("RecordWrapperType") or "None")
    _check_one_of(spec, "RecordWrapperType", wrapper, ("None", "RecordIO"))
    path = folder.channel(spec.name)
    if mode == "Pipe":
        return Channel.from_pipe(spec.name, path, content_type, label_size=spec.label_size, record_wrapper=wrapper)
    _check_one_of(spec, f"RecordWrapperType in input mode {mode}", wrapper, ("None",))  # only pipes get frames
    if not path.is_dir():
        raise JobError(f"Channel {spec.name} has no folder {path}")
    return Channel.from_folder(spec.name, path, content_type, label_size=spec.label_size)


def _check_content_type(spec: ChannelSpec, content_type: str) -> None:
    media_type = content_type.split(";", 1)[0].strip().lower()
    if spec.content_types and content_type not in spec.content_types and media_type not in spec.content_types:
        _check_one_of(spec, "ContentType", content_type, spec.content_types)


def _check_one_of(spec: ChannelSpec, what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise JobError(
            f"Channel configuration for '{spec.name}' channel is not supported: {what} {value!r}; "
            f"allowed: {', '.join(allowed)}"
        )
