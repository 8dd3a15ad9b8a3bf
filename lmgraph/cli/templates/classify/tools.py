"""Python that program.lmg calls. A value of an enum is its label, a text."""

DESKS = {"delivery": "shipping", "refund": "returns", "product": "sales", "account": "accounts"}


def desk_for(topic: str, mood: str) -> str:
    """The desk that takes a message."""
    return "care" if mood == "upset" else DESKS[topic]
