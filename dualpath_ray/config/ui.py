"""The live page that a running system serves."""

from typing import Annotated

from pydantic import Field

from dualpath_ray.config.section import Section

Port = Annotated[int, Field(ge=0, le=65_535)]


class UiConfig(Section):
    """The page that `dualpath up` and `dualpath rollout` start with the system, on the head node."""

    port: Port | None = Field(None, description="Port of the live page; 0: a free one. Unset: the system serves none.")
    host: str = Field(
        "127.0.0.1", description="Address that it listens on. Any but this machine's own asks for a token."
    )
    runs: str = Field("runs", description="Directory of results on the head node, whose runs the page compares.")
