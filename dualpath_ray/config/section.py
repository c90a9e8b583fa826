"""What all parts of a configuration file have in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Keys and values of a file: no others, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
