"""The text around a turn, in ChatML: the template of SmolLM2 and Qwen.

The parts are encoded one by one, so that a turn can be cut to an exact number of tokens between its opening and its
closing. To a model with another template they are a little plain text.
"""

END = "<|im_end|>"


def opening(role: str) -> str:
    """What stands before a message of this role."""
    return f"<|im_start|>{role}\n"


def message(role: str, content: str) -> str:
    """One whole message with the newline after it."""
    return f"{opening(role)}{content}{END}\n"


CLOSING = f"{END}\n{opening('assistant')}"  # ends what is appended: the model's answer comes next
